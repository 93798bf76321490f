import type { Transaction } from '@mikro-orm/core';
import { primaryKeyText } from '../codec/primary-key.js';
import { ReadOnlyRegionError } from '../errors.js';
import { TransactionRecord, type TransactionRecords } from '../invalidation/TransactionRecord.js';
import { noteManaged } from '../natural-keys/managed.js';
import { run, type EntityManager, type Row } from '../orm/context.js';
import { fireOnLoad, hearsLoads, hydrateData, mapRow } from '../orm/entities.js';
import type { Region, RegionRead } from '../stores/Region.js';
import type { Batch, Entry, Trail } from './batch.js';
import { fillRegion, putHints } from './cache-fills.js';
import type { CacheSession } from './cache-session.js';
import {
  CLEAN,
  hintEntry,
  isAnswer,
  keyNamedBy,
  keyOfRow,
  mayAnswer,
  recall,
  remember,
  serves,
  type CallRegion,
} from './call-region.js';
import { lockForGood } from './commit.js';

/** What this call may do: read and store, store only, or neither. */
type Mode = 'normal' | 'refresh' | 'bypass';

/** The environment of a {@link LookupCache}. */
export interface LookupCacheContext extends CallRegion {
  readonly refresh: boolean;
  readonly records: TransactionRecords;
  /** Entities whose upsert a call of the library's tells the cache of. */
  readonly ownUpserts: WeakSet<object>;
}

/**
 * One call's view of the cache, in two steps: lookup -> primary key, primary key -> row. The first is only a hint: what
 * the second gives is compared with the lookup, so renames and deletions need no invalidation of hints.
 */
export class LookupCache implements CacheSession {
  readonly #context: LookupCacheContext;
  readonly #record: TransactionRecord | undefined;
  #mode: Mode = 'bypass';
  #guard: string | undefined;
  #wrote = false;

  constructor(context: LookupCacheContext) {
    this.#context = context;
    this.#record = context.records.of(context.em.getTransactionContext());
  }

  get extraColumns(): string {
    return this.#context.inTransaction && this.#mode !== 'bypass'
      ? `, pg_current_xact_id_if_assigned() is null as "${CLEAN}"`
      : '';
  }

