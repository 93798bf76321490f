import { PlusError } from '../errors.js';
import { noteManaged } from '../natural-keys/managed.js';
import type { Lookup } from '../natural-keys/lookup.js';
import { keyOrder, planFor } from '../natural-keys/plan.js';
import type { UniqueKey } from '../natural-keys/unique-keys.js';
import { buildCandidate, fireAfterCreate, sharedNursery, type Candidate } from '../orm/candidate.js';
import { canonical, sequence } from '../orm/canonical.js';
import { driverOf, run, type Row } from '../orm/context.js';
import { fireOnLoad, hydrateCreated } from '../orm/entities.js';
import { nextMoment } from '../orm/order.js';
import { inUnit, noteCreated } from '../orm/unit.js';
import { serverVersion } from '../orm/server-version.js';
import { FOUND, insertRows, type InsertGroup } from '../sql/insert.js';
import { ORDINAL } from '../sql/select.js';
import { CreationContext, type Call, type Data } from './call.js';
import { manage } from './find.js';
import { shareInsert, type SharedRow } from './SharedInsert.js';

/** The first version of PostgreSQL that knows `on conflict do select`. */
const DO_SELECT_SINCE = 190_000;

/** Most rows that one insert statement carries. */
const CHUNK = 5_000;

/** A row to create because nothing was found for its lookup. */
export interface Creation {
  readonly lookup: Lookup;
  /** Values for a new row beside those of the lookup; functions are called when a row is really to be created. */
  readonly defaults?: Readonly<Data>;
  /** The whole data of the new row, instead of lookup and defaults. */
  readonly data?: Readonly<Data>;
}

/** A row that was created. */
export interface Created {
  readonly entity: object;
  readonly row: Row;
  /** Whether another writer has created it, and the same statement has found it. */
  readonly isFound: boolean;
}

/** Thrown through an overridden `createEntity()` when another writer created the row first. */
class LostRace extends PlusError {
  readonly code = 'PLUS_LOST_RACE';
}

/** How rows are created. */
export interface CreationMode {
  /**
   * `'yield'` leaves a taken key to its owner; `'find'` too, but gives the owner's row if the server can and it is the
   * one looked for; `'fail'` is a plain insert, and a taken key MikroORM's exception.
   */
  readonly onConflict: 'yield' | 'find' | 'fail';
  /** Whether `beforeCreate` and `afterCreate` fire; an upsert has events of its own. */
  readonly hooks: 'fire' | 'silent';
  /** Told after each statement of several how many rows the call has created. */
  readonly onCreated?: (count: number) => void;
}

/**
 * Creates rows, unless another writer was first.
 *
 * @returns by index of `creations`; nothing where the race was lost
 */
export async function createRows(
  call: Call,
  creations: readonly Creation[],
  mode: CreationMode,
): Promise<(Created | undefined)[]> {
  if (creations.length === 0) return [];
  if (call.createEntity) return createByOverride(call, creations, mode);
  const chunks = chunksOf(await buildAll(call, creations, mode));
  const insertAll = async (): Promise<(Created | undefined)[]> => {
    const created: (Created | undefined)[] = creations.map(() => undefined);
    for (const chunk of chunks) {
      await insertChunk(call, chunk, created, mode);
      mode.onCreated?.(created.filter(Boolean).length);
    }
    return created;
  };
  // a batch that one statement can't hold is stored whole or not at all
  return chunks.length > 1 && call.atomic ? inUnit(call.em, insertAll) : insertAll();
}

interface Built {
  readonly index: number;
  readonly creation: Creation;
  readonly candidate: Candidate;
  readonly key: UniqueKey | undefined;
}

/** Builds the candidates, in the order that every process shares. */
async function buildAll(call: Call, creations: readonly Creation[], mode: CreationMode): Promise<Built[]> {
  const built: Built[] = [];
  const { em, meta, target } = call;
  const nursery = creations.length > 1 ? sharedNursery(em, meta, target.schema) : undefined;
  for (const index of inKeyOrder(call, creations)) {
    const creation = creations[index]!;
    const data = await creationData(creation);
    const candidate = await buildCandidate(em, meta, data, target.schema, mode.hooks, nursery);
    const key = mode.onConflict === 'fail' ? undefined : planFor(driverOf(em), creation.lookup).key;
    built.push({ index, creation, candidate, key });
  }
  return built;
}

function inKeyOrder(call: Call, creations: readonly Creation[]): number[] {
  const order = creations.map(({ lookup }) => keyOrder(driverOf(call.em), lookup));
  // lookups of one key stay in the order that they were given in
  return [...creations.keys()].toSorted((left, right) => {
    if (order[left] === order[right]) return left - right;
    return order[left]! < order[right]! ? -1 : 1;
  });
}

/** Chunks of groups: a group shares its unique key; a plain insert stands alone, since nothing tells its rows apart. */
function chunksOf(built: readonly Built[]): Built[][][] {
  const chunks: Built[][][] = [];
  for (let start = 0; start < built.length; start += CHUNK) {
    const groups = Map.groupBy(built.slice(start, start + CHUNK), ({ key }) => key);
    const plain = groups.get(undefined) ?? [];
    groups.delete(undefined);
    if (groups.size > 0) chunks.push([...groups.values()]);
    chunks.push(...plain.map((item) => [[item]]));
  }
  return chunks;
}

