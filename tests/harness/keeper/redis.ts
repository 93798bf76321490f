import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import getPort from 'get-port';
import { Redis } from 'ioredis';
import { ServerProcess, retryOnBusyPort, until } from './server-process.js';

const SERVERS = ['redis-server', 'valkey-server'];

/** Starts a Redis (or Valkey) server of its own without persistence; it works below `folder`. */
export async function startRedis(folder: string): Promise<ServerProcess> {
  const binary = installed() ?? installWithApt();
  const data = join(folder, 'redis');
  await mkdir(data);

  return retryOnBusyPort(async () => {
    const port = await getPort();
    const settings = { port: String(port), bind: '127.0.0.1', dir: data, save: '', appendonly: 'no', daemonize: 'no' };
    const child = spawn(
      binary,
      Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]),
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    let log = '';
    child.stdout.on('data', (chunk: Buffer) => (log = (log + chunk.toString()).slice(-4_000)));
    child.stderr.on('data', (chunk: Buffer) => (log = (log + chunk.toString()).slice(-4_000)));
    const url = `redis://127.0.0.1:${port}`;
    const server = new ServerProcess(binary, url, child, 'SIGTERM', () => Promise.resolve(log));
    await until(server, async () => {
      const client = new Redis(url, { lazyConnect: true, retryStrategy: () => null });
      client.on('error', () => {});
      try {
        await client.connect();
        await client.ping();
      } finally {
        client.disconnect();
      }
    });
    return server;
  });
}

function installed(): string | undefined {
  return SERVERS.find((name) => spawnSync(name, ['--version']).status === 0);
}

/**
 * Installs Debian's redis-server. Parallel test runs queue up for one lock; the service that the package starts on its
 * own is switched off again, as the tests only use servers which they have started themselves.
 */
function installWithApt(): string {
  if (process.getuid?.() === 0 && existsSync('/usr/bin/apt-get')) {
    const script = `
      command -v redis-server && exit 0
      apt-get update -qq
      apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 redis-server || exit 1
      if [ -d /run/systemd/system ]; then systemctl disable --now redis-server; else service redis-server stop; fi
      true`;
    spawnSync('flock', [join(tmpdir(), 'mikro-orm-plus-apt.lock'), 'sh', '-c', script], {
      stdio: 'ignore',
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    });
  }
  const binary = installed();
  if (!binary) {
    throw new Error('The tests need a Redis server: install redis-server or valkey-server, or set TEST_REDIS_URL.');
  }
  return binary;
}
