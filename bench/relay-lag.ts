/**
 * How long it takes from a commit past MikroORM until the row is out of the cache, at several rates of change.
 *
 *     npm run bench:relay-lag [-- --seconds 20]
 *
 * It starts a PostgreSQL and a Redis of its own. One process changes rows as `psql` would, at a steady rate, another one
 * is an application with a relay. Measured is, for each row, the time from the moment when the writer was told that its
 * commit is done until Redis has confirmed the eviction. Both clocks are the machine's.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { defineEntity, MikroORM, p } from '@mikro-orm/postgresql';
import { Client } from 'pg';
import { objectKey, regionName } from '../src/codec/keys.js';
import { PlusSubscriber, RedisStore, withPlusRepo, type LockEntry } from '../src/index.js';
import { withChangeLog } from '../src/migrations.js';
import { canonical, sequence } from '../src/orm/canonical.js';
import { startServers } from '../tests/harness/servers.js';

/** Changed rows per second, and rows per statement. */
const LOADS = [
  [100, 1],
  [1_000, 1],
  [10_000, 10],
  [10_000, 100],
] as const;

interface Order {
  url: string;
  rate: number;
  perStatement: number;
  seconds: number;
}

/** By row: when its commit was acknowledged. */
type Commits = [id: number, atMs: number][];

const Item = withPlusRepo(
  defineEntity({
    name: 'Item',
    properties: { id: p.integer().primary(), code: p.string().unique(), weight: p.integer() },
  }),
);

const clock = (): number => performance.timeOrigin + performance.now();

if (process.send)
  process.once('message', (order: Order) => void write(order).then((commits) => process.send!(commits)));
else await measure();

/** The writer: four connections, which share the statements of each 10 ms. */
async function write({ url, rate, perStatement, seconds }: Order): Promise<Commits> {
  const clients = await Promise.all(Array.from({ length: 4 }, () => connect(url)));
  const commits: Commits = [];
  const started = clock();
  const total = (rate * seconds) / perStatement;
  let sent = 0;
  await Promise.all(
    clients.map(async (client) => {
      while (sent < total) {
        const due = started + ((sent * perStatement) / rate) * 1_000;
        const first = sent * perStatement;
        sent += 1;
        if (due > clock()) await sleep(due - clock());
        const ids = Array.from({ length: perStatement }, (_, index) => first + index + 1);
        await client.query('update item set weight = weight + 1 where id = any($1::int[])', [ids]);
        const atMs = clock();
        for (const id of ids) commits.push([id, atMs]);
      }
    }),
  );
  const took = (clock() - started) / 1_000;
  process.stderr.write(`  (written at ${Math.round(commits.length / took)} rows/s)\n`);
  await Promise.all(clients.map((client) => client.end()));
  return commits;
}

async function measure(): Promise<void> {
  const { values } = parseArgs({ options: { seconds: { type: 'string', default: '20' } } });
  const seconds = Number(values.seconds);
  // each once in a load, so that an eviction belongs to one commit
  const rows = Math.max(...LOADS.map(([rate]) => rate)) * seconds;
  await using servers = await startServers({ postgres: true, redis: true });
  const { url } = servers.postgres!;
  const evicted = new Map<string, number>();
  class TimedStore extends RedisStore {
    override async evictMany(entries: readonly LockEntry[]): Promise<void> {
      await super.evictMany(entries);
      const atMs = clock();
      for (const { key } of entries) evicted.set(key, atMs);
    }
  }
  const store = new TimedStore(servers.redis!.url);
  const plus = new PlusSubscriber({ stores: { default: store }, prefix: 'bench', relay: true, timeout: 5_000 });
  const orm = await MikroORM.init(withChangeLog({ entities: [Item], clientUrl: url, subscribers: [plus] }));
  await orm.schema.create();
  const admin = await connect(url);
  await admin.query(`insert into item select n, 'item ' || n, 0 from generate_series(1, $1::int) n`, [rows]);
  await admin.query('vacuum analyze item');
  await plus.start(orm);
  // connections are made at their first use
  await admin.query('update item set weight = 0 where id <= 100');
  while (evicted.size < 100) await sleep(10);
  const region = regionName('bench', orm.getMetadata().get(Item));
  const keyOf = (id: number): string => objectKey(region, 'public', sequence([canonical(id)]));

  process.stdout.write(
    '| rows changed per second | rows per statement | p50 | p99 | largest |\n|---:|---:|---:|---:|---:|\n',
  );
  for (const [rate, perStatement] of LOADS) {
    evicted.clear();
    const commits = await writeElsewhere({ url, rate, perStatement, seconds });
    while (evicted.size < new Set(commits.map(([id]) => id)).size) await sleep(50);
    process.stdout.write(
      `| ${rate} | ${perStatement} | ${describe(commits.map(([id, atMs]) => evicted.get(keyOf(id))! - atMs))} |\n`,
    );
  }
  await admin.end();
  await orm.close();
  await store.close();
}

/** A row that was out of the cache before its writer knew of its commit counts as 0. */
function describe(unsorted: readonly number[]): string {
  const lags = unsorted.toSorted((left, right) => left - right);
  const at = (share: number): string =>
    `${Math.max(0, lags[Math.min(lags.length - 1, Math.floor(lags.length * share))]!).toFixed(1)} ms`;
  return [at(0.5), at(0.99), at(1)].join(' | ');
}

async function writeElsewhere(order: Order): Promise<Commits> {
  const child = fork(fileURLToPath(import.meta.url), { execArgv: ['--import', import.meta.resolve('tsx')] });
  const ended = once(child, 'exit');
  child.send(order);
  const [commits] = (await once(child, 'message')) as [Commits];
  child.disconnect();
  await ended;
  return commits;
}

async function connect(url: string): Promise<Client> {
  const client = new Client(url);
  await client.connect();
  return client;
}
