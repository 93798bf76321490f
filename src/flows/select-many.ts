import type { Lookup } from '../natural-keys/lookup.js';
import type { LookupPlan } from '../natural-keys/plan.js';
import type { Row } from '../orm/context.js';
import type { Sql } from '../orm/statement.js';
import type { Target } from '../sql/parts.js';
import { ORDINAL, selectByValue, selectRows } from '../sql/select.js';

/** What a select of several lookups found. */
export interface Selected {
  readonly rows: Row[];
  /** Which lookup a row answers. */
  readonly indexOf: (row: Row) => number | undefined;
  /** Whether no row of the table is among them twice. */
  readonly areDistinct: boolean;
}

/** The rows of lookups of one shape, in one statement where their keys come back as they went there, else in two. */
export async function selectMany(
  send: (statement: Sql) => Promise<Row[]>,
  target: Target,
  plan: LookupPlan,
  lookups: readonly Lookup[],
  extra = '',
): Promise<Selected> {
  const byValue = lookups.length > 1 ? selectByValue(target, plan, lookups, extra) : undefined;
  if (byValue) {
    const rows = await send(byValue.statement);
    if (rows.every((row) => byValue.indexOf(row) !== undefined)) {
      return { rows, indexOf: byValue.indexOf, areDistinct: true };
    }
  }
  const rows = await send(selectRows(target, plan, lookups, extra));
  return { rows, indexOf: (row) => Number(row[ORDINAL]) - 1, areDistinct: false };
}
