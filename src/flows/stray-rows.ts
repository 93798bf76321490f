import type { Lookup } from '../natural-keys/lookup.js';
import { planFor } from '../natural-keys/plan.js';
import { canonical, sequence } from '../orm/canonical.js';
import type { Row } from '../orm/context.js';
import type { Meta } from '../orm/metadata.js';
import type { Sql } from '../orm/statement.js';
import type { ByValue } from '../sql/by-value.js';
import type { Target } from '../sql/parts.js';
import { ORDINAL, selectRows } from '../sql/select.js';

/** Reads what tells a row from every other row of its table. */
export function keyReader({ meta }: { readonly meta: Meta }): (row: Row) => unknown {
  const columns = meta.root.getPrimaryProps().flatMap(({ fieldNames }) => fieldNames);
  const [first] = columns;
  return columns.length === 1
    ? (row) => (typeof row[first!] === 'object' ? canonical(row[first!]) : row[first!])
    : (row) => sequence(columns.map((column) => canonical(row[column])));
}

/**
 * Sends an insert of rows of one unique key.
 *
 * @param lookups of the rows, in their order
 * @returns the inserted rows by index of `lookups`; nothing where the key was taken
 */
export async function insertedRows(
  send: (statement: Sql) => Promise<Row[]>,
  target: Target,
  { statement, indexOf }: ByValue,
  lookups: readonly Lookup[],
): Promise<(Row | undefined)[]> {
  const inserted: (Row | undefined)[] = lookups.map(() => undefined);
  const strays: Row[] = [];
  for (const row of await send(statement)) {
    const index = indexOf(row);
    if (index === undefined) strays.push(row);
    else inserted[index] = row;
  }
  if (strays.length > 0) await placeStrays(send, target, lookups, strays, inserted);
  return inserted;
}

/**
 * Finds what rows were inserted for whose key came back in another form than it was sent in, as from a column that isn't
 * of the type it was declared with. Only the database can tell.
 */
async function placeStrays(
  send: (statement: Sql) => Promise<Row[]>,
  target: Target,
  lookups: readonly Lookup[],
  strays: readonly Row[],
  inserted: (Row | undefined)[],
): Promise<void> {
  const keyOf = keyReader(target);
  const byKey = new Map(strays.map((row) => [keyOf(row), row]));
  // lookups of one unique key may be of several shapes
  const open = [...lookups.keys()].filter((index) => !inserted[index]);
  for (const ofShape of Map.groupBy(open, (index) => lookups[index]!.shape).values()) {
    const group = ofShape.map((index) => lookups[index]!);
    for (const row of await send(selectRows(target, planFor(target.driver, group[0]!), group))) {
      inserted[ofShape[Number(row[ORDINAL]) - 1]!] = byKey.get(keyOf(row));
    }
  }
}
