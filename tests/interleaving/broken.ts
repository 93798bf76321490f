import { parts, type Process } from './processes.js';
import { TICKS } from './state-table.js';
import type { World } from './world.js';

const { step, onRow, select, takeGuard, lock, commit, release, acknowledge, update } = parts;

/** Stores a version whatever has happened, as a plain SET would; only a soft lock stops it. */
async function put(world: World, who: string, version: number | undefined): Promise<void> {
  await world.guard(who);
  await world.fill(who, 'guard', version);
}

// Protocols with one thing wrong.

/** A plain cache-aside read. */
export const readerWithoutPermit: Process = function* (who) {
  const version = yield select;
  yield step('puts', (world) => put(world, who, version));
};

/** What it selects may be older than its guard; so is a row of a snapshot that was taken earlier. */
export const readerWithLateGuard: Process = function* (who) {
  const version = yield select;
  yield takeGuard(who);
  yield step('fills', (world) => world.fill(who, 'guard', version));
};

export const readerWithLongGuard: Process = function* (who) {
  yield step('takes a long guard', (world) => world.guard(who, TICKS.lock + 1));
  const version = yield select;
  yield step('fills', (world) => world.fill(who, 'guard', version));
};

export const writerReleasingBeforeCommit: Process = function* (who) {
  if (!(yield update(who))) return;
  yield lock(who);
  yield release(who);
  const version = yield commit(who);
  yield acknowledge(version);
};

export const writerLeavingTheSequence: Process = function* (who) {
  if (!(yield update(who))) return;
  yield lock(who);
  const version = yield commit(who);
  yield step('releases in the wrong region', (world) => world.release(who, undefined, 'elsewhere'));
  yield acknowledge(version);
};

/** Writes its row through without asking whether it was the only holder of the lock. */
export const writerPuttingAfterRelease: Process = function* (who) {
  if (!(yield update(who))) return;
  yield lock(who);
  const version = yield commit(who);
  yield release(who);
  yield step('puts its row', (world) => put(world, who, version));
  yield acknowledge(version);
};

export const writerAcknowledgingFirst: Process = function* (who) {
  if (!(yield update(who))) return;
  yield lock(who);
  const version = yield commit(who);
  yield acknowledge(version);
  yield release(who);
};

export const writerWithoutLock: Process = function* (who) {
  if (!(yield update(who))) return;
  const version = yield commit(who);
  yield release(who);
  yield acknowledge(version);
};

/** Writes through though its lock was never confirmed, and may arrive after another writer's commit. */
export const writerTrustingAnUnconfirmedLock: Process = function* (who) {
  if (!(yield update(who))) return;
  yield step('sends a lock and gives up', (world) => void world.late.set(`lock of ${who}`, () => world.lock(who)));
  const version = yield commit(who);
  yield release(who, version);
  yield acknowledge(version);
};

// Assumptions that don't hold.

/** The select goes to a replica that may be one commit behind. */
export const readerOfReplica: Process = function* (who) {
  yield takeGuard(who);
  const version = yield step('selects from a replica that lags', (world) => Math.max(1, world.committed - 1));
  yield step('fills', (world) => world.fill(who, 'guard', version));
};

/** The store is restored from a backup with the first version of the row in it. */
export const restoredBackup: Process = function* (who) {
  yield step('restores the store', (world) => put(world, who, 1));
};

export const clockSetBack: Process = function* () {
  yield step("sets the store's clock back", (world) => world.passTicks(-TICKS.lock));
};

/** `psql`, another service, a trigger: nobody tells the store. */
export const writerUnseen: Process = function* () {
  const version = yield onRow('writes and COMMITs', (world) => world.commit('unseen'));
  yield acknowledge(version);
};

/** Can't reach the store, commits all the same, and tells the store when it is back, if it lives. */
export const writerCutOff: Process = function* (who) {
  if (!(yield update(who))) return;
  const version = yield commit(who);
  yield acknowledge(version);
  yield step('reaches the store again and evicts', (world) => world.evict());
};

/**
 * A client that sends a command again after a reconnect, while both copies that it gave up stay in the network until
 * long after the writer's end.
 */
export const writerWithCopies: Process = function* (who) {
  if (!(yield update(who))) return;
  yield lock(who);
  const version = yield commit(who);
  yield step('releases, copies of lock and release stay under way', async (world) => {
    await world.release(who, version);
    world.late.set(`copied lock of ${who}`, () => world.lock(who));
    world.late.set(`copied release of ${who}`, () => world.release(who, version));
  });
  yield acknowledge(version);
};
