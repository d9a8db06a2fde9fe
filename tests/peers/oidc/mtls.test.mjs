// tls_client_auth (RFC 8705) against a certified authorization server that asks for a certificate.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import path from 'node:path';
import { test } from 'node:test';

import { Provider } from 'oidc-provider';

import { command, freePort, startBursar, until, workDirectory, writePrivate } from './bursar.mjs';
import { startResourceServer } from './resource-server.mjs';

function openssl(...words) {
  const { status, stderr } = spawnSync('openssl', words, { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
}

/** A certificate authority in files, and what it issues. */
function authority(directory, name = 'ca') {
  const file = (suffix) => path.join(directory, `${name}.${suffix}`);
  openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '90',
    '-subj', `/CN=${name}`, '-keyout', file('key'), '-out', file('crt'));
  return {
    file: file('crt'),
    certificate: readFileSync(file('crt')),
    issue(subject, extension, { traditional = false } = {}) {
      const own = (suffix) => path.join(directory, `${name}-${subject}.${suffix}`);
      openssl('req', '-newkey', 'rsa:2048', '-nodes', '-subj', `/O=Campus/CN=${subject}`, '-keyout', own('key'), '-out', own('csr'));
      writeFileSync(own('ext'), extension);
      openssl('x509', '-req', '-in', own('csr'), '-CA', file('crt'), '-CAkey', file('key'), '-CAcreateserial', '-days', '90',
        '-extfile', own('ext'), '-out', own('crt'));
      // openssl writes PKCS#8; the older form is PKCS#1.
      if (traditional) openssl('rsa', '-in', own('key'), '-traditional', '-out', own('key'));
      writePrivate(own('key'), readFileSync(own('key')));
      spawnSync('chmod', ['600', own('key')]);
      return { certificate: own('crt'), key: own('key') };
    },
  };
}

/** An authorization server that knows its client by the subject of its certificate. */
async function startServer(t, ca, clients, trust = ca.certificate) {
  const identity = ca.issue('localhost', 'subjectAltName=DNS:localhost');
  const server = https.createServer({
    key: readFileSync(identity.key), cert: readFileSync(identity.certificate), ca: trust, requestCert: true, rejectUnauthorized: false,
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => { server.closeAllConnections(); server.close(); });
  const issuer = `https://localhost:${server.address().port}`;
  const peers = [];
  const forms = [];
  const provider = new Provider(issuer, {
    clients: clients.map((client) => ({ grant_types: ['client_credentials'], redirect_uris: [], response_types: [], ...client })),
    scopes: ['api:read'],
    clientAuthMethods: ['tls_client_auth', 'self_signed_tls_client_auth', 'client_secret_basic'],
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      introspection: { enabled: true, allowedPolicy: () => true },
      mTLS: {
        enabled: true,
        tlsClientAuth: true,
        selfSignedTlsClientAuth: true,
        getCertificate(context) {
          const raw = context.socket.getPeerCertificate(true)?.raw;
          return raw && new X509Certificate(raw);
        },
        certificateAuthorized: (context) => context.socket.authorized,
        certificateSubjectMatches(context, property, expected) {
          const { subject } = context.socket.getPeerCertificate();
          return property === 'tls_client_auth_subject_dn' && expected === `CN=${subject.CN},O=${subject.O}`;
        },
      },
    },
  });
  provider.use(async (context, next) => {
    await next();
    if (context.path === '/token') {
      peers.push(context.socket.getPeerCertificate().subject?.CN);
      forms.push({ ...context.oidc?.params });
    }
  });
  const errors = [];
  provider.on('grant.error', (_context, error) => errors.push(`${error.error}: ${error.error_detail ?? error.error_description ?? ''}`));
  server.on('request', provider.callback());
  return {
    tokenUrl: `${issuer}/token`,
    peers,
    forms,
    errors,
    async introspect(token) {
      const found = await provider.ClientCredentials.find(token);
      return found ? { active: true, scope: found.scope, client_id: found.clientId } : { active: false };
    },
  };
}

function configuration(where, credential, resourceServer) {
  return `
[server]
listen = "127.0.0.1:${where.proxy}"
[admin]
listen = "127.0.0.1:${where.admin}"
control = "127.0.0.1:${where.control}"
[log]
level = "debug"
[credentials.app]
${credential}
[upstreams.api]
base_url = "${resourceServer.origin}"
credential = "app"
scopes = ["api:read"]
[[upstreams.api.routes]]
name = "read"
methods = ["GET"]
path = "/read/{*rest}"
scopes = ["api:read"]
`;
}

async function setup(t, server, ca, method, identity) {
  const directory = workDirectory(t);
  const resourceServer = await startResourceServer(server);
  t.after(() => resourceServer.stop());
  const where = { proxy: await freePort(), admin: await freePort(), control: await freePort() };
  const file = path.join(directory, 'bursar.toml');
  writePrivate(file, configuration(where, `
auth_method = "${method}"
client_id = "app"
token_url = "${server.tokenUrl}"
ca_file = ${JSON.stringify(ca.file)}
client_cert_file = ${JSON.stringify(identity.certificate)}
client_key_file = ${JSON.stringify(identity.key)}
`, resourceServer));
  return { where, file, resourceServer };
}

const byName = { client_id: 'app', token_endpoint_auth_method: 'tls_client_auth', tls_client_auth_subject_dn: 'CN=bursar,O=Campus' };

for (const traditional of [false, true]) {
  test(`tls_client_auth: the certificate is the proof, and the form holds no other (${traditional ? 'PKCS#1' : 'PKCS#8'} key)`, async (t) => {
    const directory = workDirectory(t);
    const ca = authority(directory);
    const server = await startServer(t, ca, [byName]);
    const identity = ca.issue('bursar', 'extendedKeyUsage=clientAuth', { traditional });
    const { where, file } = await setup(t, server, ca, 'tls_client_auth', identity);
    const bursar = await startBursar(t, file, where);
    const response = await fetch(`${bursar.url}/read/1`);
    assert.equal(response.status, 200, bursar.log());
    assert.deepEqual(await response.json(), { active: true, scope: 'api:read', client_id: 'app' });
    assert.deepEqual(server.peers, ['bursar']);
    assert.deepEqual(server.errors, []);
    assert.equal(server.forms[0].client_id, 'app');
    assert.equal(server.forms[0].client_secret, undefined);
    assert.equal(server.forms[0].client_assertion, undefined);
    assert.equal((await command('check', '--config', file)).status, 0);
    assert.equal(await bursar.stop(), 0);
  });
}

test('tls_client_auth: a certificate of another name, or of an authority that the server does not know, is refused', async (t) => {
  const directory = workDirectory(t);
  const ca = authority(directory);
  const server = await startServer(t, ca, [byName]);
  for (const identity of [
    ca.issue('somebody', 'extendedKeyUsage=clientAuth'),
    authority(directory, 'other').issue('bursar', 'extendedKeyUsage=clientAuth'),
  ]) {
    const { where, file, resourceServer } = await setup(t, server, ca, 'tls_client_auth', identity);
    const bursar = await startBursar(t, file, where, { ready: false });
    await until('refused', async () => (await bursar.metric('bursar_token_refreshes_total{credential="app",result="rejected"}')) === 1, bursar.log);
    assert.equal((await (await fetch(`${bursar.url}/read/1`)).json()).code, 'token_configuration_error');
    assert.equal(resourceServer.requests.length, 0);
    const check = await command('check', '--config', file);
    assert.equal(check.status, 3, check.stdout + check.stderr);
  }
});

test('self_signed_tls_client_auth: the server knows the certificate itself', async (t) => {
  const directory = workDirectory(t);
  const ca = authority(directory);
  const own = authority(directory, 'bursar');
  writePrivate(path.join(directory, 'bursar.own'), readFileSync(path.join(directory, 'bursar.key')));
  const certificate = new X509Certificate(own.certificate);
  const jwk = { ...certificate.publicKey.export({ format: 'jwk' }), x5c: [certificate.raw.toString('base64')] };
  const server = await startServer(t, ca, [
    { client_id: 'app', token_endpoint_auth_method: 'self_signed_tls_client_auth', jwks: { keys: [jwk] } },
  ]);
  const identity = { certificate: own.file, key: path.join(directory, 'bursar.own') };
  const { where, file } = await setup(t, server, ca, 'self_signed_tls_client_auth', identity);
  const bursar = await startBursar(t, file, where);
  assert.equal((await fetch(`${bursar.url}/read/1`)).status, 200, bursar.log());
  assert.equal(await bursar.stop(), 0);
});
