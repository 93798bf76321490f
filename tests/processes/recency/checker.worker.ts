/** One process of the checker: a reader or a writer with its own ORM. It does what the coordinator orders. */
import { MikroORM, type EntityManager } from '@mikro-orm/postgresql';
import { AsyncLocalStorage } from 'node:async_hooks';
import { subscribe } from 'node:diagnostics_channel';
import { setTimeout as sleep } from 'node:timers/promises';
import { PlusSubscriber, StoreError, type CommitMessage, type LookupMessage } from '../../../src/index.js';
import { nowDown, nowUp, type Order, type WorkerSetup } from './protocol.js';
import { Random } from './random.js';
import { Reads } from './reads.js';
import { Row } from './row.js';
import { onStall } from './stalls.js';
import { TrappedStore } from './trapped-store.js';
import { Reporter, WorkerTraps } from './traps.js';
import { MeantToFail, Writes, type WriteWay } from './writes.js';

/** What the library says about the call that runs in this flow. */
interface CallNotes {
  servedBy: string;
  released: boolean;
}

const reporter = new Reporter();
const traps = new WorkerTraps(reporter);
const calls = new AsyncLocalStorage<CallNotes>();
/** How long closing the ORM may take when connections were lost inside transactions. */
const LOST_CLOSE_MS = 1_000;

let lostConnections = 0;
const ending = new AbortController();
let finished = false;
let started: Promise<void> = Promise.resolve();
let work: Promise<unknown> = Promise.resolve();
let close: (() => Promise<void>) | undefined;

subscribe('mikro-orm-plus:lookup', (message) => {
  const notes = calls.getStore();
  if (notes) notes.servedBy = (message as LookupMessage).servedBy;
});
subscribe('mikro-orm-plus:commit', (message) => {
  const notes = calls.getStore();
  if (notes && !(message as CommitMessage).released) notes.released = false;
});
for (const event of ['unhandledRejection', 'uncaughtException'] as const) {
  process.on(event, (error: unknown) => {
    reporter.send({ kind: 'unhandled', error: describe(error), at: nowDown() });
    process.exit(1);
  });
}
process.on('message', (order: Order) => void obey(order));
// the coordinator is gone
process.once('disconnect', () => {
  if (!finished) process.exit();
});

async function obey(order: Order): Promise<void> {
  switch (order.kind) {
    case 'start':
      started = start(order.setup);
      return started;
    case 'arm':
      return traps.arm(order.point, order.trap, order.slowCommitMs);
    case 'disarm':
      return traps.disarm();
    case 'go':
      return traps.go();
    case 'quiet':
      ending.abort();
      return;
    case 'finish':
      ending.abort();
      await started;
      await work;
      reporter.send({ kind: 'ending', step: 'loops' });
      await close?.();
      finished = true;
      process.disconnect();
      if (lostConnections > 0) process.exit();
  }
}

async function start(setup: WorkerSetup): Promise<void> {
  const { name, role, seed, lanes, rows } = setup;
  const store = new TrappedStore(setup.redisUrl, traps, setup.broken);
  const plus = new PlusSubscriber({
    stores: { default: store },
    // every process has a proxy, and so another address, of the one database
    prefix: 'checker',
    regions: setup.region,
  });
  const orm = await MikroORM.init({
    entities: [Row],
    clientUrl: setup.databaseUrl,
    driverOptions: { application_name: name },
    pool: { min: 0, max: 50 },
    subscribers: [traps.atEnd, plus, traps.beforeEnd],
    logger: () => undefined,
  });
  close = async () => {
    reporter.send({ kind: 'statistics', statistics: plus.statistics() });
    // Kysely gives a connection back only after a COMMIT or ROLLBACK that worked: one that was lost in a transaction
    // stays checked out, and the pool waits for it for ever.
    await Promise.race([orm.close(), ...(lostConnections > 0 ? [sleep(LOST_CLOSE_MS)] : [])]);
    reporter.send({ kind: 'ending', step: 'orm' });
    await store.close();
    reporter.send({ kind: 'ending', step: 'store' });
  };
  onStall((from, at) => reporter.send({ kind: 'stalled', from, at }));
  const loop = role === 'reader' ? readLoop : writeLoop;
  const all = Array.from({ length: lanes }, (_value, lane) => loop(orm.em, new Random(seed + lane * 7919), rows));
  work = Promise.all(all);
  reporter.send({ kind: 'ready' });
}

async function readLoop(em: EntityManager, random: Random, rowCount: number): Promise<void> {
  const reads = new Reads(em, random, rowCount);
  while (!ending.signal.aborted) {
    const way = reads.pickWay();
    const notes: CallNotes = { servedBy: '', released: true };
    try {
      const { start: begun, rows } = await calls.run(notes, () => reads.read(way));
      const end = nowUp();
      for (const { id, name, version } of rows) {
        reporter.send({ kind: 'read', row: name, id, version, start: begun, end, how: way, servedBy: notes.servedBy });
      }
    } catch (error) {
      reporter.send({ kind: 'error', where: way, error: describe(error), at: nowDown() });
    }
    await sleep(random.whole(0, 12));
  }
}

async function writeLoop(em: EntityManager, random: Random, rowCount: number): Promise<void> {
  const writes = new Writes(em, random, rowCount, () => traps.takeSlowCommit());
  while (!ending.signal.aborted) {
    try {
      await writeOnce(writes);
    } catch (error) {
      reporter.send({ kind: 'error', where: 'before a write', error: describe(error), at: nowDown() });
    }
    await sleep(random.whole(0, 15));
  }
}

async function writeOnce(writes: Writes): Promise<void> {
  const how = writes.pickWay();
  const row = writes.pickRow();
  const version = await writes.newVersion();
  const notes: CallNotes = { servedBy: '', released: true };
  const begun = nowDown();
  try {
    const changes = await calls.run(notes, () => writes.write(how, row, version));
    const at = nowUp();
    const { released } = notes;
    for (const change of changes) {
      if (change.version === undefined) {
        reporter.send({ kind: 'deleted', row: change.row, id: change.id, how, released, at });
      } else if (how !== 'implicit flush' || (await writes.exists(change.id))) {
        reporter.send({ kind: 'committed', row: change.row, id: change.id, version, begun, at, how, released });
      }
    }
  } catch (error) {
    const at = nowDown();
    if (/connection|ECONNRESET/.test(String(error))) lostConnections += 1;
    const kind = isCertainlyUndone(how, error) ? 'aborted' : 'doubtful';
    reporter.send({ kind, row, version, how, at, error: describe(error) });
  }
}

/** A store that can't be told refuses a commit before it happens, unless the statement was its own transaction. */
function isCertainlyUndone(how: WriteWay, error: unknown): boolean {
  if (error instanceof MeantToFail || /meant to fail|deadlock detected/.test(String(error))) return true;
  return error instanceof StoreError && how !== 'em.upsert';
}

function describe(error: unknown): string {
  const { name = 'Error', message = String(error), cause } = error as Partial<Error>;
  const because = cause instanceof Error ? ` (${cause.message})` : '';
  return `${name}: ${message}${because}`.replaceAll(/\s+/g, ' ').slice(0, 200);
}
