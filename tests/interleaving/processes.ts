import type { World } from './world.js';

/** One statement or one operation of the store: nothing comes between its beginning and its end. */
export interface Step {
  readonly name: string;
  readonly run: (world: World) => unknown;
  /** Whether the row must not be locked by another transaction. */
  readonly needsRow?: boolean;
}

/** What one caller does, step by step. Each step's result comes back from its `yield`. */
export type Process = (who: string) => Generator<Step, void>;

const step = (name: string, run: Step['run']): Step => ({ name, run });
const onRow = (name: string, run: Step['run']): Step => ({ name, run, needsRow: true });

const select = step('selects', (world) => world.select());
const takeGuard = (who: string) => step('takes a guard', (world) => world.guard(who));
const lock = (who: string) => step('locks', (world) => world.lock(who));
const commit = (who: string, change?: 'update' | 'delete') => step('COMMITs', (world) => world.commit(who, change));
const release = (who: string, version?: number) => step('releases', (world) => world.release(who, version));
const acknowledge = (version: number) =>
  step('acknowledges', (world) => {
    world.acknowledge(version);
  });
const update = (who: string) => onRow('updates the row', (world) => world.update(who));

/** A reader that knows the row's key: by primary key, or by a lookup that is in the store. */
export const knownKey: Process = function* (who) {
  const found = yield step('reads', (world) => world.read(who));
  if (found.kind === 'hit') return;
  const kind = found.kind === 'leased' ? 'lease' : 'guard';
  if (kind === 'guard') yield takeGuard(who);
  const version = yield select;
  yield step('fills', (world) => world.fill(who, kind, version));
};

/** A reader that learns the row's key from the row. */
export const unknownKey: Process = function* (who) {
  yield takeGuard(who);
  const version = yield select;
  if (version !== undefined) yield step('fills', (world) => world.fill(who, 'guard', version));
};

/** A pure insert takes no soft lock. */
export const insert: Process = function* (who) {
  const version = yield onRow('INSERTs', (world) => (world.exists ? undefined : world.commit(who, 'insert')));
  if (version !== undefined) yield acknowledge(version);
};

/** Makes the row when there is none, and stores what it made or found. */
export const getOrCreate: Process = function* (who) {
  yield takeGuard(who);
  const found = yield select;
  let created: number | undefined;
  if (found === undefined) {
    created = yield onRow('INSERTs', (world) => (world.exists ? undefined : world.commit(who, 'insert')));
  }
  const version = found ?? created ?? (yield select);
  yield step('fills', (world) => world.fill(who, 'guard', version));
  if (created !== undefined) yield acknowledge(created);
};

interface WriterOptions {
  readonly change?: 'update' | 'delete';
  readonly writeThrough?: boolean;
}

/** A transaction that changes the row. */
export const writer = ({ change = 'update', writeThrough = false }: WriterOptions = {}): Process =>
  function* (who) {
    if (!(yield update(who))) return;
    yield lock(who);
    const version = yield commit(who, change);
    yield release(who, writeThrough ? version : undefined);
    yield acknowledge(version);
  };

/** A flush, whose lock goes along with its statement; the commit asks for it again when it is old by then. */
export const flush = (asksAgain: boolean): Process =>
  function* (who) {
    yield lock(who);
    if (!(yield update(who))) {
      yield release(who);
      return;
    }
    if (asksAgain) yield lock(who);
    const version = yield commit(who);
    yield release(who);
    yield acknowledge(version);
  };

export const rollback: Process = function* (who) {
  if (!(yield update(who))) return;
  yield lock(who);
  yield step('ROLLs BACK', (world) => world.rollBack());
  yield release(who);
};

/** Rejects its commit since the lock wasn't confirmed in time; the lock arrives some day. */
export const rejectedForLateLock: Process = function* (who) {
  if (!(yield update(who))) return;
  yield step('sends a lock and gives up', (world) => void world.late.set(`lock of ${who}`, () => world.lock(who)));
  yield step('ROLLs BACK', (world) => world.rollBack());
  yield release(who);
};

/** Commits though the lock wasn't confirmed in time (`onStoreFailure: 'bypass'`), and releases without a value. */
export const bypassingLateLock: Process = function* (who) {
  if (!(yield update(who))) return;
  yield step('sends a lock and gives up', (world) => void world.late.set(`lock of ${who}`, () => world.lock(who)));
  const version = yield commit(who);
  yield release(who);
  yield acknowledge(version);
};

/** Its release isn't answered in time: it acknowledges, and the release, with its value, arrives some day. */
export const lateRelease: Process = function* (who) {
  if (!(yield update(who))) return;
  yield lock(who);
  const version = yield commit(who);
  yield step('sends a release and gives up', (world) => {
    world.late.set(`release of ${who}`, () => world.release(who, version));
  });
  yield acknowledge(version);
};

/** The answer to COMMIT is lost: whether it happened isn't known, so the lock is left to run out. */
export const lostCommitAnswer: Process = function* (who) {
  if (!(yield update(who))) return;
  yield lock(who);
  yield commit(who);
};

/** A write outside a transaction that isn't known beforehand, such as `em.upsert()`. */
export const autocommit: Process = function* (who) {
  const version = yield onRow('writes and COMMITs', (world) => (world.exists ? world.commit(who) : undefined));
  if (version === undefined) return;
  yield lock(who);
  yield release(who);
  yield acknowledge(version);
};

/** A write that the library doesn't see, and the `evict()` of its author. */
export const unseenThenEvict: Process = function* (who) {
  const version = yield onRow('writes and COMMITs', (world) => (world.exists ? world.commit(who) : undefined));
  if (version === undefined) return;
  yield step('evicts', (world) => world.evict());
  yield acknowledge(version);
};

export const evict: Process = function* () {
  yield step('evicts', (world) => world.evict());
};

/** The steps of which broken protocols and broken assumptions are made. */
export const parts = { step, onRow, select, takeGuard, lock, commit, release, acknowledge, update };
