import type { UniqueKey } from '../../natural-keys/unique-keys.js';
import type { EntityManager } from '../../orm/context.js';
import type { DatabaseIndex, Table } from './catalog.js';

/** How tables, columns, triggers and log get into the database. */
export const migrate: readonly string[] = ['npx mikro-orm migration:create', 'npx mikro-orm migration:up'];

/** What to do when PostgreSQL doesn't answer. */
export const whoIsInTheWay: readonly string[] = [
  '-- find who holds the lock, or what keeps the server busy, and run doctor again afterwards:',
  `select pid, pg_blocking_pids(pid) as "waits for", state, xact_start, query from pg_stat_activity where state <> 'idle';`,
];

/** A name as SQL text to be shown; what is sent to the database is quoted elsewhere. */
function ident(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** A table as SQL text to be shown. */
export function shown({ schema, name }: Table): string {
  return `${ident(schema)}.${ident(name)}`;
}

/** The name that the key's index has, or would get from MikroORM. */
export function nameOfKey(em: EntityManager, table: Table, key: UniqueKey): string {
  const isPrimary = key.props.every(({ primary }) => primary);
  return key.name ?? em.getPlatform().getIndexName(table.name, [...key.columns], isPrimary ? 'primary' : 'unique');
}

/** The SQL that makes a key as MikroORM's schema generator would, without keeping writers out for long. */
function createKey(em: EntityManager, table: Table, key: UniqueKey): string[] {
  const name = ident(nameOfKey(em, table, key));
  const nulls = key.nullsNotDistinct ? ' nulls not distinct' : '';
  const columns = key.columns.map(ident).join(', ');
  const statements = [
    `create unique index concurrently ${name} on ${shown(table)} (${columns})${nulls}${whereOf(key)};`,
  ];
  if (key.predicate === undefined && !key.nullsNotDistinct) {
    const kind = key.props.every(({ primary }) => primary) ? 'primary key' : 'unique';
    statements.push(`alter table ${shown(table)} add constraint ${name} ${kind} using index ${name};`);
  }
  return [...statements, `-- if it fails on duplicates: ${duplicates(table, key)}`];
}

/** The SQL that puts the key in the place of indexes that can't serve it, or only have its name. */
export function replaceIndexes(
  em: EntityManager,
  table: Table,
  key: UniqueKey,
  indexes: readonly DatabaseIndex[],
): string[] {
  const drops = indexes.map((index) =>
    index.isConstraint
      ? `alter table ${shown(table)} drop constraint ${ident(index.name)};`
      : `drop index concurrently ${ident(table.schema)}.${ident(index.name)};`,
  );
  return [...drops, ...createKey(em, table, key)];
}

/** A query for the values that occur more than once. */
function duplicates(table: Table, key: UniqueKey): string {
  const columns = key.columns.map(ident).join(', ');
  return `select ${columns}, count(*) from ${shown(table)}${whereOf(key)} group by ${columns} having count(*) > 1;`;
}

function whereOf({ predicate }: UniqueKey): string {
  return predicate === undefined ? '' : ` where ${predicate}`;
}

/** SQL about triggers. */
export const triggerSql = {
  enable: (table: Table, trigger: string): string => `alter table ${shown(table)} enable trigger ${ident(trigger)};`,
  revoke: (fn: string): string => `revoke all on function ${fn} from public;`,
  drop: (table: Table, trigger: string): string =>
    `drop trigger ${ident(trigger)} on ${shown(table)}; drop function ${ident(table.schema)}.${ident(`${table.name}_${trigger}_fn`)}();`,
};
