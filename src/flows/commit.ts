import { publish } from '../observability/channels.js';
import type { TouchedEntry, TransactionRecord } from '../invalidation/TransactionRecord.js';
import type { GuardedStore } from '../stores/GuardedStore.js';
import type { Region } from '../stores/Region.js';

/** How old a soft lock may be when its commit begins: older ones are asked for again, to last as long as any. */
const AHEAD_MS = 1_000;

/**
 * During a flush that has a transaction of its own: sends soft locks of what it writes along with its statements, so that
 * the commit rarely has to wait for them. It is a head start and no more: the commit waits until they are confirmed, and
 * asks again for those that weren't, or that are old by then.
 */
export function lockAhead(record: TransactionRecord): void {
  if (record.aheadState !== 'none') return;
  record.aheadState = 'due';
  // a flush's hooks run as microtasks, and the next tick comes when none is left: once for all changes, behind the statement
  process.nextTick(sendAhead, record);
}

function sendAhead(record: TransactionRecord): void {
  if (record.aheadState !== 'due') return;
  record.aheadState = 'none';
  for (const [store, touched] of byStore(record)) {
    const entries = touched.filter((entry) => isStrict(entry) && !record.ahead.has(entry.key));
    if (entries.length === 0 || !hasSoftLocks(store)) continue;
    const sentAt = performance.now();
    const confirmed = lockEntries(record, store, entries).catch(() => false);
    for (const { key } of entries) record.ahead.set(key, { sentAt, confirmed });
    const before = record.locking.get(store);
    record.locking.set(store, before ? Promise.all([before, confirmed]) : confirmed);
  }
}

/**
 * Just before COMMIT: soft-locks what the transaction touched and isn't locked yet. From here until the release, nobody
 * reads or fills these entries, so nobody can see the old row once the new one is committed, whatever becomes of this
 * process.
 *
 * Only `read-write` regions, and those that reject commits that a store can't be told of, wait for the confirmation. For
 * others the lock is under way while PostgreSQL commits, and costs no time; it is there for a writer that dies. A store
 * without soft locks is told after the commit.
 *
 * @throws {StoreError} when a store can't be told and a region of it rejects; the transaction is then rolled back
 */
export async function lockTouched(record: TransactionRecord): Promise<void> {
  record.aheadState = 'over';
  await eachStore(record, (store, touched) => lockIn(record, store, touched));
}

async function lockIn(record: TransactionRecord, store: GuardedStore, touched: readonly TouchedEntry[]): Promise<void> {
  if (!hasSoftLocks(store)) {
    if (touched.some(rejects)) await store.ping();
    return;
  }
  const locking = lockRest(record, store, touched);
  record.locking.set(store, Promise.allSettled([record.locking.get(store), locking]));
  if (touched.some((entry) => isStrict(entry) || rejects(entry)) && (await locking)) record.locked.add(store);
}

/** Locks what isn't locked ahead. Returns whether all locks are confirmed. */
async function lockRest(
  record: TransactionRecord,
  store: GuardedStore,
  touched: readonly TouchedEntry[],
): Promise<boolean> {
  const ahead = touched.map(({ key }) => record.ahead.get(key));
  const isSent = ahead.every((lock) => lock !== undefined);
  const isConfirmed = isSent && (await areAll(new Set(ahead.map(({ confirmed }) => confirmed))));
  const isYoung = ({ region: { options } }: TouchedEntry, index: number): boolean =>
    performance.now() - ahead[index]!.sentAt <= Math.min(AHEAD_MS, (options.softLockTtl - options.leaseTtl) / 10);
  return isConfirmed && touched.every(isYoung) ? true : lockEntries(record, store, touched);
}

/** Those of one flush are one promise. */
async function areAll(confirmed: ReadonlySet<Promise<boolean>>): Promise<boolean> {
  let all = true;
  for (const isConfirmed of confirmed) all = (await isConfirmed) && all;
  return all;
}

