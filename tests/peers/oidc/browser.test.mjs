// A login in a real browser: from `bursar login` over the server's forms to a request of the application that is served.
import assert from 'node:assert/strict';
import { existsSync, rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';

import { chromium } from 'playwright-core';

import { startBursar } from './bursar.mjs';
import { configuration, login, stage } from './login.mjs';

const EXECUTABLE = process.env.CHROMIUM ?? '/usr/bin/chromium';
// As root and without a screen; and nothing that the browser would ask the world for by itself.
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

test('a person logs in with a browser, sees that it worked, and the application is served', async (t) => {
  assert.ok(existsSync(EXECUTABLE), `there is no browser at ${EXECUTABLE}: install Debian's chromium, or name one in CHROMIUM`);
  const peers = await stage(t, 3600);
  const { file, ports } = await configuration(peers);
  const bursar = await startBursar(t, file, ports);
  assert.equal((await fetch(`${bursar.url}/read/x`)).status, 503);

  const profile = await mkdtemp(path.join(tmpdir(), 'bursar-browser-'));
  const browser = await chromium.launchPersistentContext(profile, { executablePath: EXECUTABLE, headless: true, args: FLAGS });
  t.after(async () => {
    await browser.close();
    rmSync(profile, { recursive: true, force: true });
  });
  const page = await browser.newPage();
  const said = await login(file, {
    async person(url) {
      await page.goto(url);
      await page.fill('input[name=login]', 'ann');
      await page.fill('input[name=password]', 'anything');
      await page.click('button[type=submit]');
      await page.waitForSelector('input[name=prompt][value=consent]', { state: 'attached' });
      await page.click('button[type=submit]');
      await page.waitForURL(/\/callback/);
    },
  });

  const text = await page.textContent('body');
  assert.match(text, /close this (tab|window)/i);
  const [{ access_token: accessToken, refresh_token: refreshToken }] = peers.authorizationServer.log.tokenResponses;
  const html = await page.content();
  for (const secret of [accessToken, refreshToken, new URL(page.url()).searchParams.get('code')].filter(Boolean)) {
    assert.ok(!html.includes(secret), 'the page shows a secret');
    assert.ok(!said.includes(secret), 'the terminal shows a secret');
  }
  const [{ code_verifier: verifier }] = peers.authorizationServer.log.tokenRequests;
  assert.ok(verifier, 'PKCE was used');

  // The one that runs takes the login up by itself.
  let response;
  for (let attempt = 0; attempt < 50; attempt += 1) {
    response = await fetch(`${bursar.url}/read/x`);
    if (response.status === 200) break;
    await new Promise((resolve) => { setTimeout(resolve, 200); });
  }
  assert.equal(response.status, 200);
  assert.deepEqual(await response.json(), { active: true, scope: 'api:read', client_id: 'app' });
  assert.equal(await bursar.stop(), 0);
});
