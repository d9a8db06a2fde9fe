// What tests of logins share: a server at which people may log in, an upstream, a configuration, a login.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import path from 'node:path';

import { startAuthorizationServer } from './authorization-server.mjs';
import { BINARY, freePort, until, workDirectory, writePrivate } from './bursar.mjs';
import { consent } from './person.mjs';
import { startResourceServer } from './resource-server.mjs';

/** The peers, and where the browser comes back to. */
export async function stage(t, lifetime) {
  const redirect = await freePort();
  const authorizationServer = await startAuthorizationServer([{
    client_id: 'app',
    client_secret: 'app-secret',
    token_endpoint_auth_method: 'client_secret_basic',
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    redirect_uris: [`http://127.0.0.1:${redirect}/callback`],
    application_type: 'native',
  }], { lifetime, logins: true });
  t.after(() => authorizationServer.stop());
  const resourceServer = await startResourceServer(authorizationServer);
  t.after(() => resourceServer.stop());
  const directory = workDirectory(t);
  writePrivate(path.join(directory, 'state-key'), `${randomBytes(32).toString('base64')}\n`);
  return { directory, redirect, authorizationServer, resourceServer };
}

/** A configuration of its own with the same client and the same directory of logins. */
export async function configuration({ directory, redirect, authorizationServer, resourceServer }, extra = '') {
  const ports = { proxy: await freePort(), admin: await freePort(), control: await freePort() };
  const file = writePrivate(path.join(directory, `bursar-${ports.proxy}.toml`), `
[server]
listen = "127.0.0.1:${ports.proxy}"
workers = 1
[admin]
listen = "127.0.0.1:${ports.admin}"
control = "127.0.0.1:${ports.control}"
[state]
path = ${JSON.stringify(path.join(directory, 'state'))}
key_file = ${JSON.stringify(path.join(directory, 'state-key'))}
[credentials.app]
grant = "authorization_code"
client_id = "app"
client_secret = "app-secret"
auth_method = "client_secret_basic"
authorize_url = "${authorizationServer.issuer}/auth"
token_url = "${authorizationServer.tokenUrl}"
issuer = "${authorizationServer.issuer}"
redirect_uri = "http://127.0.0.1:${redirect}/callback"
${extra}
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
  return { file, ports };
}

/**
 * `bursar login`, with a person at the other end.
 *
 * @param {(url: string) => Promise<unknown>} [person] what the person does with the URL that is printed
 */
export async function login(file, { subject, person = (url) => consent(url, subject ?? 'ann') } = {}) {
  const words = ['login', 'app', '--config', file, '--no-browser', ...(subject ? ['--subject', subject] : [])];
  const child = spawn(BINARY, words, { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (piece) => { said += piece; });
  const exited = once(child, 'exit');
  await until('bursar login prints where to go', () => /https?:\/\/\S+\/auth\?\S+/.test(said) || child.exitCode !== null, () => said);
  const url = /https?:\/\/\S+\/auth\?\S+/.exec(said)?.[0];
  assert.ok(url, said);
  const end = await person(url);
  const [status] = await exited;
  assert.equal(status, 0, `${said}\n${JSON.stringify(end)}`);
  return said;
}
