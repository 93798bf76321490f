/**
 * Starts the servers of one test run, prints their addresses as one line of JSON, and waits for the end of its standard
 * input. The run holds the other end of that pipe, so the servers go when the run goes, however it went: also after
 * SIGKILL, which no process can handle for itself.
 */
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { cleanDatabases, cleanRedis } from './external.js';
import { startMemcached } from './memcached.js';
import { startPgBouncer } from './pgbouncer.js';
import { startPostgres } from './postgres.js';
import { startRedis } from './redis.js';
import type { ServerProcess } from './server-process.js';
import type { KeeperReport } from '../servers.js';

const { values: options } = parseArgs({
  options: {
    runId: { type: 'string', default: '' },
    postgres: { type: 'boolean', default: false },
    postgresDurable: { type: 'boolean', default: false },
    redis: { type: 'boolean', default: false },
    memcached: { type: 'boolean', default: false },
    pgbouncer: { type: 'string' },
    memcachedPort: { type: 'string' },
    memcachedMegabytes: { type: 'string' },
    externalPostgres: { type: 'string' },
    externalRedis: { type: 'string' },
  },
});

const servers: ServerProcess[] = [];
const folder = await mkdtemp(join(tmpdir(), 'mikro-orm-plus-test-'));
const started = start();
let stopping: Promise<never> | undefined;

process.stdin.resume();
process.stdin.once('close', () => void stop(0));
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => void stop(0));
}
// The reader may be gone already; that must not keep us from cleaning up.
process.stdout.on('error', () => {});
process.stderr.on('error', () => {});

try {
  report({ kind: 'started', folder, servers: await started });
} catch (error) {
  report({ kind: 'failed', message: error instanceof Error ? error.message : String(error) });
  await stop(1);
}

async function start(): Promise<Extract<KeeperReport, { kind: 'started' }>['servers']> {
  process.umask(0o022);
  await chmod(folder, 0o755);
  const launch = async (starter: (folder: string) => Promise<ServerProcess>) => {
    const server = await starter(folder);
    servers.push(server);
    return { url: server.url, pid: server.pid };
  };
  const postgres = options.postgres
    ? launch((own) => startPostgres(own, { durable: options.postgresDurable }))
    : Promise.resolve(undefined);
  const redis = options.redis ? launch(startRedis) : Promise.resolve(undefined);
  const { memcachedPort: port, memcachedMegabytes: megabytes } = options;
  const memcached = options.memcached ? launch(() => startMemcached({ port, megabytes })) : Promise.resolve(undefined);
  const { pgbouncer: target } = options;
  const pgbouncer = target ? launch((own) => startPgBouncer(own, target)) : Promise.resolve(undefined);
  // All are settled before anything is stopped again: no server is forgotten because another one failed first.
  await Promise.allSettled([postgres, redis, memcached, pgbouncer]);
  return {
    postgres: await postgres,
    redis: await redis,
    memcached: await memcached,
    pgbouncer: await pgbouncer,
  };
}

function stop(exitCode: number): Promise<never> {
  stopping ??= (async () => {
    await started.catch(() => {});
    const cleanups = servers.map((server) => server.stop());
    if (options.externalPostgres) cleanups.push(cleanDatabases(options.externalPostgres, options.runId));
    if (options.externalRedis) cleanups.push(cleanRedis(options.externalRedis, options.runId));
    for (const outcome of await Promise.allSettled(cleanups)) {
      if (outcome.status === 'rejected') {
        console.error(outcome.reason);
      }
    }
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
    process.exit(exitCode);
  })();
  return stopping;
}

function report(message: KeeperReport): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}
