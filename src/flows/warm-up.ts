import { FlushMode, Reference, ReferenceKind, type EntityName, type FilterQuery } from '@mikro-orm/core';
import { StoreError } from '../errors.js';
import { primaryKeyText, rowKeyText } from '../codec/primary-key.js';
import { parseLookup, type Lookup } from '../natural-keys/lookup.js';
import { uniqueKeysOf } from '../natural-keys/unique-keys.js';
import { driverOf, type EntityManager } from '../orm/context.js';
import type { Meta } from '../orm/metadata.js';
import type { FillEntry } from '../stores/CacheStore.js';
import type { GuardedStore } from '../stores/GuardedStore.js';
import type { Region } from '../stores/Region.js';
import type { Call, Data } from './call.js';
import { findRows, TAKEN } from './find.js';
import type { OnProgress } from './progress.js';

/** What to warm up, and where to. */
export interface WarmUp {
  readonly em: EntityManager;
  readonly meta: Meta;
  readonly schema: string | undefined;
  readonly region: Region;
  /** The store of lookup entries. */
  readonly hints: GuardedStore;
  readonly where: FilterQuery<object>;
  readonly chunkSize: number;
  readonly onProgress: OnProgress | undefined;
  readonly signal: AbortSignal | undefined;
}

/** A row as it was read, and its entity. */
interface Read {
  readonly entity: object;
  readonly row: Data;
}

/**
 * Fills a region with the rows that a query finds, and the store of lookups with those of their unique keys, chunk by
 * chunk in the order of the primary key; no more than a chunk is in memory. A chunk is filled under guards that were
 * taken before its rows were read, so that a row which is written meanwhile isn't put back.
 *
 * @returns how many rows were put into the store
 * @throws {StoreError} when the store doesn't answer, or a relay that it needs doesn't listen
 */
export async function warmUp(work: WarmUp): Promise<number> {
  const { region, hints } = work;
  const total = work.onProgress ? await countRows(work) : 0;
  let [filled, done] = [0, 0];
  let after: string | undefined;
  do {
    work.signal?.throwIfAborted();
    const guard = requireGuard(await region.guard(), region.store, work);
    const hintGuard = requireGuard(await hints.guard(region.hintRegion, region.options.leaseTtl), hints, work);
    // an EntityManager per chunk: what it managed is garbage afterwards
    const em = work.em.fork();
    const page = await readPage(work, em, after);
    filled += await fillRows(work, em, await readRows(work, em, page.entities), guard, hintGuard);
    done += page.entities.length;
    after = page.next;
    if (page.entities.length > 0) work.onProgress?.({ done, total: Math.max(total, done) });
  } while (after !== undefined);
  return filled;
}

function requireGuard(guard: string | undefined, store: GuardedStore, { meta }: WarmUp): string {
  if (guard !== undefined) return guard;
  throw new StoreError(
    `The store '${store.alias}' doesn't answer, or isn't told of changes now, so ${meta.className} can't be warmed up.`,
    { entity: meta.className },
  );
}

/** No automatic flush, no filters, from the primary: as every read whose rows are put into the cache. */
function readOptions({ schema, signal }: WarmUp): object {
  return {
    filters: false,
    flushMode: FlushMode.COMMIT,
    connectionType: 'write',
    ...(schema === undefined ? {} : { schema }),
    ...(signal === undefined ? {} : { signal }),
  };
}

function countRows(work: WarmUp): Promise<number> {
  return work.em.fork().count(work.meta.class as EntityName<object>, work.where, readOptions(work));
}

