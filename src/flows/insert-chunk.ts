import { keyOrder, planFor } from '../natural-keys/plan.js';
import { isNamedBy, type Lookup } from '../natural-keys/lookup.js';
import type { UniqueKey } from '../natural-keys/unique-keys.js';
import type { Candidate } from '../orm/candidate.js';
import { driverOf, run, type Row } from '../orm/context.js';
import { insertByValue, insertRows, type InsertGroup } from '../sql/insert.js';
import type { Sql } from '../orm/statement.js';
import { ORDINAL } from '../sql/select.js';
import type { Call, Data } from './call.js';
import { shareInsert, type SharedRow } from './SharedInsert.js';
import { insertedRows } from './stray-rows.js';

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
 * @param isGuess whether it is one row that nobody has looked for; then it isn't inserted alone
 * @returns the inserted rows by position in the chunk; nothing where the key was taken
 */
export async function insertChunk(
  call: Call,
  chunk: readonly Built[][],
  findsTaken: boolean,
  isGuess: boolean,
): Promise<(Row | undefined)[]> {
  const shared = insertOneShared(call, chunk, findsTaken, isGuess);
  if (shared) return [await shared];
  return isGuess ? [undefined] : insertAlone(call, chunk, findsTaken);
}

/** Inserts a chunk by a statement of its own. Returns the inserted rows by position in the chunk. */
async function insertAlone(call: Call, chunk: readonly Built[][], findsTaken: boolean): Promise<(Row | undefined)[]> {
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
  const insert = byValue ?? {
    statement: insertRows(call.target, groups),
    indexOf: (row: Row) => Number(row[ORDINAL]) - 1,
  };
  const send = (statement: Sql): Promise<Row[]> => run(call.em, statement, call.options);
  const lookups = chunk.flatMap((group) => group.map(({ creation }) => creation.lookup));
  return insertedRows(send, call.target, insert, lookups);
}

/** A single row may go together with those of other calls. */
function insertOneShared(
  call: Call,
  chunk: readonly Built[][],
  findsTaken: boolean,
  isGuess: boolean,
): Promise<Row | undefined> | undefined {
  const [[built], ...others] = chunk as [Built[], ...Built[][]];
  if (others.length > 0 || chunk[0]!.length > 1 || !built?.key) return undefined;
  const {
    creation: { lookup },
    candidate: { payload },
    key,
  } = built;
  // of another key nothing tells whether the row that was asked for is there
  if (isGuess && !isNamedBy(lookup, ({ name }) => payload[name])) return undefined;
  const driver = driverOf(call.em);
  const row: SharedRow = { lookup, key, payload, order: keyOrder(driver, lookup), findsTaken };
  return shareInsert(call, isGuess ? { ...row, guess: planFor(driver, lookup) } : row);
}
