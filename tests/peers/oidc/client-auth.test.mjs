// The ways of a client to prove itself, and a grant that rests on an assertion, judged by a certified authorization server.
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import path from 'node:path';
import { test } from 'node:test';

import * as jose from 'jose';

import { startAuthorizationServer } from './authorization-server.mjs';
import { command, freePort, startBursar, until, workDirectory, writePrivate } from './bursar.mjs';
import { startResourceServer } from './resource-server.mjs';

const ID = 'c:2 %+';
const SECRET = 's+e%c:r/et~ x &=, long enough for HS256';
const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';

/** A server for `client`, an upstream that asks it about tokens, and bursar in between. `credential` gets the server. */
async function started(t, client, credential, settings) {
  const directory = workDirectory(t);
  const where = { proxy: await freePort(), admin: await freePort(), control: await freePort() };
  const authorizationServer = await startAuthorizationServer([client(where)], settings);
  t.after(() => authorizationServer.stop());
  const resourceServer = await startResourceServer(authorizationServer);
  t.after(() => resourceServer.stop());
  const file = writePrivate(path.join(directory, 'bursar.toml'), `
[server]
listen = "127.0.0.1:${where.proxy}"
[admin]
listen = "127.0.0.1:${where.admin}"
control = "127.0.0.1:${where.control}"
[log]
level = "debug"
[credentials.app]
profile = "oauth2"
token_url = "${authorizationServer.tokenUrl}"
${credential(directory, authorizationServer)}
[upstreams.api]
base_url = "${resourceServer.origin}"
credential = "app"
scopes = ["api:read", "api:write"]
[[upstreams.api.routes]]
name = "read"
methods = ["GET"]
path = "/read/{*rest}"
scopes = ["api:read"]
`);
  const bursar = await startBursar(t, file, where);
  return { authorizationServer, resourceServer, bursar, file };
}

/** A permitted call, and what the upstream was told of its token. */
async function call({ authorizationServer, bursar }) {
  const response = await fetch(`${bursar.url}/read/1`);
  assert.equal(response.status, 200, bursar.log());
  assert.deepEqual(authorizationServer.errors, []);
  return response.json();
}

async function assertCheckIsContent({ file }) {
  const { status, stdout, stderr } = await command('check', '--config', file);
  assert.equal(status, 0, stdout + stderr);
  assert.match(stdout, /every scope asked for \(2\)/);
}

function bySecret(method) {
  return (directory) => `
auth_method = "${method}"
client_id = ${JSON.stringify(ID)}
client_secret_file = ${JSON.stringify(writePrivate(path.join(directory, 'secret'), `${SECRET}\n`))}
`;
}

const claimsOf = (assertion) => jose.decodeJwt(assertion);

test('client_secret_post: the token is active, with exactly the asked scopes', async (t) => {
  const client = () => ({ client_id: ID, client_secret: SECRET, token_endpoint_auth_method: 'client_secret_post' });
  const peers = await started(t, client, bySecret('client_secret_post'));
  assert.deepEqual(await call(peers), { active: true, scope: 'api:read api:write', client_id: ID });
  await assertCheckIsContent(peers);
  assert.ok(!peers.bursar.log().includes(SECRET), 'the secret is in no log line');
  assert.equal(await peers.bursar.stop(), 0);
});

test('client_secret_jwt: each renewal has an assertion of its own', async (t) => {
  const client = () => ({
    client_id: ID,
    client_secret: SECRET,
    token_endpoint_auth_method: 'client_secret_jwt',
    token_endpoint_auth_signing_alg: 'HS256',
  });
  const peers = await started(t, client, bySecret('client_secret_jwt'), { lifetime: 4 });
  assert.deepEqual(await call(peers), { active: true, scope: 'api:read api:write', client_id: ID });
  const { log } = peers.authorizationServer;
  await until('three tokens', () => log.tokenResponses.length >= 3, peers.bursar.log);
  await call(peers);
  assert.ok(log.tokenResponses.every(({ status }) => status === 200));
  const identifiers = log.tokenRequests.map(({ client_assertion: assertion }) => claimsOf(assertion).jti);
  assert.equal(new Set(identifiers).size, identifiers.length);
  await assertCheckIsContent(peers);
  assert.ok(!peers.bursar.log().includes(SECRET), 'the secret is in no log line');
  assert.equal(await peers.bursar.stop(), 0);
});

