import { PlusError } from '../errors.js';
import { noteManaged, noteManyManaged } from '../natural-keys/managed.js';
import { keyOrder, planFor } from '../natural-keys/plan.js';
import { buildCandidate, fireAfterCreate, hearsCreations, leavesNothing, Nursery } from '../orm/candidate.js';
import { driverOf, type Row } from '../orm/context.js';
import { fireOnLoad, hydrateCreated } from '../orm/entities.js';
import { nextMoment } from '../orm/order.js';
import { PlainRows } from '../orm/plain.js';
import { inUnit, noteCreated } from '../orm/unit.js';
import { serverVersion } from '../orm/server-version.js';
import { FOUND } from '../sql/insert.js';
import { CreationContext, rowFor, type Call, type Data } from './call.js';
import { manage } from './find.js';
import { insertChunk, type Built, type Creation } from './insert-chunk.js';
import { workMeanwhile } from './meanwhile.js';
import { keyReader } from './stray-rows.js';

/** The first version of PostgreSQL that knows `on conflict do select`. */
const DO_SELECT_SINCE = 190_000;

/** Most rows that one insert statement carries. */
const CHUNK = 5_000;

/** A row that was created. */
export interface Created {
  readonly entity: object;
  /** Where there is a cache that it may go to. */
  readonly row: Row | undefined;
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
   * one looked for; `'fail'` is a plain insert, and a taken key MikroORM's exception. `'guess'` is for one lookup that
   * {@link canGuess} allows and that nobody has looked for: nothing is created if its row, or one of those that are
   * created with it, exists, or if it couldn't be created.
   */
  readonly onConflict: 'yield' | 'find' | 'fail' | 'guess';
  /** Whether `beforeCreate` and `afterCreate` fire; an upsert has events of its own. */
  readonly hooks: 'fire' | 'silent';
  /** Work that may be done while the database is busy with the first statement; it may be called again. */
  readonly meanwhile?: () => void;
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
  const { chunks, plain } = await buildAll(call, creations, mode).catch((error: unknown) => {
    // what a new row misses is no business of one that may be there
    if (mode.onConflict === 'guess') return { chunks: [], plain: undefined };
    throw error;
  });
  const areMany = chunks.length > 1;
  const insertAll = async (): Promise<(Created | undefined)[]> => {
    const created: (Created | undefined)[] = creations.map(() => undefined);
    // what a chunk takes isn't kept when it is done
    for (let chunk = chunks.shift(); chunk; chunk = chunks.shift()) {
      await createChunk(call, chunk, created, mode, plain);
      mode.onCreated?.(created.filter(Boolean).length);
    }
    return created;
  };
  // a batch that one statement can't hold is stored whole or not at all
  return areMany && call.atomic ? inUnit(call.em, insertAll) : insertAll();
}

interface BuiltRows {
  readonly chunks: Built[][][];
  /** Makes the rows' candidates their entities; `undefined` where something of the application's could tell them apart. */
  readonly plain: PlainRows | undefined;
}

/** Builds the candidates, in the order that every process shares. */
async function buildAll(call: Call, creations: readonly Creation[], mode: CreationMode): Promise<BuiltRows> {
  const built: Built[] = [];
  const { em, meta, target } = call;
  const areApart = leavesNothing(em, meta);
  const plain = areApart ? PlainRows.of(em, meta, target.schema) : undefined;
  const shared = areApart && creations.length > 1 ? Nursery.apart(em, target.schema, plain) : undefined;
  for (const index of inKeyOrder(call, creations)) {
    const creation = creations[index]!;
    // thousands of rows don't wait for what is there at once
    const given = creationData(creation);
    const data = given instanceof Promise ? await given : given;
    const isWithin = !shared && plain && !em.global && !meta.primaryKeys.some((name) => name in data);
    const nursery = isWithin ? Nursery.within(em, target.schema, plain) : shared;
    const building = buildCandidate(em, meta, data, target.schema, mode.hooks, nursery);
    const candidate = building instanceof Promise ? await building : building;
    const key = mode.onConflict === 'fail' ? undefined : planFor(driverOf(em), creation.lookup).key;
    built.push({ index, creation, candidate, key });
  }
  return { chunks: chunksOf(built), plain };
}

/** Whether a row may be built before it is known to be missing: nothing but the entity's own class takes part in it. */
export function canGuess({ em, meta, target }: Call, defaults: Readonly<Data>): boolean {
  for (const name in defaults) if (typeof defaults[name] === 'function') return false;
  return leavesNothing(em, meta) && PlainRows.of(em, meta, target.schema) !== undefined;
}

function inKeyOrder(call: Call, creations: readonly Creation[]): number[] {
  if (creations.length === 1) return [0];
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

async function createChunk(
  call: Call,
  chunk: readonly Built[][],
  created: (Created | undefined)[],
  mode: CreationMode,
  plain: PlainRows | undefined,
): Promise<void> {
  const all = chunk.length === 1 ? chunk[0]! : chunk.flat();
  const sentAt = nextMoment();
  const findsTaken = mode.onConflict === 'find' && (serverVersion(call.em) ?? 0) >= DO_SELECT_SINCE;
  const inserting = insertChunk(call, chunk, findsTaken, mode.onConflict === 'guess');
  const rows = await (mode.meanwhile ? workMeanwhile(inserting, mode.meanwhile) : inserting);
  const keyOf = all.length === 1 ? (row: Row) => row : keyReader(call);
  const seen = new Set<unknown>();
  const entities: object[] = [];
  for (const [position, { index, candidate, creation }] of all.entries()) {
    const row = rows[position];
    // several lookups of a batch may name one row: the first of them created it, the others find it
    if (!row || seen.size === seen.add(keyOf(row)).size) continue;
    if (row[FOUND] === true) {
      created[index] = { entity: manage(call, row), row: rowFor(call, row), isFound: true };
      continue;
    }
    const entity =
      plain?.adopt(candidate.entity, row) ??
      hydrateCreated(call.em, candidate.meta, row, call.target.schema, candidate.entity, sentAt);
    entities.push(entity);
    if (all.length === 1) noteManaged(call.em, creation.lookup, call.target.schema, entity);
    created[index] = { entity, row: rowFor(call, row), isFound: false };
  }
  noteCreated(call.em, entities);
  if (all.length > 1) noteManyManaged(call.em, call.meta);
  if (findsTaken) await fireOnLoad(call.em, call.meta);
  if (mode.hooks === 'silent' || !hearsCreations(call.em, call.meta)) return;
  for (const { index, candidate } of all) {
    const result = created[index];
    if (result && !result.isFound) await fireAfterCreate(call.em, result.entity, candidate);
  }
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
      return { entity, row: rowFor(call, row), isFound: false };
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
function creationData({ lookup, defaults, data }: Creation): Data | Promise<Data> {
  if (data) return { ...data };
  for (const name in defaults) {
    if (typeof defaults[name] === 'function')
      return evaluate(defaults).then((values) => ({ ...lookup.where, ...values }));
  }
  return { ...lookup.where, ...defaults };
}

/** Calls the functions among values, in order, and waits for what they promise. */
export async function evaluate(values: Readonly<Data>): Promise<Data> {
  const result: Data = {};
  for (const [name, value] of Object.entries(values)) {
    result[name] = typeof value === 'function' ? await (value as () => unknown)() : value;
  }
  return result;
}