async function readPage(
  work: WarmUp,
  em: EntityManager,
  after: string | undefined,
): Promise<{ entities: readonly object[]; next: string | undefined }> {
  const { meta } = work;
  const page = await em.findByCursor(
    meta.class as EntityName<object>,
    {
      ...readOptions(work),
      where: work.where,
      orderBy: Object.fromEntries(meta.primaryKeys.map((name) => [name, 'asc'])),
      fields: meta.primaryKeys,
      first: work.chunkSize,
      includeCount: false,
      disableIdentityMap: true,
      ...(after === undefined ? {} : { after }),
    } as never,
  );
  return { entities: page.items, next: page.hasNextPage ? page.endCursor! : undefined };
}

/** Reads rows by primary key, as a lookup does; one that is gone by now is left out. */
async function readRows(work: WarmUp, em: EntityManager, keys: readonly object[]): Promise<Read[]> {
  const { meta, schema, signal } = work;
  const lookups = keys.map((entity) => lookupOf(work, em, entity, meta.primaryKeys));
  const options = { filters: false, ...(signal === undefined ? {} : { signal }) };
  const target = { driver: driverOf(em), meta, schema };
  const call: Call = { em, meta, target, options, atomic: false, ...nothingElse };
  const found = await findRows(call, lookups);
  return found.flatMap((match) => (match && match !== TAKEN && match.row ? [{ ...match, row: match.row }] : []));
}

const nothingElse = { createEntity: undefined, cache: undefined, statistics: undefined };

async function fillRows(
  work: WarmUp,
  em: EntityManager,
  rows: readonly Read[],
  sequence: string,
  hintSequence: string,
): Promise<number> {
  const { meta, region, hints } = work;
  const ttlMs = region.options.ttl;
  const effective = driverOf(em).getSchemaName(meta, work.schema === undefined ? {} : { schema: work.schema });
  const objects: FillEntry[] = [];
  const lookups: FillEntry[] = [];
  for (const { entity, row } of rows) {
    const primaryKey = primaryKeyText(entity);
    const key = region.objectKey(effective, primaryKey);
    const value = rowKeyText(em, meta, row) === primaryKey ? region.encode(row, key) : undefined;
    if (value === undefined) continue;
    objects.push({ key, value, ttlMs, permit: { kind: 'guard', region: region.name, sequence } });
    for (const lookup of naturalLookups(work, em, entity)) {
      const permit = { kind: 'guard', region: region.hintRegion, sequence: hintSequence } as const;
      lookups.push({ key: region.lookupKey(effective, lookup), value: primaryKey, ttlMs, permit });
    }
  }
  const [stored] = await Promise.all([
    objects.length > 0 ? region.store.fillMany(objects) : [],
    lookups.length > 0 ? hints.fillMany(lookups) : [],
  ]);
  region.near?.drop(objects.map(({ key }) => key));
  const count = stored.filter(Boolean).length;
  region.count('fill', count);
  region.count('refused-fill', stored.length - count);
  return count;
}

/** The lookups by each unique key whose values can be told from the entity alone. */
function naturalLookups(work: WarmUp, em: EntityManager, entity: object): Lookup[] {
  const [, ...keys] = uniqueKeysOf(driverOf(em), work.meta);
  const named = keys.filter(({ predicate, props }) => predicate === undefined && props.every(isPlain));
  return named.flatMap(({ props }) => {
    const names = props.map(({ name }) => name);
    if (names.some((name) => (entity as Data)[name] == null)) return [];
    const lookup = lookupOf(work, em, entity, names);
    return work.region.covers(lookup) ? [lookup] : [];
  });
}

function isPlain({ kind, embedded, ref }: Meta['props'][number]): boolean {
  if (kind === ReferenceKind.SCALAR) return !embedded && !ref;
  return kind === ReferenceKind.MANY_TO_ONE || kind === ReferenceKind.ONE_TO_ONE;
}

function lookupOf(work: WarmUp, em: EntityManager, entity: object, names: readonly string[]): Lookup {
  const where = Object.fromEntries(
    names.map((name) => [name, Reference.unwrapReference((entity as Data)[name] as object)]),
  );
  return parseLookup(work.meta, where, em.getPlatform());
}
