// A signing key is changed under load, and the authorization server refuses no assertion. This server is a strict one: it keeps a key set
// for at least a minute, and an unknown `kid` does not make it look again.
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { startAuthorizationServer } from './authorization-server.mjs';
import { command, freePort, startBursar, until, workDirectory, writePrivate } from './bursar.mjs';
import { startResourceServer } from './resource-server.mjs';

// What the server does: `max-age` of the answer, and no less than this.
const MAX_AGE = 60;
const ASSERTION_LIFETIME = 10;

async function ports() {
  return { proxy: await freePort(), admin: await freePort(), control: await freePort() };
}

/** Tokens of a few seconds, so that assertions are made all the time. */
async function peers(t, keySet) {
  const authorizationServer = await startAuthorizationServer([{
    client_id: 'signer',
    token_endpoint_auth_method: 'private_key_jwt',
    token_endpoint_auth_signing_alg: 'ES256',
    jwks_uri: keySet,
  }], { lifetime: 4 });
  t.after(() => authorizationServer.stop());
  const resourceServer = await startResourceServer(authorizationServer);
  t.after(() => resourceServer.stop());
  return { authorizationServer, resourceServer };
}

/** A replica; all of them share the directory of keys. */
function replica(directory, where, keysDir, keySet, { authorizationServer, resourceServer }) {
  const file = path.join(directory, `bursar-${where.proxy}.toml`);
  return writePrivate(file, `
[server]
listen = "127.0.0.1:${where.proxy}"
[admin]
listen = "127.0.0.1:${where.admin}"
control = "127.0.0.1:${where.control}"
[credentials.app]
client_id = "signer"
auth_method = "private_key_jwt"
keys_dir = ${JSON.stringify(keysDir)}
jwks_max_age = "${MAX_AGE}s"
jwks_url = "${keySet}"
assertion_lifetime = "${ASSERTION_LIFETIME}s"
token_url = "${authorizationServer.tokenUrl}"
audience = "${authorizationServer.issuer}"
[upstreams.api]
base_url = "${resourceServer.origin}"
credential = "app"
scopes = ["api:read"]
[[upstreams.api.routes]]
name = "read"
methods = ["GET"]
path = "/read/{*rest}"
scopes = ["api:read"]
`);
}

const keySetOf = ({ control }) => `http://127.0.0.1:${control}/.well-known/jwks.json`;

const published = async (url) => (await (await fetch(url)).json()).keys.map(({ kid }) => kid);

const kidOf = ({ client_assertion: assertion }) => JSON.parse(Buffer.from(assertion.split('.')[0], 'base64url')).kid;

async function keys(...words) {
  const { status, stdout, stderr } = await command('keys', ...words);
  assert.equal(status, 0, stdout + stderr);
  return stdout;
}

/** Requests through every replica until it is stopped; how many there were, and what did not go well. */
function load(replicas) {
  const seen = { requests: 0, failures: [] };
  let goesOn = true;
  const workers = replicas.flatMap(({ url }) => [0, 1].map(async () => {
    while (goesOn) {
      const response = await fetch(`${url}/read/1`).catch((error) => ({ status: String(error.cause ?? error) }));
      await response.arrayBuffer?.();
      seen.requests += 1;
      if (response.status !== 200) seen.failures.push(`${new Date().toISOString()} ${response.status}`);
      await sleep(25);
    }
  }));
  return {
    seen,
    async stop() {
      goesOn = false;
      await Promise.all(workers);
    },
  };
}

