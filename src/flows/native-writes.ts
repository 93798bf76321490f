import { FlushMode, LockMode, Utils, type EntityName, type FilterQuery, type Transaction } from '@mikro-orm/core';
import { lookupKeyText, primaryKeyText } from '../codec/primary-key.js';
import { parseLookup } from '../natural-keys/lookup.js';
import type { Meta } from '../orm/metadata.js';
import { inUnit } from '../orm/unit.js';
import type { CacheSession } from './cache-session.js';
import type { Call } from './call.js';

/** Options of MikroORM's own bulk writes, as far as they matter here; all of them are passed on. */
export interface WriteOptions {
  readonly ctx?: Transaction;
  readonly schema?: string;
  readonly filters?: unknown;
}

/** A bulk write of MikroORM's. */
export interface BulkWrite {
  readonly kind: 'update' | 'delete';
  readonly where: unknown;
  /** New values, which may change the primary key. */
  readonly data?: object;
  readonly options: WriteOptions | undefined;
  /** Runs it on the rows that `covered` names. */
  run(covered: unknown): Promise<number>;
}

/**
 * Runs a bulk write with the cache told of every row: the rows are locked and their keys noted first, and exactly they
 * are written, in the caller's transaction or in one of the write's own.
 */
export async function coverWrite(call: Call, write: BulkWrite): Promise<number> {
  const { meta, cache } = call;
  if (!cache) return write.run(write.where);
  if (write.kind === 'update') cache.requireWritable();
  return inTransactionOf(call, write.options, async () => {
    const rows = await lockRows(call, write);
    if (rows.length === 0) return 0;
    const keys = rows.map((row) => keyOf(meta, row));
    const texts = rows.map(primaryKeyText);
    await cache.noteKeys([...texts, ...newKeyTexts(call, keys, write.data)], write.options?.ctx);
    const [name] = meta.primaryKeys;
    return write.run(
      meta.primaryKeys.length === 1 ? { [name!]: { $in: keys.map((key) => key[name!]) } } : { $or: keys },
    );
  });
}

/**
 * Runs an upsert of MikroORM's with the cache told of the rows before the commit. Their keys are known only afterwards,
 * so it takes a transaction: the caller's, or one of the upsert's own.
 */
export async function coverUpsert<R>(
  call: Call,
  options: WriteOptions | undefined,
  upsert: () => Promise<R>,
): Promise<R> {
  const { cache } = call;
  if (!cache) return upsert();
  cache.requireWritable();
  return inTransactionOf(call, options, async () => {
    const result = await upsert();
    await noteEntities(cache, [result].flat() as object[], options);
    return result;
  });
}

/**
 * Runs an update that gives rows new primary keys: the entries of the old ones are as stale as those of the new, and
 * the update itself doesn't tell them.
 */
export async function coverKeyChange<R>(call: Call, wheres: readonly unknown[], update: () => Promise<R>): Promise<R> {
  const { cache } = call;
  if (!cache) return update();
  cache.requireWritable();
  return inTransactionOf(call, undefined, async () => {
    for (const where of wheres) {
      const rows = await lockRows(call, { kind: 'update', where, options: { filters: false } });
      await cache.noteKeys(rows.map(primaryKeyText));
    }
    return update();
  });
}

/** Of a transaction that is only given as an option, no event tells. */
async function noteEntities(
  cache: CacheSession,
  entities: readonly object[],
  options: WriteOptions | undefined,
): Promise<void> {
  if (options?.ctx) await cache.noteKeys(entities.map(primaryKeyText), options.ctx);
}

async function inTransactionOf<R>({ em }: Call, options: WriteOptions | undefined, work: () => Promise<R>): Promise<R> {
  return em.isInTransaction() || options?.ctx ? work() : inUnit(em, work);
}

/** The rows that a write is about to change, in one order that every process shares; nobody else changes them now. */
async function lockRows(
  { em, meta }: Call,
  { kind, where, options }: Pick<BulkWrite, 'kind' | 'where' | 'options'>,
): Promise<object[]> {
  const scope = em.fork({ keepTransactionContext: true });
  if (options?.ctx) scope.setTransactionContext(options.ctx);
  const filters = (options?.filters ?? {}) as never;
  const condition = await em.applyFilters(
    meta.class,
    whereObject(meta, where),
    filters,
    kind,
    (options ?? {}) as never,
  );
  const rows = await scope.find(
    meta.class as EntityName<object>,
    (condition ?? {}) as FilterQuery<object>,
    {
      ...options,
      filters: false,
      fields: meta.primaryKeys,
      orderBy: Object.fromEntries(meta.primaryKeys.map((name) => [name, 'asc'])),
      lockMode: LockMode.PESSIMISTIC_WRITE,
      flushMode: FlushMode.COMMIT,
    } as never,
  );
  return rows;
}

/** MikroORM takes a primary key in the place of a condition. */
function whereObject(meta: Meta, where: unknown): unknown {
  if (!Utils.isPrimaryKey(where, meta.compositePK)) return where;
  const values = meta.compositePK ? (where as unknown[]) : [where];
  return Object.fromEntries(meta.primaryKeys.map((name, index) => [name, values[index]]));
}

/** A row's primary key as a condition; a relation counts as the primary key of its target. */
function keyOf(meta: Meta, row: object): Record<string, unknown> {
  return Object.fromEntries(
    meta.primaryKeys.map((name) => [
      name,
      Utils.extractPK((row as Record<string, unknown>)[name]) ?? (row as never)[name],
    ]),
  );
}

/** The keys that rows get from the write itself; values that are SQL can't be known, and have no entries yet. */
function newKeyTexts({ em, meta }: Call, keys: readonly Record<string, unknown>[], data: object = {}): string[] {
  const changed = meta.primaryKeys.filter((name) => Object.hasOwn(data, name));
  if (changed.length === 0) return [];
  return keys.flatMap((key) => {
    try {
      const lookup = parseLookup(
        meta,
        { ...key, ...Object.fromEntries(changed.map((name) => [name, data[name as never]])) },
        em.getPlatform(),
      );
      return lookupKeyText(lookup) ?? [];
    } catch {
      return [];
    }
  });
}
