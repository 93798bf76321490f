import { keyOrder, planFor } from '../natural-keys/plan.js';
import type { Lookup } from '../natural-keys/lookup.js';
import type { UniqueKey } from '../natural-keys/unique-keys.js';
import type { Candidate } from '../orm/candidate.js';
import { canonical, sequence } from '../orm/canonical.js';
import { driverOf, run, type Row } from '../orm/context.js';
import { insertByValue, insertRows, type InsertGroup } from '../sql/insert.js';
import { ORDINAL, selectRows } from '../sql/select.js';
import type { Call, Data } from './call.js';
import { shareInsert, type SharedRow } from './SharedInsert.js';

/** A row to create because nothing was found for its lookup. */
export interface Creation {
  readonly lookup: Lookup;
  /** Values for a new row beside those of the lookup; functions are called when a row is really to be created. */
  readonly defaults?: Readonly<Data>;
  /** The whole data of the new row, instead of lookup and defaults. */
  readonly data?: Readonly<Data>;
}

/** A row that is ready to be inserted. */
export interface Built {
  readonly index: number;
  readonly creation: Creation;
  readonly candidate: Candidate;
  readonly key: UniqueKey | undefined;
}

/**
 * Inserts rows that one statement can carry, in groups of one unique key each.
 *
 * @returns the inserted rows by position in the chunk; nothing where the key was taken
 */
export function insertChunk(
  call: Call,
  chunk: readonly Built[][],
  size: number,
  findsTaken: boolean,
): Promise<(Row | undefined)[]> {
  return insertOneShared(call, chunk, findsTaken) ?? insertAlone(call, chunk, size, findsTaken);
}

/** Reads what tells a row from every other row of its table. */
export function keyReader({ meta }: Call): (row: Row) => unknown {
  const columns = meta.root.getPrimaryProps().flatMap(({ fieldNames }) => fieldNames);
  const [first] = columns;
  return columns.length === 1
    ? (row) => (typeof row[first!] === 'object' ? canonical(row[first!]) : row[first!])
    : (row) => sequence(columns.map((column) => canonical(row[column])));
}

/** Inserts a chunk by a statement of its own. Returns the inserted rows by position in the chunk. */
async function insertAlone(
  call: Call,
  chunk: readonly Built[][],
  size: number,
  findsTaken: boolean,
): Promise<(Row | undefined)[]> {
  let ordinal = 0;
  const groups: InsertGroup[] = chunk.map((group) => ({
    key: group[0]!.key,
    findsTaken,
    rows: group.map(({ candidate, creation }) => ({
      ordinal: (ordinal += 1),
      payload: candidate.payload,
      lookup: creation.lookup,
    })),
  }));
  const byValue = groups.length === 1 ? insertByValue(call.target, groups[0]!) : undefined;
  const inserted: (Row | undefined)[] = Array.from({ length: size }, () => undefined);
  const strays: Row[] = [];
  for (const row of await run(call.em, byValue?.statement ?? insertRows(call.target, groups), call.options)) {
    const position = byValue ? byValue.indexOf(row) : Number(row[ORDINAL]) - 1;
    if (position === undefined) strays.push(row);
    else inserted[position] = row;
  }
  if (strays.length > 0) await placeStrays(call, chunk[0]!, strays, inserted);
  return inserted;
}

/**
 * Finds what rows were inserted for whose key came back in another form than it was sent in, as from a column that isn't
 * of the type it was declared with. Only the database can tell.
 */
async function placeStrays(
  call: Call,
  built: readonly Built[],
  strays: readonly Row[],
  inserted: (Row | undefined)[],
): Promise<void> {
  const keyOf = keyReader(call);
  const byKey = new Map(strays.map((row) => [keyOf(row), row]));
  const positions = [...built.keys()].filter((position) => !inserted[position]);
  // lookups of one unique key may be of several shapes
  for (const ofShape of Map.groupBy(positions, (position) => built[position]!.creation.lookup.shape).values()) {
    const lookups = ofShape.map((position) => built[position]!.creation.lookup);
    const statement = selectRows(call.target, planFor(driverOf(call.em), lookups[0]!), lookups);
    for (const row of await run(call.em, statement, call.options)) {
      inserted[ofShape[Number(row[ORDINAL]) - 1]!] = byKey.get(keyOf(row));
    }
  }
}

/** A single row may go together with those of other calls. */
function insertOneShared(
  call: Call,
  chunk: readonly Built[][],
  findsTaken: boolean,
): Promise<(Row | undefined)[]> | undefined {
  const [[built], ...others] = chunk as [Built[], ...Built[][]];
  if (others.length > 0 || chunk[0]!.length > 1 || !built?.key) return undefined;
  const { creation, candidate, key } = built;
  const order = keyOrder(driverOf(call.em), creation.lookup);
  const row: SharedRow = { lookup: creation.lookup, key, payload: candidate.payload, order, findsTaken };
  const inserted = shareInsert(call, row);
  return inserted?.then((result) => [result]);
}
