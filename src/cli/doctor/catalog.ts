import type { EntityManager } from '../../orm/context.js';
import { quote } from '../../orm/metadata.js';
import { ask } from './ask.js';

/** A table in the database. */
export interface Table {
  readonly schema: string;
  readonly name: string;
}

/** An index as `pg_index` has it. */
export interface DatabaseIndex {
  readonly name: string;
  readonly columns: readonly string[];
  readonly isUnique: boolean;
  readonly isPrimary: boolean;
  /** False after a `create index concurrently` that failed, or while one runs: it isn't enforced for all rows. */
  readonly isValid: boolean;
  /** False for a deferrable constraint, which `on conflict` can't use. */
  readonly isImmediate: boolean;
  readonly hasExpressions: boolean;
  readonly nullsNotDistinct: boolean;
  readonly predicate: string | null;
  /** Whether it belongs to a constraint, and not just to itself. */
  readonly isConstraint: boolean;
}

/** The names of a table's columns; `undefined` when there is no such table. */
export async function columnsOfTable(em: EntityManager, table: Table): Promise<Set<string> | undefined> {
  const rows = await ask(em, {
    sql: `select a.attname as "column" from pg_class c join pg_namespace n on n.oid = c.relnamespace
      left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      where n.nspname = ? and c.relname = ? and c.relkind in ('r', 'p', 'f')`,
    params: [table.schema, table.name],
  });
  return rows.length === 0 ? undefined : new Set(rows.map(({ column }) => String(column)));
}

/** All indexes of a table. */
export async function indexesOfTable(em: EntityManager, table: Table): Promise<DatabaseIndex[]> {
  // through jsonb, as servers before 15 have no "nulls not distinct"
  const rows = await ask(em, {
    sql: `select x.relname as "name", i.indisunique as "isUnique", i.indisprimary as "isPrimary",
        i.indisvalid and i.indisready and i.indislive as "isValid", i.indimmediate as "isImmediate",
        i.indexprs is not null as "hasExpressions",
        coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false) as "nullsNotDistinct",
        pg_get_expr(i.indpred, i.indrelid) as "predicate",
        exists (select 1 from pg_constraint k where k.conindid = i.indexrelid and k.contype in ('p', 'u')) as "isConstraint",
        (select coalesce(json_agg(a.attname order by k.place), '[]')
           from unnest(i.indkey::int2[]) with ordinality as k (attnum, place)
           join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
          where k.place <= i.indnkeyatts) as "columns"
      from pg_index i join pg_class x on x.oid = i.indexrelid
        join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace
      where n.nspname = ? and c.relname = ? order by x.relname`,
    params: [table.schema, table.name],
  });
  return rows as unknown as DatabaseIndex[];
}

/**
 * Predicates of a table as PostgreSQL writes them, so that equal ones are equal texts. They are planned, not run.
 *
 * @throws when one of them can't be used on the table
 */
export async function normalPredicates(
  em: EntityManager,
  table: Table,
  predicates: readonly string[],
): Promise<string[]> {
  const items = predicates.map((predicate) => `(${predicate})`.replaceAll('?', '\\?'));
  const from = `${quote(table.schema)}.${quote(table.name)}`;
  const sql = `explain (verbose, costs off, format json) select ${items.join(', ')} from only ${from}`;
  const [row] = await ask(em, { sql, params: [] });
  const [{ Plan: plan }] = row!['QUERY PLAN'] as [{ Plan: { Output: string[] } }];
  return plan.Output;
}

/** A trigger of this library's, of any version. */
export interface DatabaseTrigger {
  readonly schema: string;
  readonly table: string;
  readonly name: string;
  /** As `pg_trigger.tgenabled`: `O` and `A` fire for ordinary changes, `R` for replicated ones, `D` never. */
  readonly enabled: string;
  /** Its function, as SQL names it. */
  readonly function: string;
  /** Whether any role may execute that function, and so put it on a table of its own. */
  readonly isPublic: boolean;
}

/** All triggers of this library's in the database, but those that partitions have from their parent. */
export async function libraryTriggers(em: EntityManager): Promise<DatabaseTrigger[]> {
  const rows = await ask(em, {
    sql: `select n.nspname as "schema", c.relname as "table", t.tgname as "name", t.tgenabled::text as "enabled",
        format('%I.%I()', fn.nspname, p.proname) as "function",
        has_function_privilege('public', p.oid, 'execute') as "isPublic"
      from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
        join pg_proc p on p.oid = t.tgfoid join pg_namespace fn on fn.oid = p.pronamespace
      where not t.tgisinternal and t.tgname ~ '^plus_v[0-9]+_' order by 1, 2, 3`,
    params: [],
  });
  return rows as unknown as DatabaseTrigger[];
}
