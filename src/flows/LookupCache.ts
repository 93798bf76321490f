import type { Transaction } from '@mikro-orm/core';
import { lookupKeyText, primaryKeyText, rowKeyText } from '../codec/primary-key.js';
import { ReadOnlyRegionError } from '../errors.js';
import { TransactionRecord, type TransactionRecords } from '../invalidation/TransactionRecord.js';
import type { Lookup } from '../natural-keys/lookup.js';
import { keyText } from '../natural-keys/lookup.js';
import { noteManaged } from '../natural-keys/managed.js';
import { planFor } from '../natural-keys/plan.js';
import { run, type EntityManager, type Row } from '../orm/context.js';
import { comparableData, fireOnLoad, hearsLoads, hydrateData, isOfKind, mapRow } from '../orm/entities.js';
import type { Meta } from '../orm/metadata.js';
import type { FillEntry, LockEntry } from '../stores/CacheStore.js';
import type { GuardedStore } from '../stores/GuardedStore.js';
import type { Region, RegionRead } from '../stores/Region.js';
import type { Batch, Entry } from './batch.js';
import type { CacheSession } from './cache-session.js';
import type { Data } from './call.js';
import { driverOf } from '../orm/context.js';
import { lockForGood } from './commit.js';

/** Says in a row whether its transaction had written anything when the row was read. */
const CLEAN = '__plus_clean';

/** What this call may do: read and store, store only, or neither. */
type Mode = 'normal' | 'refresh' | 'bypass';

/** What a call knows about one of its lookups in the cache. */
interface Trail {
  /** Whether the lookup has an entry of its own, since it isn't the primary key itself. */
  readonly isIndirect: boolean;
  hintToken: string | undefined;
  /** Whether the lookup's own entry named a row, right or wrong. */
  hinted: boolean;
  /** Key of the row's entry, as the hint or the lookup names it. */
  objectKey: string | undefined;
  objectToken: string | undefined;
}

/** The environment of a {@link LookupCache}. */
export interface LookupCacheContext {
  readonly em: EntityManager;
  readonly meta: Meta;
  readonly schema: string | undefined;
  readonly refresh: boolean;
  readonly region: Region;
  /** The store of lookup entries. */
  readonly hints: GuardedStore;
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
  readonly #inTransaction: boolean;
  readonly #record: TransactionRecord | undefined;
  readonly #trails = new Map<Entry, Trail>();
  #mode: Mode = 'bypass';
  #guard: string | undefined;
  /** The schema of the rows, once it was asked for. */
  #schema: [string | undefined] | undefined;
  #wrote = false;

  constructor(context: LookupCacheContext) {
    this.#context = context;
    this.#inTransaction = context.em.isInTransaction();
    this.#record = context.records.of(context.em.getTransactionContext());
  }

  get extraColumns(): string {
    return this.#inTransaction && this.#mode !== 'bypass'
      ? `, pg_current_xact_id_if_assigned() is null as "${CLEAN}"`
      : '';
  }

