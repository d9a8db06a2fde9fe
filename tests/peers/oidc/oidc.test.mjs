// A request through bursar reaches an upstream with a token that a certified authorization server calls active, with exactly the
// scopes that were asked for.
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { test } from 'node:test';

import { startAuthorizationServer } from './authorization-server.mjs';
import { command, freePort, startBursar, until, workDirectory, writePrivate } from './bursar.mjs';
import { startResourceServer } from './resource-server.mjs';

const ID = 'c:2 %+';
const SECRET = 's+e%c:r/et~ x';

const KEYS = {
  RS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  PS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  ES384: () => generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  EdDSA: () => generateKeyPairSync('ed25519'),
};

async function ports() {
  return { proxy: await freePort(), admin: await freePort(), control: await freePort() };
}

function configuration({ proxy, admin, control }, credential, upstream, { scopes = ['api:read', 'api:write'] } = {}) {
  return `
[server]
listen = "127.0.0.1:${proxy}"
[admin]
listen = "127.0.0.1:${admin}"
control = "127.0.0.1:${control}"
[log]
level = "debug"
[credentials.app]
profile = "oauth2"
grant = "client_credentials"
${credential}
[upstreams.api]
base_url = "${upstream.origin}"
credential = "app"
scopes = ${JSON.stringify(scopes)}
[[upstreams.api.routes]]
name = "read"
methods = ["GET"]
path = "/read/{*rest}"
scopes = ["api:read"]
[[upstreams.api.routes]]
name = "write"
methods = ["POST"]
path = "/write/{*rest}"
scopes = ["api:read", "api:write"]
${scopes.includes('api:admin') ? `
[[upstreams.api.routes]]
name = "admin"
methods = ["GET"]
path = "/admin/{*rest}"
scopes = ["api:admin"]
` : ''}`;
}

async function peers(t, clients, settings) {
  const authorizationServer = await startAuthorizationServer(clients, settings);
  t.after(() => authorizationServer.stop());
  const resourceServer = await startResourceServer(authorizationServer);
  t.after(() => resourceServer.stop());
  return { authorizationServer, resourceServer };
}

const basicClient = { client_id: ID, client_secret: SECRET, token_endpoint_auth_method: 'client_secret_basic' };

function basicCredential(directory, authorizationServer, secret = SECRET) {
  const file = writePrivate(path.join(directory, 'secret'), `${secret}\n`);
  return `
auth_method = "client_secret_basic"
client_id = ${JSON.stringify(ID)}
client_secret_file = ${JSON.stringify(file)}
token_url = "${authorizationServer.tokenUrl}"
`;
}

test('client_secret_basic: the token is active, with exactly the asked scopes', async (t) => {
  const directory = workDirectory(t);
  const { authorizationServer, resourceServer } = await peers(t, [basicClient]);
  const where = await ports();
  const file = path.join(directory, 'bursar.toml');
  writePrivate(file, configuration(where, basicCredential(directory, authorizationServer), resourceServer));
  const bursar = await startBursar(t, file, where);

  const response = await fetch(`${bursar.url}/read/1`, { headers: { authorization: 'Bearer of-the-application' } });
  assert.equal(response.status, 200, bursar.log());
  assert.deepEqual(await response.json(), { active: true, scope: 'api:read api:write', client_id: ID });
  assert.deepEqual(authorizationServer.errors, []);

  const posted = await fetch(`${bursar.url}/write/1`, { method: 'POST', body: 'x'.repeat(200_000) });
  assert.equal(posted.status, 200);
  const refused = await fetch(`${bursar.url}/elsewhere`);
  assert.equal((await refused.json()).code, 'route_denied');
  assert.equal(resourceServer.requests.length, 2);
  assert.equal(authorizationServer.log.tokenRequests.length, 1);

  const live = await command('check', '--config', file);
  assert.equal(live.status, 0, live.stdout + live.stderr);

  const { stdout, stderr, status } = spawnSync('promtool', ['check', 'metrics'], { input: await bursar.metrics(), encoding: 'utf8' });
  assert.equal(status, 0, stdout + stderr);
  assert.equal(stdout + stderr, '');

  assert.ok(!bursar.log().includes(SECRET), 'the secret is in no log line');
  assert.equal(await bursar.stop(), 0);
});

test('client_secret_basic: a wrong secret is a configuration error at once, and no request leaves', async (t) => {
  const directory = workDirectory(t);
  const { authorizationServer, resourceServer } = await peers(t, [basicClient]);
  const where = await ports();
  const file = path.join(directory, 'bursar.toml');
  writePrivate(file, configuration(where, basicCredential(directory, authorizationServer, 'wrong'), resourceServer));
  const bursar = await startBursar(t, file, where, { ready: false });
  await until('refused', async () => (await bursar.metric('bursar_token_refreshes_total{credential="app",result="rejected"}')) === 1);
  const response = await fetch(`${bursar.url}/read/1`);
  assert.equal(response.status, 503);
  assert.equal((await response.json()).code, 'token_configuration_error');
  assert.equal(resourceServer.requests.length, 0);
  const live = await command('check', '--config', file);
  assert.equal(live.status, 3, live.stdout + live.stderr);
  assert.match(live.stdout + live.stderr, /invalid_client/);
});

