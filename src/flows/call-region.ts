import { lookupKeyText, primaryKeyText, rowKeyText } from '../codec/primary-key.js';
import { isNamedBy, type Lookup } from '../natural-keys/lookup.js';
import { planFor } from '../natural-keys/plan.js';
import { driverOf, type EntityManager } from '../orm/context.js';
import { comparableValue, isOfKind } from '../orm/entities.js';
import type { Meta } from '../orm/metadata.js';
import type { LockEntry } from '../stores/CacheStore.js';
import type { GuardedStore } from '../stores/GuardedStore.js';
import type { Region } from '../stores/Region.js';
import type { Entry } from './batch.js';
import type { Data } from './call.js';

/** Says in a row whether its transaction had written anything when the row was read. */
export const CLEAN = '__plus_clean';

/** A region as one call sees it. */
export interface CallRegion {
  readonly em: EntityManager;
  readonly meta: Meta;
  readonly schema: string | undefined;
  readonly region: Region;
  /** The store of lookup entries. */
  readonly hints: GuardedStore;
  /** Whether the call began in a transaction. */
  readonly inTransaction: boolean;
}

/** Whether the cache may answer outside of a transaction: never past row-level security. */
export function mayAnswer({ em }: CallRegion): boolean {
  return em.getSessionContext() === undefined;
}

/**
 * Whether a cached row can be known to be the one that a query would return. A partial index's row is defined by its
 * predicate, which can't be checked on a cached row; without a unique key there may be a second row meanwhile.
 */
export function serves({ em, region }: CallRegion, lookup: Lookup): boolean {
  const { key } = planFor(driverOf(em), lookup);
  return key !== undefined && key.predicate === undefined && region.covers(lookup);
}

/** Whether a cached row is the one that a query for the lookup would return. */
export function isAnswer({ em, meta }: CallRegion, lookup: Lookup, data: Readonly<Data>): boolean {
  return isOfKind(meta, data) && isNamedBy(lookup, (prop) => comparableValue(em, prop, data));
}

/**
 * Whether the row of an answer is known to be committed: outside a transaction, or read in one that hadn't written
 * anything.
 */
export function isCommitted({ em, inTransaction }: CallRegion, { answer }: Entry): boolean {
  if (inTransaction) return !answer!.created && answer!.row?.[CLEAN] === true;
  // the caller may have begun a transaction on the same EntityManager meanwhile, and the row may be its own
  return !em.isInTransaction();
}

/** The key of a row's entry, by the row's primary key. */
export function keyOfRow(view: CallRegion, primaryKey: string): string {
  return view.region.objectKey(schemaOfRows(view), primaryKey);
}

/** The key of the row's entry that a lookup by primary key names. */
export function keyNamedBy(view: CallRegion, lookup: Lookup): string | undefined {
  const primaryKey = lookupKeyText(lookup);
  return primaryKey === undefined ? undefined : keyOfRow(view, primaryKey);
}

/** The key of the row that answered; `undefined` when it didn't come from the database, or is in doubt. */
export function keyOfAnswer(view: CallRegion, { answer }: Entry): string | undefined {
  if (answer?.servedBy !== 'database' || !answer.row) return undefined;
  const primaryKey = primaryKeyText(answer.entity);
  // the entity may have an unflushed new key, or be another one that an overridden createEntity() chose to return
  return rowKeyText(view.em, view.meta, answer.row) === primaryKey ? keyOfRow(view, primaryKey) : undefined;
}

/** The entry of a lookup's own, which holds the primary key of its row. */
export function hintEntry(view: CallRegion, lookup: Lookup): LockEntry {
  const { region } = view;
  return { key: region.lookupKey(schemaOfRows(view), lookup), region: region.hintRegion };
}

/** Where a lookup led when it was last asked. */
export function recall({ em, region, schema }: CallRegion, lookup: Lookup): string | undefined {
  return region.recall(planFor(driverOf(em), lookup), schema, lookup);
}

/** Remembers where a lookup led; nothing to forget it. */
export function remember({ em, region, schema }: CallRegion, lookup: Lookup, key: string | undefined): void {
  region.remember(planFor(driverOf(em), lookup), schema, lookup, key);
}

function schemaOfRows({ em, meta, schema }: CallRegion): string | undefined {
  return driverOf(em).getSchemaName(meta, schema === undefined ? {} : { schema });
}
