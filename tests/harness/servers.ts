import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline/promises';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { Client } from 'pg';
import { databasePrefix, redisPrefix } from './names.js';
import { typescriptArgs } from './typescript-args.js';

interface ServerAddress {
  url: string;
  pid: number;
}

/** What the keeper process prints, once, as one line of JSON. */
export type KeeperReport =
  | {
      kind: 'started';
      folder: string;
      servers: Record<'postgres' | 'redis' | 'memcached' | 'pgbouncer', ServerAddress | undefined>;
    }
  | { kind: 'failed'; message: string };

export interface RunningServers {
  /** Of the keeper: it ends the servers as soon as this process is gone, also after SIGKILL. */
  keeperPid: number;
  /** Everything the servers write; removed when they stop. */
  folder: string;
  postgres: ServerAddress | undefined;
  redis: ServerAddress | undefined;
  memcached: ServerAddress | undefined;
  pgbouncer: ServerAddress | undefined;
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

export interface ServerChoice {
  /** `durable`: with `fsync`, as in production; otherwise nothing survives a power cut. */
  postgres?: boolean | { durable: boolean };
  redis?: boolean;
  /** No run has one by itself. By default on a free port, with 64 MB; memcached refuses less than 2. */
  memcached?: boolean | { port?: number; megabytes?: number };
  /** In transaction mode, before the PostgreSQL server of this URL. No run has one by itself. */
  pgbouncer?: string;
  /** Servers to use instead; what the run with this id left on them is removed at the end. */
  external?: { runId: string; postgresUrl?: string | undefined; redisUrl?: string | undefined };
}

/**
 * Starts servers on free ports with their data in a temporary folder. Most tests share the servers of the run
 * ({@link testDatabaseUrl}, {@link testRedisUrl}); a test that breaks or restarts a server starts one of its own:
 *
 * ```ts
 * await using servers = await startServers({ redis: true });
 * process.kill(servers.redis!.pid, 'SIGSTOP');
 * ```
 */
export async function startServers(choice: ServerChoice): Promise<RunningServers> {
  const args = [...typescriptArgs, fileURLToPath(new URL('keeper/main.ts', import.meta.url))];
  if (choice.postgres) args.push('--postgres');
  if (typeof choice.postgres === 'object' && choice.postgres.durable) args.push('--postgresDurable');
  if (choice.redis) args.push('--redis');
  if (choice.memcached) {
    const { port, megabytes } = choice.memcached === true ? {} : choice.memcached;
    args.push('--memcached');
    if (port) args.push('--memcachedPort', String(port));
    if (megabytes) args.push('--memcachedMegabytes', String(megabytes));
  }
  if (choice.pgbouncer) args.push('--pgbouncer', choice.pgbouncer);
  if (choice.external) args.push('--runId', choice.external.runId);
  if (choice.external?.postgresUrl) args.push('--externalPostgres', choice.external.postgresUrl);
  if (choice.external?.redisUrl) args.push('--externalRedis', choice.external.redisUrl);

  // Detached: Ctrl-C in a terminal goes to the whole process group, and the keeper has to survive it to clean up.
  const keeper = spawn(process.execPath, args, { detached: true, stdio: ['pipe', 'pipe', 'pipe'] });
  const exited = once(keeper, 'exit');
  const report = await readReport(keeper);
  if (report.kind === 'failed') {
    await exited;
    throw new Error(report.message);
  }
  keeper.unref();
  for (const stream of [keeper.stdin, keeper.stdout, keeper.stderr]) {
    (stream as unknown as { unref(): void }).unref();
  }

  const stop = async () => {
    keeper.ref();
    keeper.stdin.end();
    await exited;
  };
  return { keeperPid: keeper.pid!, folder: report.folder, ...report.servers, stop, [Symbol.asyncDispose]: stop };
}

async function readReport(keeper: ChildProcessByStdio<Writable, Readable, Readable>): Promise<KeeperReport> {
  let errors = '';
  keeper.stderr.on('data', (chunk: Buffer) => {
    errors += chunk.toString();
    process.stderr.write(chunk);
  });
  for await (const line of createInterface({ input: keeper.stdout })) {
    return JSON.parse(line) as KeeperReport;
  }
  return { kind: 'failed', message: `The servers for the tests did not start: ${errors}` };
}

/** The servers of a whole run, as handed from Jest's global set-up to its workers. */
export interface TestRun {
  runId: string;
  postgresUrl: string;
  redisUrl: string;
  /** Only what the run started itself. */
  pids: { keeper: number; postgres?: number | undefined; redis?: number | undefined };
  folder: string;
}

const RUN_VARIABLE = 'MIKRO_ORM_PLUS_TEST_RUN';

/**
 * Starts the servers of a run, except for those that `TEST_DATABASE_URL` and `TEST_REDIS_URL` name.
 *
 * @public Called by global-setup.js.
 */
export async function startTestRun(): Promise<RunningServers> {
  const runId = randomBytes(4).toString('hex');
  const { TEST_DATABASE_URL: postgresUrl, TEST_REDIS_URL: redisUrl } = process.env;
  const servers = await startServers({
    postgres: !postgresUrl,
    redis: !redisUrl,
    external: { runId, postgresUrl, redisUrl },
  });
  const run: TestRun = {
    runId,
    postgresUrl: postgresUrl ?? servers.postgres!.url,
    redisUrl: redisUrl ?? servers.redis!.url,
    pids: { keeper: servers.keeperPid, postgres: servers.postgres?.pid, redis: servers.redis?.pid },
    folder: servers.folder,
  };
  process.env[RUN_VARIABLE] = JSON.stringify(run);
  // many of the processes that tests start load the same modules
  process.env['NODE_COMPILE_CACHE'] ??= join(servers.folder, 'compile-cache');
  return servers;
}

/** The run that this process belongs to. */
export function testRun(): TestRun {
  const run = process.env[RUN_VARIABLE];
  if (!run) {
    throw new Error('The servers for the tests are not running: start the tests with `npm test`.');
  }
  return JSON.parse(run) as TestRun;
}

// Jest loads this module anew for every test file: what follows is the state of one file.
const fileId = `${process.pid.toString(36)}_${randomBytes(4).toString('hex')}`;
let fileDatabase: Promise<string> | undefined;
let databases = 0;

/** The URL of a database that belongs to this test file alone. */
export function testDatabaseUrl(): Promise<string> {
  fileDatabase ??= createDatabase('file');
  return fileDatabase;
}

/** Creates an empty database and returns its URL; `name` is for the reader, calling this twice makes two databases. */
export async function createDatabase(name = 'db'): Promise<string> {
  databases += 1;
  const label = name.replaceAll(/\W+/g, '_').slice(0, 16);
  const database = `${databasePrefix(testRun().runId)}${fileId}_${databases}_${label}`;
  await onServer((client) =>
    client.query(`create database ${client.escapeIdentifier(database)} template template0 strategy file_copy`),
  );
  const url = new URL(testRun().postgresUrl);
  url.pathname = `/${database}`;
  return url.href;
}

/** Drops a database made by {@link createDatabase}, and ends the connections to it. */
export async function dropDatabase(url: string): Promise<void> {
  const database = new URL(url).pathname.slice(1);
  if (!database.startsWith(databasePrefix(testRun().runId))) {
    throw new Error(`${database} is not a database of this test run`);
  }
  await onServer((client) => client.query(`drop database if exists ${client.escapeIdentifier(database)} with (force)`));
}

/** The run's Redis server, shared with all test files: put everything below {@link testPrefix}, and never flush it. */
export function testRedisUrl(): string {
  return testRun().redisUrl;
}

/** A key prefix that belongs to this test file alone. */
export function testPrefix(): string {
  return `${redisPrefix(testRun().runId)}${fileId}:`;
}

/** A connected `pg` client, for what a test wants to do behind the library's back. */
export async function rawClient(url: string): Promise<Client> {
  const client = new Client(url);
  await client.connect();
  return client;
}

async function onServer(work: (client: Client) => Promise<unknown>): Promise<void> {
  const client = await rawClient(testRun().postgresUrl);
  try {
    await work(client);
  } finally {
    await client.end();
  }
}