for (const [algorithm, generate] of Object.entries(KEYS)) {
  test(`private_key_jwt, ${algorithm}: the server fetches bursar's own key set`, async (t) => {
    const directory = workDirectory(t);
    const where = await ports();
    const { authorizationServer, resourceServer } = await peers(t, [{
      client_id: 'signer',
      token_endpoint_auth_method: 'private_key_jwt',
      token_endpoint_auth_signing_alg: algorithm,
      jwks_uri: `http://127.0.0.1:${where.control}/.well-known/jwks.json`,
    }], { lifetime: 4 });
    const key = writePrivate(path.join(directory, 'key.pem'), generate().privateKey.export({ type: 'pkcs8', format: 'pem' }));
    const file = path.join(directory, 'bursar.toml');
    writePrivate(file, configuration(where, `
auth_method = "private_key_jwt"
client_id = "signer"
private_key_file = ${JSON.stringify(key)}
${algorithm === 'PS256' ? 'signing_alg = "PS256"' : ''}
token_url = "${authorizationServer.tokenUrl}"
audience = "${authorizationServer.issuer}"
`, resourceServer));
    const bursar = await startBursar(t, file, where);

    // Traffic across several renewals: each assertion is new (the server refuses a jti twice), and no request is lost.
    const statuses = new Map();
    const scopes = new Set();
    await until('three tokens', async () => {
      const response = await fetch(`${bursar.url}/read/1`);
      statuses.set(response.status, (statuses.get(response.status) ?? 0) + 1);
      scopes.add((await response.json()).scope);
      return authorizationServer.log.tokenResponses.length >= 3;
    }, bursar.log);
    assert.deepEqual([...statuses.keys()], [200], bursar.log());
    assert.deepEqual([...scopes], ['api:read api:write']);
    assert.deepEqual(authorizationServer.errors, []);
    assert.ok(authorizationServer.log.tokenResponses.every(({ status }) => status === 200));
    assert.ok((await bursar.metric('bursar_jwks_requests_total{code="200"}')) >= 1, 'the key set came from bursar');
    const identifiers = authorizationServer.log.tokenRequests.map(({ client_assertion: assertion }) =>
      JSON.parse(Buffer.from(assertion.split('.')[1], 'base64url')).jti);
    assert.equal(new Set(identifiers).size, identifiers.length);
    assert.equal(await bursar.stop(), 0);
  });
}

test('keys that openssl writes in older forms load as well', async (t) => {
  for (const [algorithm, type] of [['RS256', 'pkcs1'], ['ES256', 'sec1']]) {
    const directory = workDirectory(t);
    const where = await ports();
    const { authorizationServer, resourceServer } = await peers(t, [{
      client_id: 'signer',
      token_endpoint_auth_method: 'private_key_jwt',
      token_endpoint_auth_signing_alg: algorithm,
      jwks_uri: `http://127.0.0.1:${where.control}/.well-known/jwks.json`,
    }]);
    const key = writePrivate(path.join(directory, 'key.pem'), KEYS[algorithm]().privateKey.export({ type, format: 'pem' }));
    const file = path.join(directory, 'bursar.toml');
    writePrivate(file, configuration(where, `
auth_method = "private_key_jwt"
client_id = "signer"
private_key_file = ${JSON.stringify(key)}
token_url = "${authorizationServer.tokenUrl}"
`, resourceServer));
    const bursar = await startBursar(t, file, where);
    assert.equal((await fetch(`${bursar.url}/read/1`)).status, 200, type);
  }
});

test('a scope that the server drops in silence refuses its own routes and no other', async (t) => {
  const directory = workDirectory(t);
  const { authorizationServer, resourceServer } = await peers(t, [basicClient]);
  const where = await ports();
  const file = path.join(directory, 'bursar.toml');
  writePrivate(file, configuration(where, basicCredential(directory, authorizationServer), resourceServer, {
    scopes: ['api:read', 'api:write', 'api:admin'],
  }));
  const bursar = await startBursar(t, file, where);

  const { tokens: [token] } = await (await fetch(`${bursar.control}/api/v1/status`)).json();
  assert.deepEqual(token.scopes_asked, ['api:admin', 'api:read', 'api:write']);
  assert.deepEqual(token.scopes_granted, ['api:read', 'api:write']);
  assert.equal((await fetch(`${bursar.url}/read/1`)).status, 200);
  const refused = await fetch(`${bursar.url}/admin/1`);
  assert.equal(refused.status, 403);
  const problem = await refused.json();
  assert.equal(problem.code, 'insufficient_scope');
  assert.deepEqual(problem.missing_scopes, ['api:admin']);
  assert.equal(resourceServer.requests.length, 1);
  assert.equal(await bursar.metric('bursar_policy_scope_denials_total{credential="app",scope="api:admin"}'), 1);
});

test('check lists every problem of a broken file at once', async (t) => {
  const directory = workDirectory(t);
  const file = writePrivate(path.join(directory, 'bursar.toml'), `
[server]
listen = "0.0.0.0:8080"
drain_timeout = "soon"
unknown_key = 1
[credentials.app]
profile = "oauth2"
auth_method = "client_secret_basic"
client_secret = 12345678
token_url = "http://as.example.edu/token"
[upstreams.api]
base_url = "https://api.example.edu/path"
credential = "nobody"
scopes = ["api read"]
`);
  const { status, stdout, stderr } = await command('check', '--offline', '--config', file);
  const said = stdout + stderr;
  assert.equal(status, 78, said);
  for (const key of ['server.listen', 'drain_timeout', 'unknown_key', 'client_secret', 'client_id', 'token_url', 'base_url', 'nobody', 'api read']) {
    assert.ok(said.includes(key), `${key} is not named in:\n${said}`);
  }
  assert.ok(!said.includes('12345678'), 'the value under a secret key is never shown');
  assert.ok(/BUR1\d{3}/.test(said));
});