/**
 * For a transaction whose end won't be seen: takes what was touched out of the stores, whatever its region promises, and
 * leaves the soft locks to run out.
 */
export async function lockForGood(record: TransactionRecord): Promise<void> {
  await eachStore(record, (store, touched) => lockEntries(record, store, touched));
  for (const { region, key } of record.touched()) region.near?.drop([key]);
}

/** Returns whether the locks are confirmed. */
async function lockEntries(
  record: TransactionRecord,
  store: GuardedStore,
  touched: readonly TouchedEntry[],
): Promise<boolean> {
  const lockMs = Math.max(...touched.map(({ region }) => region.options.softLockTtl));
  try {
    await store.lockMany(touched.map(toEntry), record.holder, lockMs);
    for (const { region } of touched) region.count('soft-lock');
    return true;
  } catch (error) {
    if (touched.some(rejects)) throw error;
    return false;
  }
}

/**
 * Just after COMMIT or ROLLBACK: takes the soft locks back, also those whose confirmation never came. What a store
 * can't be told of is remembered and kept out of this process's reads. Never throws: the outcome stands.
 */
export async function releaseTouched(record: TransactionRecord, outcome: 'committed' | 'rolled-back'): Promise<void> {
  record.aheadState = 'over';
  const touched = record.touched();
  if (outcome === 'committed' && record.cleared.size > 0) await Promise.all([...record.cleared].map(clearRegion));
  if (touched.length === 0) return;
  const told = await eachStore(record, (store, entries) => releaseEntries(record, store, entries, outcome));
  for (const { region, key } of touched) region.near?.drop([key]);
  publish('commit', { entries: touched.length, outcome, released: told.every(Boolean) });
}

async function releaseEntries(
  record: TransactionRecord,
  store: GuardedStore,
  touched: readonly TouchedEntry[],
  outcome: 'committed' | 'rolled-back',
): Promise<boolean> {
  const isCommitted = outcome === 'committed';
  if (!hasSoftLocks(store)) return isCommitted ? store.evictMany(touched.map(toEntry)) : true;
  // nothing was changed, and nothing locked
  if (!isCommitted && !record.locking.has(store)) return true;
  // a lock that came after its release would stay until it runs out
  await record.locking.get(store);
  const isLocked = record.locked.has(store);
  // a lock that wasn't confirmed before COMMIT may follow a later writer's: writing through would undo that one
  const writeThrough = isCommitted && isLocked;
  return store.releaseMany(
    touched.map((entry) => toRelease(entry, writeThrough)),
    record.holder,
    isLocked,
  );
}

async function clearRegion({ store, name, near }: Region): Promise<void> {
  // a store that can't be told remembers
  await store.clear(name).catch(() => undefined);
  near?.dropAll();
}

function isStrict({ region }: TouchedEntry): boolean {
  return region.options.strategy === 'read-write';
}

function rejects({ region }: TouchedEntry): boolean {
  return region.options.onStoreFailure === 'reject';
}

function hasSoftLocks({ store }: GuardedStore): boolean {
  return store.capabilities.softLocks;
}

function byStore(record: TransactionRecord): [GuardedStore, TouchedEntry[]][] {
  const touched = record.touched();
  const store = touched[0]?.region.store;
  // nearly always it is one
  if (store && touched.every(({ region }) => region.store === store)) return [[store, touched]];
  return [...Map.groupBy(touched, ({ region }) => region.store)];
}

/** Does something in all stores at once. */
function eachStore<T>(
  record: TransactionRecord,
  work: (store: GuardedStore, touched: readonly TouchedEntry[]) => Promise<T>,
): Promise<T[]> {
  const stores = byStore(record);
  if (stores.length === 1) return work(...stores[0]!).then((result) => [result]);
  return Promise.all(stores.map(([store, touched]) => work(store, touched)));
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
