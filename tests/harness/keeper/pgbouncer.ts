import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import getPort from 'get-port';
import { Client } from 'pg';
import { ServerProcess, retryOnBusyPort, until } from './server-process.js';

/** Debian has it where only root looks. */
const binary = (): string => (existsSync('/usr/sbin/pgbouncer') ? '/usr/sbin/pgbouncer' : 'pgbouncer');

/** Starts a PgBouncer in transaction mode before a PostgreSQL server that trusts its clients. */
export async function startPgBouncer(folder: string, postgresUrl: string): Promise<ServerProcess> {
  installWithApt();
  const target = new URL(postgresUrl);
  const home = join(folder, 'pgbouncer');
  await mkdir(home);
  const users = join(home, 'users.txt');
  await writeFile(users, `"${target.username}" ""\n`);

  return retryOnBusyPort(async () => {
    const port = await getPort();
    const settings = join(home, `${port}.ini`);
    await writeFile(
      settings,
      `[databases]
* = host=${target.hostname} port=${target.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = trust
auth_file = ${users}
pool_mode = transaction
default_pool_size = 5
`,
    );
    await chmod(home, 0o755);
    // It refuses to run as root.
    const user = process.getuid?.() === 0 ? ['-u', 'nobody'] : [];
    const child = spawn(binary(), [...user, settings], { stdio: ['ignore', 'ignore', 'pipe'] });
    let log = '';
    child.stderr.on('data', (chunk: Buffer) => (log = (log + chunk.toString()).slice(-4_000)));
    const url = new URL(postgresUrl);
    url.hostname = '127.0.0.1';
    url.port = String(port);
    const server = new ServerProcess('PgBouncer', url.href, child, 'SIGINT', () => Promise.resolve(log));
    await until(server, async () => {
      const client = new Client(url.href);
      await client.connect();
      await client.end();
    });
    return server;
  });
}

const isInstalled = () => spawnSync(binary(), ['--version']).status === 0;

/** Installs Debian's pgbouncer if there is none, as is done for Redis; the service that the package starts is stopped. */
function installWithApt(): void {
  if (!isInstalled() && process.getuid?.() === 0 && existsSync('/usr/bin/apt-get')) {
    const script = `
      command -v pgbouncer && exit 0
      apt-get update -qq
      apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 pgbouncer || exit 1
      if [ -d /run/systemd/system ]; then systemctl disable --now pgbouncer; else service pgbouncer stop; fi
      true`;
    spawnSync('flock', [join(tmpdir(), 'mikro-orm-plus-apt.lock'), 'sh', '-c', script], {
      stdio: 'ignore',
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    });
  }
  if (!isInstalled()) {
    throw new Error('The tests of the relay behind a pooler need PgBouncer: install pgbouncer.');
  }
}