async function insertChunk(
  call: Call,
  chunk: readonly Built[][],
  created: (Created | undefined)[],
  mode: CreationMode,
): Promise<void> {
  const byIndex = new Map(chunk.flat().map((built) => [built.index, built]));
  const sentAt = nextMoment();
  const findsTaken = mode.onConflict === 'find' && (serverVersion(call.em) ?? 0) >= DO_SELECT_SINCE;
  const rows = await (insertOneShared(call, chunk, findsTaken) ?? insertAlone(call, chunk, findsTaken));
  const rowOf = new Map(rows.map((row) => [Number(row[ORDINAL]) - 1, row]));
  const primaryKey = call.meta.root.getPrimaryProps().flatMap(({ fieldNames }) => fieldNames);
  const seen = new Set<string>();
  for (const { index, candidate, creation } of byIndex.values()) {
    const row = rowOf.get(index);
    // several lookups of a batch may name one row: the first of them created it, the others find it
    const key = row && sequence(primaryKey.map((column) => canonical(row[column])));
    if (!row || !key || seen.has(key)) continue;
    seen.add(key);
    if (row[FOUND] === true) {
      created[index] = { entity: manage(call, row), row, isFound: true };
      continue;
    }
    const entity = hydrateCreated(call.em, candidate.meta, row, call.target.schema, candidate.entity, sentAt);
    noteCreated(call.em, entity);
    noteManaged(call.em, creation.lookup, call.target.schema, entity);
    created[index] = { entity, row, isFound: false };
  }
  if (findsTaken) await fireOnLoad(call.em, call.meta);
  if (mode.hooks === 'silent') return;
  for (const { index, candidate } of byIndex.values()) {
    const result = created[index];
    if (result && !result.isFound) await fireAfterCreate(call.em, result.entity, candidate);
  }
}

async function insertAlone(call: Call, chunk: readonly Built[][], findsTaken: boolean): Promise<Row[]> {
  const groups: InsertGroup[] = chunk.map((group) => ({
    key: group[0]!.key,
    findsTaken,
    rows: group.map(({ index, candidate, creation }) => ({
      ordinal: index + 1,
      payload: candidate.payload,
      lookup: creation.lookup,
    })),
  }));
  return run(call.em, insertRows(call.target, groups), call.options);
}

/** A single row may go together with those of other calls. */
function insertOneShared(call: Call, chunk: readonly Built[][], findsTaken: boolean): Promise<Row[]> | undefined {
  const [[built], ...others] = chunk as [Built[], ...Built[][]];
  if (others.length > 0 || chunk[0]!.length > 1 || !built?.key) return undefined;
  const { index, creation, candidate, key } = built;
  const order = keyOrder(driverOf(call.em), creation.lookup);
  const row: SharedRow = { lookup: creation.lookup, key, payload: candidate.payload, order, findsTaken };
  const inserted = shareInsert(call, row);
  return inserted?.then((result) => (result ? [{ ...result, [ORDINAL]: index + 1 }] : []));
}

/** Lets the application's `createEntity()` create each row, as one unit where the class is atomic. */
async function createByOverride(
  call: Call,
  creations: readonly Creation[],
  mode: CreationMode,
): Promise<(Created | undefined)[]> {
  const createOne = async (creation: Creation): Promise<Created | undefined> => {
    const inner: Call = { ...call, createEntity: undefined };
    let row: Row | undefined;
    const insert = async (data: Data): Promise<object> => {
      const [created] = await createRows(inner, [{ lookup: creation.lookup, data }], mode);
      if (!created) throw new LostRace('Another writer created the row first.', { entity: call.meta.className });
      row = created.row;
      return created.entity;
    };
    const work = async (): Promise<object> =>
      call.createEntity!(await creationData(creation), new CreationContext(call, { insert }, creation.lookup.where));
    try {
      const entity = await (call.atomic ? inUnit(call.em, work) : work());
      return { entity, row: row ?? {}, isFound: false };
    } catch (error) {
      if (error instanceof LostRace) return undefined;
      throw error;
    }
  };
  const createAll = async (): Promise<(Created | undefined)[]> => {
    const created: (Created | undefined)[] = creations.map(() => undefined);
    for (const index of inKeyOrder(call, creations)) created[index] = await createOne(creations[index]!);
    return created;
  };
  return call.atomic && creations.length > 1 ? inUnit(call.em, createAll) : createAll();
}

/** The data of a new row: `where` and `defaults`, which wins, with functions called. */
async function creationData({ lookup, defaults, data }: Creation): Promise<Data> {
  return data ? { ...data } : { ...lookup.where, ...(await evaluate(defaults ?? {})) };
}

/** Calls the functions among values, in order, and waits for what they promise. */
export async function evaluate(values: Readonly<Data>): Promise<Data> {
  const result: Data = {};
  for (const [name, value] of Object.entries(values)) {
    result[name] = typeof value === 'function' ? await (value as () => unknown)() : value;
  }
  return result;
}