test('a key is rotated under load, between two replicas, without one refused assertion', { timeout: 180_000 }, async (t) => {
  const directory = workDirectory(t);
  const keysDir = path.join(directory, 'keys');
  const first = JSON.parse(await keys('new', '--alg', 'ES256', '--dir', keysDir)).keys[0].kid;
  const [one, other] = [await ports(), await ports()];
  const keySet = keySetOf(one);
  const both = await peers(t, keySet);
  const { authorizationServer } = both;
  const files = [one, other].map((where) => replica(directory, where, keysDir, keySet, both));
  const replicas = [await startBursar(t, files[0], one), await startBursar(t, files[1], other)];
  const logs = () => replicas.map(({ log }) => log()).join('\n');
  const traffic = load(replicas);

  // The worst moment: the server has just fetched the key set, and will use it for a minute.
  const [fetched] = [Date.now()];
  const lead = MAX_AGE + 6;
  const plan = await keys('rotate', '--config', files[0], '--in', `${lead}s`, '--plan');
  assert.match(plan, /begins to sign/);
  assert.deepEqual(await published(keySet), [first]);
  await keys('rotate', '--config', files[0], '--in', `${lead}s`);
  const refused = await command('keys', 'rotate', '--config', files[0]);
  assert.equal(refused.status, 1, 'one waits already');

  // Published within seconds, with no restart, and no token is thrown away for it.
  await until('both replicas publish it', async () => (await published(keySet)).length === 2
    && (await published(keySetOf(other))).length === 2, logs);
  assert.ok(Date.now() - fetched < 6_000, 'within seconds');
  const second = (await published(keySet)).find((kid) => kid !== first);
  const list = async () => JSON.parse(await keys('list', '--config', files[0], '-o', 'json'));
  const [, next] = await list();
  assert.deepEqual([next.kid, next.state], [second, 'next']);
  const change = Date.parse(next.signs_from);
  for (const bursar of replicas) {
    assert.equal(await bursar.metric(`bursar_signing_key_info{alg="ES256",kid="${second}",state="next"}`), 1);
    assert.equal(await bursar.metric(`bursar_signing_key_created_timestamp_seconds{kid="${second}"}`), change / 1000);
  }

  await sleep(change - Date.now() - 1_000);
  assert.ok(authorizationServer.log.tokenRequests.every((request) => kidOf(request) === first), 'not before its time');
  await sleep(7_000);
  const signed = (kid) => authorizationServer.log.tokenRequests.filter((request) => kidOf(request) === kid).length;
  assert.ok(signed(second) >= 4, `${signed(second)} assertions by the new key`);
  assert.deepEqual((await published(keySet)).sort(), [first, second].sort(), 'the old one stays published');

  // Until the last assertion that it signed is worthless, and the last cached key set is too old.
  await sleep(change + (MAX_AGE + ASSERTION_LIFETIME) * 1_000 - Date.now() - 2_000);
  assert.equal((await published(keySet)).length, 2);
  await sleep(4_000);
  assert.deepEqual(await published(keySet), [second]);
  assert.deepEqual((await list()).map(({ state }) => state), ['expired', 'active']);
  await sleep(4_000);
  await traffic.stop();

  // Each replica has changed over once, and nobody noticed.
  const order = authorizationServer.log.tokenRequests.map(kidOf);
  assert.ok(signed(first) >= 20 && signed(second) >= 20, `${signed(first)} and ${signed(second)} assertions`);
  assert.equal(signed(first) + signed(second), order.length);
  assert.ok(order.lastIndexOf(first) - order.indexOf(second) <= 2, 'the two replicas change within a moment');
  assert.deepEqual(authorizationServer.errors, []);
  assert.ok(authorizationServer.log.tokenResponses.every(({ status }) => status === 200));
  assert.deepEqual(traffic.seen.failures, []);
  assert.ok(traffic.seen.requests > 1_000, `${traffic.seen.requests} requests`);
  assert.doesNotMatch(logs(), /unpublished|key_set_unseen|invalid_client/);
  t.diagnostic(`${traffic.seen.requests} requests, ${signed(first)} assertions by the old key and ${signed(second)} by the new one`);

  // The next rotation deletes what has expired.
  const again = await keys('rotate', '--config', files[0], '--in', `${lead}s`);
  assert.match(again, new RegExp(`${first} +is deleted`));
  assert.deepEqual((await list()).map(({ state }) => state), ['active', 'next']);
  for (const bursar of replicas) assert.equal(await bursar.stop(), 0);
});

test('the cache of the server is real: a key that signs before it can be known is refused', { timeout: 60_000 }, async (t) => {
  const directory = workDirectory(t);
  const keysDir = path.join(directory, 'keys');
  await keys('new', '--alg', 'ES256', '--dir', keysDir);
  const where = await ports();
  const both = await peers(t, keySetOf(where));
  const file = replica(directory, where, keysDir, keySetOf(where), both);
  const bursar = await startBursar(t, file, where);
  await keys('rotate', '--config', file, '--now');
  const [kid] = (await command('keys', 'list', '--config', file)).stdout.split('\n')[1].split(/ +/).slice(1);
  await until('refused', () => both.authorizationServer.log.tokenResponses.some(({ status }) => status === 401), bursar.log);
  await until('the log names the key', () => bursar.log().includes('token parked') && bursar.log().includes(kid), bursar.log);
  assert.match(both.authorizationServer.errors.join('\n'), /invalid_client/);
});
