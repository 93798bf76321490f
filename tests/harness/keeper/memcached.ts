import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import getPort from 'get-port';
import { MemcacheNode } from 'memcache';
import { ServerProcess, retryOnBusyPort, until } from './server-process.js';

const BINARY = 'memcached';

/** Starts a memcached of its own, which keeps nothing on disk. */
export async function startMemcached(choice: {
  port?: string | undefined;
  megabytes?: string | undefined;
}): Promise<ServerProcess> {
  installWithApt();

  return retryOnBusyPort(async () => {
    const port = choice.port ?? String(await getPort());
    const settings = ['-l', '127.0.0.1', '-p', port, '-U', '0', '-m', choice.megabytes ?? '64', '-t', '1'];
    // Root has to name the user to run as.
    const user = process.getuid?.() === 0 ? ['-u', 'nobody'] : [];
    const child = spawn(BINARY, [...settings, ...user], { stdio: ['ignore', 'ignore', 'pipe'] });
    let log = '';
    child.stderr.on('data', (chunk: Buffer) => (log = (log + chunk.toString()).slice(-4_000)));
    const url = `memcached://127.0.0.1:${port}`;
    const server = new ServerProcess(BINARY, url, child, 'SIGTERM', () => Promise.resolve(log));
    await until(server, async () => {
      const node = new MemcacheNode('127.0.0.1', Number(port));
      try {
        await node.connect();
        await node.command('mn');
      } finally {
        await node.disconnect();
      }
    });
    return server;
  });
}

const isInstalled = () => spawnSync(BINARY, ['--version']).status === 0;

/** Installs Debian's memcached if there is none, as is done for Redis; the service that the package starts is stopped. */
function installWithApt(): void {
  if (!isInstalled() && process.getuid?.() === 0 && existsSync('/usr/bin/apt-get')) {
    const script = `
      command -v memcached && exit 0
      apt-get update -qq
      apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 memcached || exit 1
      if [ -d /run/systemd/system ]; then systemctl disable --now memcached; else service memcached stop; fi
      true`;
    spawnSync('flock', [join(tmpdir(), 'mikro-orm-plus-apt.lock'), 'sh', '-c', script], {
      stdio: 'ignore',
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    });
  }
  if (!isInstalled()) {
    throw new Error('The tests of the Memcached store need a Memcached server: install memcached.');
  }
}
