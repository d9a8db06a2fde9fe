// Refresh tokens that are good for one use, kept in a directory: no one of them is ever shown to the server twice, whatever is restarted and
// however many share the directory. This server revokes the whole grant when that happens, and then nothing would be served any more.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { command, startBursar, until } from './bursar.mjs';
import { configuration, login, stage } from './login.mjs';

const refreshes = ({ log }) => log.tokenRequests.map((request) => request.refresh_token).filter(Boolean);

function assertEachOnce({ log, errors }) {
  const shown = refreshes({ log });
  assert.equal(new Set(shown).size, shown.length, 'a refresh token was shown to the server twice');
  assert.deepEqual(log.tokenResponses.filter(({ status }) => status !== 200), [], errors.join('\n'));
  return shown.length;
}

/** Asks until told to stop; counts what was answered with what. */
function load(url, headers = {}) {
  const answers = new Map();
  let goesOn = true;
  const worker = (async () => {
    while (goesOn) {
      const response = await fetch(`${url}/read/x`, { headers }).catch(() => undefined);
      const body = await response?.text().catch(() => '');
      const code = () => `${response.status} ${/"code":\s*"(\w+)"/.exec(body)?.[1]}`;
      const key = response === undefined ? 'none' : response.status === 200 ? 200 : code();
      answers.set(key, (answers.get(key) ?? 0) + 1);
      await sleep(200);
    }
  })();
  return async () => {
    goesOn = false;
    await worker;
    return answers;
  };
}

test('2,000 rotations across restarts: the server sees each refresh token once, and every grant is alive at the end', async (t) => {
  // The server counts lifetimes in whole seconds, so that a quarter of it, the margin, is what it may cut off.
  const peers = await stage(t, 4);
  const { file, ports } = await configuration(peers, 'subject_header = "X-Person"');
  const people = Array.from({ length: 60 }, (_, number) => `person-${number}`);
  for (const subject of people) await login(file, { subject });

  let restarts = 0;
  const failures = new Map();
  while (refreshes(peers.authorizationServer).length < 2_000) {
    const bursar = await startBursar(t, file, ports, { ready: false });
    const stops = people.map((person) => load(bursar.url, { 'X-Person': person }));
    const from = refreshes(peers.authorizationServer).length;
    await until('many rotations', () => refreshes(peers.authorizationServer).length >= from + 250, bursar.log);
    const stopping = bursar.stop();
    const answers = await Promise.all(stops.map((stop) => stop()));
    assert.equal(await stopping, 0, bursar.log());
    for (const counted of answers) {
      for (const [answer, count] of counted) if (answer !== 200 && answer !== 'none') failures.set(answer, (failures.get(answer) ?? 0) + count);
    }
    restarts += 1;
  }
  const bursar = await startBursar(t, file, ports, { ready: false });
  for (const person of people) {
    const response = await fetch(`${bursar.url}/read/x`, { headers: { 'X-Person': person } });
    assert.equal(response.status, 200, await response.text());
  }
  assert.equal(await bursar.stop(), 0);
  const shown = assertEachOnce(peers.authorizationServer);
  assert.ok(shown >= 2_000);
  assert.deepEqual([...failures], []);
  assert.ok(peers.resourceServer.requests.every(({ told }) => told.active), 'a dead token reached the upstream');
  t.diagnostic(`${shown} rotations by ${people.length} people, ${restarts} restarts, ${peers.resourceServer.requests.length} requests`);
});

test('eight processes share one grant in one directory: each refresh token is shown once, and all are served', async (t) => {
  const peers = await stage(t, 4);
  const first = await configuration(peers);
  await login(first.file);
  const replicas = [first];
  while (replicas.length < 8) replicas.push(await configuration(peers));
  const running = await Promise.all(replicas.map(({ file, ports }) => startBursar(t, file, ports)));
  const stops = running.map(({ url }) => load(url));
  await until('ten rotations', () => refreshes(peers.authorizationServer).length >= 10, () => running.map(({ log }) => log()).join('\n'));
  const answers = await Promise.all(stops.map((stop) => stop()));
  for (const bursar of running) assert.equal(await bursar.stop(), 0, bursar.log());
  const shown = assertEachOnce(peers.authorizationServer);
  let served = 0;
  for (const counted of answers) {
    assert.deepEqual([...counted.keys()], [200]);
    served += counted.get(200);
  }
  assert.ok(peers.resourceServer.requests.every(({ told }) => told.active));
  t.diagnostic(`${shown} rotations for 8 processes, ${served} requests served`);
});

test('a login that the server no longer accepts is said by name, and a new one is taken up without a restart', async (t) => {
  const peers = await stage(t, 3);
  const { file, ports } = await configuration(peers);
  const bursar = await startBursar(t, file, ports);
  const before = await fetch(`${bursar.url}/read/x`);
  assert.equal(before.status, 503);
  const problem = await before.json();
  assert.equal(problem.code, 'reauthorization_required');
  assert.match(problem.detail, /bursar login app/);

  await login(file);
  await until('the login is taken up', async () => (await fetch(`${bursar.url}/read/x`)).status === 200, bursar.log);

  // Somebody withdraws the consent at the server.
  const [{ refresh_token: first }] = peers.authorizationServer.log.tokenResponses;
  const token = await peers.authorizationServer.provider.RefreshToken.find(first);
  await peers.authorizationServer.provider.Grant.adapter.destroy(token.grantId);
  await peers.authorizationServer.provider.RefreshToken.revokeByGrantId(token.grantId);
  await until('the server refuses', async () => {
    const response = await fetch(`${bursar.url}/read/x`);
    return response.status === 503 && (await response.json()).code === 'reauthorization_required';
  }, bursar.log);
  assert.equal(await bursar.metric('bursar_token_reauth_required{credential="app"}'), 1);

  await login(file);
  await until('the new login is taken up', async () => (await fetch(`${bursar.url}/read/x`)).status === 200, bursar.log);
  assert.equal(await bursar.metric('bursar_token_reauth_required{credential="app"}'), 0);

  const { status, stdout, stderr } = await command('logout', 'app', '--config', file);
  assert.equal(status, 0, stdout + stderr);
  await bursar.stop();
});
