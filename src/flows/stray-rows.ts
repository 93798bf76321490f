import type { Lookup } from '../natural-keys/lookup.js';
import { planFor } from '../natural-keys/plan.js';
import { canonical, sequence } from '../orm/canonical.js';
import type { Row } from '../orm/context.js';
import type { Meta } from '../orm/metadata.js';
import type { Sql } from '../orm/statement.js';
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
 * Finds what rows were inserted for whose key came back in another form than it was sent in, as from a column that isn't
 * of the type it was declared with. Only the database can tell.
 *
 * @param lookups of the rows that may have been inserted
 * @returns the strays by index of `lookups`
 */
export async function placeStrays(
  send: (statement: Sql) => Promise<Row[]>,
  target: Target,
  lookups: readonly Lookup[],
  strays: readonly Row[],
): Promise<Map<number, Row>> {
  const keyOf = keyReader(target);
  const byKey = new Map(strays.map((row) => [keyOf(row), row]));
  const placed = new Map<number, Row>();
  // lookups of one unique key may be of several shapes
  for (const ofShape of Map.groupBy(lookups.keys(), (index) => lookups[index]!.shape).values()) {
    const group = ofShape.map((index) => lookups[index]!);
    for (const row of await send(selectRows(target, planFor(target.driver, group[0]!), group))) {
      const stray = byKey.get(keyOf(row));
      if (stray) placed.set(ofShape[Number(row[ORDINAL]) - 1]!, stray);
    }
  }
  return placed;
}
