import type { Row } from '../../orm/context.js';
import { isAboutKeys, type ChangeLog, type LoggedChange, type LogView } from './ChangeLog.js';
import type { Failures } from './Failures.js';
import type { RelaySession } from './RelaySession.js';
import type { WatchedTable } from './WatchedTable.js';

/** Tables whose changes are delivered together: a store that is down holds up its own tables and no others. */
export interface Lane {
  /** Aliases of the stores. */
  readonly name: string;
  readonly tables: readonly WatchedTable[];
}

/** What one step did. */
export interface Delivery {
  /** Rows of the log that were delivered and removed. */
  readonly changes: number;
  /** Age of the oldest of them in milliseconds, when it was confirmed. */
  readonly lagMs: number;
  /** `more`: there may be more to deliver. `refused`: a store did not confirm, and its changes are still in the log. */
  readonly outcome: 'done' | 'more' | 'refused';
}

/** What a step needs. */
export interface DeliveryContext {
  readonly session: RelaySession;
  readonly log: ChangeLog;
  readonly batchSize: number;
  readonly failures: Failures;
}

/**
 * One step: reads the oldest changes, removes their entries from the stores, and then, and only then, the changes from
 * the log. Whoever dies in between leaves them there for the next, so each is delivered at least once.
 *
 * Changes of a row are delivered in the order of their commits: whoever changes a row waits until those before are
 * committed or gone, and only then gets its number in the log. Between rows the order of numbers isn't that of commits.
 *
 * Nothing depends on it, though, so what is delivered again, by a relay that takes over or by a second one at the same time,
 * may come after what is newer. An eviction only ever removes, and voids the leases and guards of those who may have
 * selected the row before; so all that counts for a change is that some eviction comes after its commit. What is read from
 * the log is committed.
 */
export async function deliver(context: DeliveryContext, view: LogView): Promise<Delivery> {
  const { session, log, batchSize } = context;
  const changes = await log.read(session, view, batchSize);
  const readAt = performance.now();
  const delivered: LoggedChange[] = [];
  const groups = Map.groupBy(changes, ({ schema, table }) => JSON.stringify([schema, table]));
  for (const group of groups.values()) {
    const tables = view.tables.filter((table) => table.isNamed(group[0]!.schema, group[0]!.table));
    // one after the other: the first store that doesn't confirm is one too many to wait for
    const isTold = await evictGroup(context, tables, group);
    if (isTold) delivered.push(...group);
  }
  if (delivered.length > 0)
    await log.remove(
      session,
      delivered.map(({ id }) => id),
    );
  const ages = delivered.map(({ ageMs }) => ageMs);
  const lagMs = ages.length === 0 ? 0 : Math.max(...ages) + performance.now() - readAt;
  const isComplete = delivered.length === changes.length;
  return { changes: delivered.length, lagMs, outcome: !isComplete ? 'refused' : changes.length > 0 ? 'more' : 'done' };
}

async function evictGroup(
  context: DeliveryContext,
  tables: readonly WatchedTable[],
  group: readonly LoggedChange[],
): Promise<boolean> {
  for (const table of tables) {
    // each process follows these by itself
    if (table.isLocal) continue;
    const keys = group.some(({ isWhole }) => isWhole) ? undefined : await readKeys(context, table, group);
    const isTold = keys ? await table.evict(group[0]!.schema, keys) : await table.evictAll();
    if (!isTold) return false;
  }
  return true;
}

/** `undefined` when PostgreSQL can't read them: then any row may be meant. */
async function readKeys(
  { session, log, failures }: DeliveryContext,
  table: WatchedTable,
  group: readonly LoggedChange[],
): Promise<Row[] | undefined> {
  try {
    return await log.readKeys(
      session,
      table,
      group[0]!.schema,
      group.map(({ id }) => id),
    );
  } catch (error) {
    if (!isAboutKeys(error)) throw error;
    failures.add('keys', error as Error);
    return undefined;
  }
}

/** Parts tables by store. A table that is cached in two stores takes both into one lane. */
export function lanesOf(tables: readonly WatchedTable[]): Lane[] {
  const storesOfName = new Map<string, Set<string>>();
  for (const { name, store } of tables) {
    storesOfName.set(name, (storesOfName.get(name) ?? new Set()).add(store));
  }
  const laneOf = ({ name }: WatchedTable): string => [...storesOfName.get(name)!].toSorted().join(' ');
  return [...Map.groupBy(tables, laneOf)].map(([name, members]) => ({ name, tables: members }));
}