  peek(batch: Batch): void {
    const { region, em, meta } = this.#context;
    // in a transaction the server must be asked first, and the listeners of onLoad are to be waited for
    if (!region.near || this.#inTransaction || !this.#mayAnswer() || hearsLoads(em, meta)) return;
    for (const entry of batch.entries) {
      if (!entry.answer && this.#serves(entry.lookup)) this.#takeCopy(entry);
    }
  }

  #takeCopy(entry: Entry): void {
    const { region, em, meta, schema } = this.#context;
    const primaryKey = lookupKeyText(entry.lookup);
    const key =
      primaryKey === undefined ? this.#recall(entry.lookup) : region.objectKey(this.#effectiveSchema(), primaryKey);
    const copy = key === undefined ? undefined : region.copyOf({ key, region: region.name });
    const data = copy && region.mapCopy(copy, key!, (row) => mapRow(em, meta, row));
    if (!data || !this.#isAnswer(entry.lookup, data.values)) return;
    const entity = hydrateData(em, meta, data.copy(), schema);
    entry.answerWith({ entity, servedBy: 'near-cache' });
    noteManaged(em, entry.lookup, schema, entity);
  }

  async read(batch: Batch): Promise<void> {
    const open = batch.entries.filter(({ answer, lookup }) => !answer && this.#serves(lookup));
    if (open.length === 0) return;
    if (!(this.#inTransaction ? await this.#mayAnswerInside() : this.#mayAnswer())) return;
    this.#mode = this.#context.refresh ? 'refresh' : 'normal';
    for (const entry of open) this.#trails.set(entry, this.#trailOf(entry.lookup));
    if (this.#mode === 'normal') {
      const unled = open.filter((entry) => !this.#isLed(entry));
      if (unled.length > 0) await this.#readHints(unled);
      await this.#readObjects(open);
    }
    const unleased = open.some((entry) => !entry.answer && !this.#trails.get(entry)!.objectToken);
    // before the select: a fill is refused if anything in the region was written from here on
    if (unleased) this.#guard = await this.#context.region.guard();
  }

  async fill(batch: Batch): Promise<void> {
    if (this.#wrote && !this.#inTransaction) return this.#putHints(batch.entries);
    if (this.#mode === 'bypass') return;
    const objects: FillEntry[] = [];
    const hints: FillEntry[] = [];
    const misled: Entry[] = [];
    for (const [entry, trail] of this.#trails) {
      const key = this.#keyOf(entry);
      this.#collectFills(entry, trail, key, objects, hints);
      if (trail.hinted && key !== undefined && key !== trail.objectKey) misled.push(entry);
    }
    const { region, hints: hintStore } = this.#context;
    const [filled] = await Promise.all([
      objects.length > 0 ? region.store.fillMany(objects) : [],
      hints.length > 0 ? hintStore.fillMany(hints) : [],
      misled.length > 0 ? this.#replaceHints(misled) : undefined,
    ]);
    // what is stored now is newer than this process's copy, even before the store tells so
    region.near?.drop(objects.flatMap(({ key, value }) => (value === undefined ? [] : [key])));
    const put = filled.filter((_, index) => objects[index]!.value !== undefined);
    const stored = put.filter(Boolean).length;
    region.count('fill', stored);
    region.count('refused-fill', put.length - stored);
  }

  /** A hint that led to another row than the lookup's would send every call to the database until it expires. */
  async #replaceHints(entries: readonly Entry[]): Promise<void> {
    await this.#context.hints.evictMany(entries.map(({ lookup }) => this.#hintEntry(lookup)));
    for (const { lookup } of entries) this.#remember(lookup, undefined);
    await this.#putHints(entries.filter((entry) => this.#isCommitted(entry)));
  }

  /** Lets rows that are in the store, or will be, be found by their lookups. */
  async #putHints(entries: readonly Entry[]): Promise<void> {
    const { hints, em } = this.#context;
    if (em.getSessionContext() !== undefined) return;
    const found = entries.filter(({ lookup }) => this.#serves(lookup) && lookupKeyText(lookup) === undefined);
    if (found.length === 0) return;
    const keys = found.map(({ lookup }) => this.#hintEntry(lookup));
    const results = await hints.readMany(keys, { leaseMs: this.#options.leaseTtl });
    const fills = found.flatMap(({ answer }, index): FillEntry[] => {
      const result = results[index]!;
      if (result.kind !== 'leased') return [];
      const permit = { kind: 'lease', token: result.token } as const;
      return [{ key: keys[index]!.key, value: primaryKeyText(answer!.entity), ttlMs: this.#options.ttl, permit }];
    });
    if (fills.length > 0) await hints.fillMany(fills);
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
    const { em, region, records } = this.#context;
    const schema = this.#effectiveSchema();
    const known = records.of(transaction);
    const record = known ?? new TransactionRecord();
    for (const { primaryKey, row } of rows) {
      const key = region.objectKey(schema, primaryKey);
      // in the caller's transaction anything may still change the row; in the call's own nothing does
      const isOwn = !this.#inTransaction && em.getSessionContext() === undefined;
      record.touch(region, key, isOwn && row ? region.encode(row, key) : undefined);
    }
    // a transaction that MikroORM's events don't tell of: its end won't be seen, so the locks are left to run out
    if (!known) await lockForGood(record);
  }

  get #options(): Region['options'] {
    return this.#context.region.options;
  }

  /** Whether the cache may answer: never past row-level security. */
  #mayAnswer(): boolean {
    return this.#context.em.getSessionContext() === undefined;
  }

  /** In a transaction only under READ COMMITTED, where a statement may see what others have committed since its start. */
  async #mayAnswerInside(): Promise<boolean> {
    return this.#mayAnswer() && this.#record !== undefined && (await this.#isReadCommitted(this.#record));
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

  /**
   * Whether a cached row can be known to be the one that a query would return. A partial index's row is defined by its
   * predicate, which can't be checked on a cached row; without a unique key there may be a second row meanwhile.
   */
  #serves(lookup: Lookup): boolean {
    const { key } = planFor(driverOf(this.#context.em), lookup);
    return key !== undefined && key.predicate === undefined && this.#context.region.covers(lookup);
  }

  #effectiveSchema(): string | undefined {
    const { em, meta, schema } = this.#context;
    this.#schema ??= [driverOf(em).getSchemaName(meta, schema === undefined ? {} : { schema })];
    return this.#schema[0];
  }

  #trailOf(lookup: Lookup): Trail {
    const primaryKey = lookupKeyText(lookup);
    return {
      isIndirect: primaryKey === undefined,
      hintToken: undefined,
      hinted: false,
      objectKey:
        primaryKey === undefined ? undefined : this.#context.region.objectKey(this.#effectiveSchema(), primaryKey),
      objectToken: undefined,
    };
  }

  /** Whether it is known which row a lookup leads to, as far as that can be known without a look at its own entry. */
  #isLed(entry: Entry): boolean {
    const trail = this.#trails.get(entry)!;
    if (!trail.isIndirect) return true;
    trail.objectKey = this.#recall(entry.lookup);
    trail.hinted = trail.objectKey !== undefined;
    return trail.hinted;
  }

  async #readHints(asking: readonly Entry[]): Promise<void> {
    const { region, hints } = this.#context;
    const results = await region.readHints(
      hints,
      asking.map(({ lookup }) => this.#hintEntry(lookup)),
    );
    asking.forEach((entry, index) => {
      const trail = this.#trails.get(entry)!;
      const result = results[index]!;
      if (result.kind === 'leased') trail.hintToken = result.token;
      if (result.kind !== 'hit') return;
      trail.hinted = true;
      trail.objectKey = region.objectKey(this.#effectiveSchema(), result.value);
      this.#remember(entry.lookup, trail.objectKey);
    });
  }

  #recall(lookup: Lookup): string | undefined {
    const { region, em, schema } = this.#context;
    return region.recall(planFor(driverOf(em), lookup), schema, lookup);
  }

  #remember(lookup: Lookup, key: string | undefined): void {
    const { region, em, schema } = this.#context;
    region.remember(planFor(driverOf(em), lookup), schema, lookup, key);
  }

  /** The entry of a lookup's own, which holds the primary key of its row. */
  #hintEntry(lookup: Lookup): LockEntry {
    const { region } = this.#context;
    return { key: region.lookupKey(this.#effectiveSchema(), lookup), region: region.hintRegion };
  }

  async #readObjects(open: readonly Entry[]): Promise<void> {
    const { region, em, meta, schema } = this.#context;
    const asking = open.filter((entry) => {
      const { objectKey } = this.#trails.get(entry)!;
      // what this transaction wrote, others must not have answered
      return objectKey !== undefined && !this.#record?.hasTouched(region, objectKey);
    });
    if (asking.length === 0) return;
    const keys = [...new Set(asking.map((entry) => this.#trails.get(entry)!.objectKey!))];
    const results = await region.read(keys.map((key) => ({ key, region: region.name })));
    const byKey = new Map(keys.map((key, index) => [key, results[index]!]));
    for (const entry of asking) {
      const eviction = this.#take(entry, byKey.get(this.#trails.get(entry)!.objectKey!)!);
      if (eviction) await eviction;
    }
    if (hearsLoads(em, meta) && asking.some(({ answer }) => answer)) await fireOnLoad(em, meta);
    for (const entry of asking) if (entry.answer) noteManaged(em, entry.lookup, schema, entry.answer.entity);
  }

  /** Takes what a read found; waits for something only when it has to be removed. */
  #take(entry: Entry, result: RegionRead): Promise<void> | undefined {
    const { em, meta, schema, region } = this.#context;
    const trail = this.#trails.get(entry)!;
    const key = trail.objectKey!;
    if (result.kind === 'leased') trail.objectToken = result.token;
    if (result.kind !== 'hit') return undefined;
    const row = region.decode(result.value, key);
    if (!row) return this.#evict(key);
    const data = mapRow(em, meta, row);
    if (this.#isAnswer(entry.lookup, data)) {
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

  /** Whether a cached row is the one that a query for the lookup would return. */
  #isAnswer(lookup: Lookup, data: Readonly<Data>): boolean {
    const { em, meta } = this.#context;
    return isOfKind(meta, data) && keyText(lookup, comparableData(em, lookup.parts, data)) === lookup.values;
  }

  /** The key of the row that answered; `undefined` when it didn't come from the database, or is in doubt. */
  #keyOf({ answer }: Entry): string | undefined {
    const { em, meta, region } = this.#context;
    if (answer?.servedBy !== 'database' || !answer.row) return undefined;
    const primaryKey = primaryKeyText(answer.entity);
    // the entity may have an unflushed new key, or be another one that an overridden createEntity() chose to return
    if (rowKeyText(em, meta, answer.row) !== primaryKey) return undefined;
    return region.objectKey(this.#effectiveSchema(), primaryKey);
  }

  #collectFills(entry: Entry, trail: Trail, key: string | undefined, objects: FillEntry[], hints: FillEntry[]): void {
    const { region } = this.#context;
    const { ttl: ttlMs } = this.#options;
    const { answer } = entry;
    const isCommitted = key !== undefined && this.#isCommitted(entry);
    const value = isCommitted && !answer!.updated ? region.encode(answer!.row!, key) : undefined;
    const token = trail.objectToken;
    if (token !== undefined && trail.objectKey !== undefined) {
      const own = trail.objectKey === key ? value : undefined;
      objects.push({ key: trail.objectKey, value: own, ttlMs, permit: { kind: 'lease', token } });
    }
    if (value !== undefined && (token === undefined || trail.objectKey !== key) && this.#guard !== undefined) {
      const permit = { kind: 'guard', region: region.name, sequence: this.#guard } as const;
      objects.push({ key: key!, value, ttlMs, permit });
    }
    if (trail.hintToken !== undefined) {
      const hint = isCommitted ? primaryKeyText(answer!.entity) : undefined;
      hints.push({
        key: this.#hintEntry(entry.lookup).key,
        value: hint,
        ttlMs,
        permit: { kind: 'lease', token: trail.hintToken },
      });
    }
  }

  /**
   * Whether the row of an answer is known to be committed: outside a transaction, or read in one that hadn't written
   * anything.
   */
  #isCommitted({ answer }: Entry): boolean {
    if (this.#inTransaction) return !answer!.created && answer!.row?.[CLEAN] === true;
    // the caller may have begun a transaction on the same EntityManager meanwhile, and the row may be its own
    return !this.#context.em.isInTransaction();
  }
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
