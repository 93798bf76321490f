import { publish } from '../observability/channels.js';
import type { TouchedEntry, TransactionRecord } from '../invalidation/TransactionRecord.js';
import type { GuardedStore } from '../stores/GuardedStore.js';
import type { Region } from '../stores/Region.js';

/**
 * Just before COMMIT: soft-locks what the transaction touched in `read-write` regions. From here until the release,
 * nobody reads or fills these entries, so nobody can see the old row once the new one is committed. Entries of other
 * regions are removed after the commit; where a region rejects commits that a store can't be told of, the store is asked
 * now.
 *
 * @throws {StoreError} when a store can't be told and a region of it rejects; the transaction is then rolled back
 */
export async function lockTouched(record: TransactionRecord): Promise<void> {
  await Promise.all(
    byStore(record).map(async ([store, touched]) => {
      const [locking, evicting] = byPromise(touched);
      await lockEntries(record, store, locking);
      if (evicting.some(({ region }) => region.options.onStoreFailure === 'reject')) await store.ping();
    }),
  );
}

/**
 * For a transaction whose end won't be seen: takes what was touched out of the stores, whatever its region promises, and
 * leaves the soft locks to run out.
 */
export async function lockForGood(record: TransactionRecord): Promise<void> {
  await Promise.all(byStore(record).map(([store, touched]) => lockEntries(record, store, touched)));
  for (const { region, key } of record.touched()) region.near?.drop([key]);
}

async function lockEntries(
  record: TransactionRecord,
  store: GuardedStore,
  touched: readonly TouchedEntry[],
): Promise<void> {
  if (touched.length === 0) return;
  const lockMs = Math.max(...touched.map(({ region }) => region.options.softLockTtl));
  try {
    await store.lockMany(touched.map(toEntry), record.holder, lockMs);
    record.locked.add(store);
    for (const { region } of touched) region.statistics.softLocks += 1;
  } catch (error) {
    if (touched.some(({ region }) => region.options.onStoreFailure === 'reject')) throw error;
  }
}

/** Entries that need soft locks, and those that are only removed after the commit. */
function byPromise(touched: readonly TouchedEntry[]): [locking: TouchedEntry[], evicting: TouchedEntry[]] {
  const isLocking = ({ region }: TouchedEntry): boolean => region.options.strategy === 'read-write';
  return [touched.filter(isLocking), touched.filter((entry) => !isLocking(entry))];
}

/**
 * Just after COMMIT or ROLLBACK: takes the soft locks back, also those whose confirmation never came. What a store
 * can't be told of is remembered and kept out of this process's reads. Never throws: the outcome stands.
 */
export async function releaseTouched(record: TransactionRecord, outcome: 'committed' | 'rolled-back'): Promise<void> {
  const touched = record.touched();
  if (outcome === 'committed') await Promise.all([...record.cleared].map(clearRegion));
  if (touched.length === 0) return;
  const told = await Promise.all(
    byStore(record).map(async ([store, entries]) => {
      const [locking, evicting] = byPromise(entries);
      // a lock that wasn't confirmed may arrive after a later writer's commit: writing through would undo that one
      const writeThrough = outcome === 'committed' && record.locked.has(store);
      const isReleased = await store.releaseMany(
        locking.map((entry) => toRelease(entry, writeThrough)),
        record.holder,
        record.locked.has(store),
      );
      return outcome === 'committed' ? (await store.evictMany(evicting.map(toEntry))) && isReleased : isReleased;
    }),
  );
  for (const { region, key } of touched) region.near?.drop([key]);
  publish('commit', { entries: touched.length, outcome, released: told.every(Boolean) });
}

async function clearRegion({ store, name, near }: Region): Promise<void> {
  // a store that can't be told remembers
  await store.clear(name).catch(() => undefined);
  near?.dropAll();
}

function byStore(record: TransactionRecord): [GuardedStore, TouchedEntry[]][] {
  return [...Map.groupBy(record.touched(), ({ region }) => region.store)];
}

function toEntry({ key, region }: TouchedEntry): { key: string; region: string } {
  return { key, region: region.name };
}

function toRelease(
  { key, region, value }: TouchedEntry,
  writeThrough: boolean,
): Parameters<GuardedStore['releaseMany']>[0][number] {
  const entry = { key, region: region.name };
  return writeThrough && value !== undefined ? { ...entry, value, ttlMs: region.options.ttl } : entry;
}
