// The built program: configured, started, asked, stopped.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';

export const BINARY = process.env.BURSAR_BIN ?? path.resolve(import.meta.dirname, '../../../target/release/bursar');

/** A directory for configuration and keys, removed at the end of the test. */
export function workDirectory(test) {
  const directory = mkdtempSync(path.join(tmpdir(), 'bursar-peer-'));
  test.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export function writePrivate(file, text) {
  writeFileSync(file, text, { mode: 0o600 });
  return file;
}

/** A port that was free a moment ago. */
export async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** Runs a command to its end. Not `spawnSync`: its peers live in this process. */
export async function command(...words) {
  const child = spawn(BINARY, words, { stdio: ['ignore', 'pipe', 'pipe'], timeout: 60_000 });
  const [stdout, stderr, [status]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'exit')]);
  return { status, stdout, stderr };
}

/** Starts `bursar run` and waits until it is ready, unless `ready` is false. */
export async function startBursar(test, file, ports, { ready = true } = {}) {
  const child = spawn(BINARY, ['run', '--config', file], { stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  child.stderr.setEncoding('utf8').on('data', (piece) => { log += piece; });
  child.stdout.setEncoding('utf8').on('data', (piece) => { log += piece; });
  const exited = once(child, 'exit');
  test.after(async () => {
    if (child.exitCode === null) child.kill('SIGKILL');
    await exited;
  });
  const admin = `http://127.0.0.1:${ports.admin}`;
  const running = {
    url: `http://127.0.0.1:${ports.proxy}`,
    control: `http://127.0.0.1:${ports.control}`,
    admin,
    child,
    log: () => log,
    async metrics() {
      return (await fetch(`${admin}/metrics`)).text();
    },
    /** The value of one series; 0 if there is none. */
    async metric(series) {
      const line = (await this.metrics()).split('\n').find((row) => row.startsWith(`${series} `));
      return line ? Number(line.slice(series.length + 1)) : 0;
    },
    /** SIGTERM, and the exit code. */
    async stop() {
      child.kill('SIGTERM');
      const [code, signal] = await exited;
      return code ?? signal;
    },
  };
  await until(`bursar answers ${ready ? '/readyz' : '/startupz'}`, async () => {
    if (child.exitCode !== null) throw new Error(`bursar ended with ${child.exitCode}:\n${log}`);
    const response = await fetch(`${admin}/${ready ? 'readyz' : 'startupz'}`).catch(() => undefined);
    return response?.status === 200;
  }, () => log);
  return running;
}

/** Waits until the condition holds, 30 s at most. */
export async function until(what, condition, context = () => '') {
  const deadline = Date.now() + 30_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`never happened: ${what}\n${context()}`);
    await sleep(20);
  }
}