/** RFC 7523 section 3, for the clients of this server: the issuer is the client, its keys are at its `jwks_uri`. */
function acceptAssertions(provider, errors, seen) {
  const { AccessToken, Grant } = provider;
  provider.registerGrantType(JWT_BEARER, async (context) => {
    const { client, params } = context.oidc;
    const keys = await (await fetch(client.jwksUri)).json();
    let verified;
    try {
      verified = await jose.jwtVerify(params.assertion, jose.createLocalJWKSet(keys), {
        issuer: client.clientId,
        audience: provider.issuer,
        requiredClaims: ['sub', 'exp', 'iat', 'jti'],
        maxTokenAge: '5m',
      });
      assert.ok(!seen.has(verified.payload.jti), 'jti was used before');
    } catch (error) {
      errors.push(error.message);
      context.status = 400;
      context.body = { error: 'invalid_grant' };
      return;
    }
    seen.set(verified.payload.jti, verified.payload);
    const grant = new Grant({ clientId: client.clientId, accountId: verified.payload.sub });
    grant.addOIDCScope(params.scope);
    const token = new AccessToken({
      client,
      accountId: verified.payload.sub,
      scope: params.scope,
      grantId: await grant.save(),
      gty: 'jwt_bearer',
      expiresWithSession: false,
    });
    context.oidc.entity('AccessToken', token);
    context.body = {
      access_token: await token.save(),
      expires_in: token.expiration,
      token_type: token.tokenType,
      scope: token.scope,
    };
  }, ['assertion', 'scope']);
}

const signer = (method) => ({ control }) => ({
  client_id: ID,
  client_secret: SECRET,
  token_endpoint_auth_method: method,
  grant_types: [JWT_BEARER],
  jwks_uri: `http://127.0.0.1:${control}/.well-known/jwks.json`,
});

function byAssertion(method, seen) {
  return (directory, authorizationServer) => {
    acceptAssertions(authorizationServer.provider, authorizationServer.errors, seen);
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const key = writePrivate(path.join(directory, 'key.pem'), privateKey.export({ type: 'pkcs8', format: 'pem' }));
    const proof = method.startsWith('client_secret') ? bySecret(method)(directory) : `client_id = ${JSON.stringify(ID)}`;
    return `
grant = "jwt_bearer"
subject = "service-user"
private_key_file = ${JSON.stringify(key)}
audience = "${authorizationServer.issuer}"
${method === 'private_key_jwt' ? 'auth_method = "private_key_jwt"' : ''}
${proof}
`;
  };
}

for (const method of ['none', 'client_secret_basic', 'client_secret_post', 'private_key_jwt']) {
  test(`jwt_bearer with ${method}: the token is the subject's`, async (t) => {
    const seen = new Map();
    const peers = await started(t, signer(method), byAssertion(method, seen), { lifetime: 4 });
    const told = await call(peers);
    assert.deepEqual(told, { active: true, scope: 'api:read api:write', client_id: ID });
    const { log } = peers.authorizationServer;
    await until('three tokens', () => log.tokenResponses.length >= 3, peers.bursar.log);
    await call(peers);
    assert.ok(peers.resourceServer.requests.every(({ told }) => told.sub === 'service-user'));
    assert.ok([...seen.values()].every(({ iss, sub }) => iss === ID && sub === 'service-user'));
    assert.ok(seen.size >= 3);
    await assertCheckIsContent(peers);
    assert.equal(await peers.bursar.stop(), 0);
  });
}