  peek(batch: Batch): void {
    const { region, em, meta, inTransaction } = this.#context;
    // in a transaction the server must be asked first, and the listeners of onLoad are to be waited for
    if (!region.near || inTransaction || !mayAnswer(this.#context) || hearsLoads(em, meta)) return;
    for (const entry of batch.entries) {
      if (!entry.answer && serves(this.#context, entry.lookup)) this.#takeCopy(entry);
    }
  }

  #takeCopy(entry: Entry): void {
    const { region, em, meta, schema } = this.#context;
    const key = keyNamedBy(this.#context, entry.lookup) ?? recall(this.#context, entry.lookup);
    const copy = key === undefined ? undefined : region.copyOf({ key, region: region.name });
    const data = copy && region.mapCopy(copy, key!, (row) => mapRow(em, meta, row));
    if (!data || !isAnswer(this.#context, entry.lookup, data.values)) return;
    const entity = hydrateData(em, meta, data.copy(), schema);
    entry.answerWith({ entity, servedBy: 'near-cache' });
    noteManaged(em, entry.lookup, schema, entity);
  }

  async read(batch: Batch): Promise<void> {
    const open = batch.entries.filter(({ answer, lookup }) => !answer && serves(this.#context, lookup));
    if (open.length === 0) return;
    if (!(this.#context.inTransaction ? await this.#mayAnswerInside() : mayAnswer(this.#context))) return;
    this.#mode = this.#context.refresh ? 'refresh' : 'normal';
    for (const entry of open) entry.trail = trailOf(this.#context, entry);
    if (this.#mode === 'normal') {
      const unled = open.filter((entry) => !this.#isLed(entry));
      if (unled.length > 0) await this.#readHints(unled);
      await this.#readObjects(open);
    }
    const unleased = open.some(({ answer, trail }) => !answer && !trail!.objectToken);
    // before the select: a fill is refused if anything in the region was written from here on
    if (unleased) this.#guard = await this.#context.region.guard();
  }

  async fill(batch: Batch): Promise<void> {
    if (this.#wrote && !this.#context.inTransaction) return putHints(this.#context, batch.entries);
    if (this.#mode !== 'bypass') await fillRegion(this.#context, batch.entries, this.#guard);
  }

  async written(entries: readonly Entry[]): Promise<void> {
    this.#wrote = true;
    await this.#touch(entries.map(({ answer }) => ({ primaryKey: primaryKeyText(answer!.entity), row: answer!.row })));
  }

  requireWritable(): void {
    const { region, meta } = this.#context;
    if (region.options.strategy === 'read-only') throw readOnlyError(meta.className);
  }

  announce(entity: object): void {
    this.#context.ownUpserts.add(entity);
  }

  async noteKeys(primaryKeys: readonly string[], transaction?: Transaction): Promise<void> {
    const rows = primaryKeys.map((primaryKey) => ({ primaryKey, row: undefined }));
    await this.#touch(rows, transaction);
  }

  async #touch(
    rows: readonly { primaryKey: string; row: Row | undefined }[],
    transaction = this.#context.em.getTransactionContext(),
  ): Promise<void> {
    const { region, inTransaction } = this.#context;
    const known = this.#context.records.of(transaction);
    const record = known ?? new TransactionRecord();
    for (const { primaryKey, row } of rows) {
      const key = keyOfRow(this.#context, primaryKey);
      // in the caller's transaction anything may still change the row; in the call's own nothing does
      const isOwn = !inTransaction && mayAnswer(this.#context);
      record.touch(region, key, isOwn && row ? region.encode(row, key) : undefined);
    }
    // a transaction that MikroORM's events don't tell of: its end won't be seen, so the locks are left to run out
    if (!known) await lockForGood(record);
  }

  /** In a transaction only under READ COMMITTED, where a statement may see what others have committed since its start. */
  async #mayAnswerInside(): Promise<boolean> {
    return mayAnswer(this.#context) && this.#record !== undefined && (await this.#isReadCommitted(this.#record));
  }

  /** The isolation level can't change once the transaction has run a statement, so the server is asked once. */
  async #isReadCommitted(record: TransactionRecord): Promise<boolean> {
    record.cacheable ??= isReadCommitted(this.#context.em);
    try {
      return await record.cacheable;
    } catch (error) {
      // a failed transaction can be saved by the rollback of a savepoint
      record.cacheable = undefined;
      throw error;
    }
  }

  /** Whether it is known which row a lookup leads to, as far as that can be known without a look at its own entry. */
  #isLed({ lookup, trail }: Entry): boolean {
    if (!trail!.isIndirect) return true;
    trail!.objectKey = recall(this.#context, lookup);
    trail!.hinted = trail!.objectKey !== undefined;
    return trail!.hinted;
  }

  async #readHints(asking: readonly Entry[]): Promise<void> {
    const { region, hints } = this.#context;
    const results = await region.readHints(
      hints,
      asking.map(({ lookup }) => hintEntry(this.#context, lookup)),
    );
    asking.forEach(({ lookup, trail }, index) => {
      const result = results[index]!;
      if (result.kind === 'leased') trail!.hintToken = result.token;
      if (result.kind !== 'hit') return;
      trail!.hinted = true;
      trail!.objectKey = keyOfRow(this.#context, result.value);
      remember(this.#context, lookup, trail!.objectKey);
    });
  }

  async #readObjects(open: readonly Entry[]): Promise<void> {
    const { region, em, meta, schema } = this.#context;
    const asking = open.filter(({ trail }) => {
      const { objectKey } = trail!;
      // what this transaction wrote, others must not have answered
      return objectKey !== undefined && !this.#record?.hasTouched(region, objectKey);
    });
    if (asking.length === 0) return;
    const results = await readEachOnce(
      region,
      asking.map(({ trail }) => trail!.objectKey!),
    );
    for (const [index, entry] of asking.entries()) {
      const eviction = this.#take(entry, results[index]!);
      if (eviction) await eviction;
    }
    if (hearsLoads(em, meta) && asking.some(({ answer }) => answer)) await fireOnLoad(em, meta);
    for (const entry of asking) if (entry.answer) noteManaged(em, entry.lookup, schema, entry.answer.entity);
  }

  /** Takes what a read found; waits for something only when it has to be removed. */
  #take(entry: Entry, result: RegionRead): Promise<void> | undefined {
    const { em, meta, schema, region } = this.#context;
    const trail = entry.trail!;
    const key = trail.objectKey!;
    if (result.kind === 'leased') trail.objectToken = result.token;
    if (result.kind !== 'hit') return undefined;
    const row = region.decode(result.value, key);
    if (!row) return this.#evict(key);
    const data = mapRow(em, meta, row);
    if (isAnswer(this.#context, entry.lookup, data)) {
      const entity = hydrateData(em, meta, data, schema);
      entry.answerWith({ entity, servedBy: result.isNear ? 'near-cache' : 'store' });
    }
    return undefined;
  }

  async #evict(key: string): Promise<void> {
    const { region } = this.#context;
    region.count('eviction');
    await region.store.evictMany([{ key, region: region.name }]);
    // of an entry that the store had already lost, it tells nobody
    region.near?.drop([key]);
  }
}

function trailOf(view: CallRegion, { lookup }: Entry): Trail {
  const objectKey = keyNamedBy(view, lookup);
  return {
    isIndirect: objectKey === undefined,
    hintToken: undefined,
    hinted: false,
    objectKey,
    objectToken: undefined,
  };
}

/** Reads rows by their keys, of which lookups of one row share one. */
async function readEachOnce(region: Region, keys: readonly string[]): Promise<readonly RegionRead[]> {
  const distinct = keys.length === 1 ? keys : [...new Set(keys)];
  const results = await region.read(distinct.map((key) => ({ key, region: region.name })));
  if (distinct.length === keys.length) return results;
  const byKey = new Map(distinct.map((key, index) => [key, results[index]!]));
  return keys.map((key) => byKey.get(key)!);
}

export function readOnlyError(entity: string): ReadOnlyRegionError {
  return new ReadOnlyRegionError(
    `The cache region of ${entity} is read-only, so its rows can't be updated: use another strategy for rows that change.`,
    { entity },
  );
}

async function isReadCommitted(em: EntityManager): Promise<boolean> {
  const [row] = await run(em, { sql: "select current_setting('transaction_isolation') as level", params: [] });
  return row?.level === 'read committed';
}
