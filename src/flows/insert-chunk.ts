import { keyOrder, planFor } from '../natural-keys/plan.js';
import type { Lookup } from '../natural-keys/lookup.js';
import type { UniqueKey } from '../natural-keys/unique-keys.js';
import type { Candidate } from '../orm/candidate.js';
import { driverOf, run, type Row } from '../orm/context.js';
import { insertByValue, insertRows, type InsertGroup } from '../sql/insert.js';
import type { Sql } from '../orm/statement.js';
import { ORDINAL } from '../sql/select.js';
import type { Call, Data } from './call.js';
import { insertGuessed } from './GuessedInsert.js';
import { shareInsert, type SharedRow } from './SharedInsert.js';
import { placeStrays } from './stray-rows.js';

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
  if (strays.length === 0) return inserted;
  const open = [...inserted.keys()].filter((position) => !inserted[position]);
  const lookups = open.map((position) => chunk[0]![position]!.creation.lookup);
  const send = (statement: Sql): Promise<Row[]> => run(call.em, statement, call.options);
  for (const [index, row] of await placeStrays(send, call.target, lookups, strays)) inserted[open[index]!] = row;
  return inserted;
}

/** Inserts a single row together with those of other calls, if none of them exists. */
export async function insertOneGuessed(call: Call, { creation, candidate }: Built): Promise<Row | undefined> {
  const driver = driverOf(call.em);
  const plan = planFor(driver, creation.lookup);
  const order = keyOrder(driver, creation.lookup);
  const { lookup } = creation;
  return insertGuessed(call, plan, { lookup, key: plan.key!, payload: candidate.payload, order, findsTaken: false });
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
