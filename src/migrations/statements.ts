import { ConfigurationError } from '../errors.js';
import { CHANGE_LOG_TABLE } from '../invalidation/change-log.js';
import { events, qualified, triggerDown, triggerUp } from './trigger-ddl.js';

/** Where the change log is. */
export interface ChangeLogOptions {
  /** Schema of the log table. Default: the default schema of the ORM, `'public'` in hand-written migrations. */
  schema?: string;
}

/** A table whose changes are logged. */
export interface TriggerOptions {
  /** Name of the table. */
  table: string;
  /** Its schema. Default: the one that `search_path` finds it in when the migration runs. */
  schema?: string;
  /** Columns (not properties) of its primary key. */
  primaryKey: readonly string[];
  /** Schema of the log table. Default: `'public'`. */
  logSchema?: string;
  /**
   * The table whose rows these are, in the same schema. Default: `table`. For partitions and inheriting tables that are
   * written by their own name.
   */
  logAs?: string;
  /**
   * Whether changes are notified besides being logged. Default: true. `false` is for tables that are written in
   * two-phase commits, as PostgreSQL prepares no transaction that has notified anything: the relay then finds the changes
   * when it polls, and `memory://` regions of other processes don't hear of them.
   */
  notify?: boolean;
}

/**
 * SQL that creates the change log, the same that `withChangeLog()` puts into a generated migration.
 *
 * ```ts
 * for (const sql of [...changeLogUp(), ...triggersUp({ table: 'tag', primaryKey: ['id'] })]) this.addSql(sql);
 * ```
 */
export function changeLogUp(options: ChangeLogOptions = {}): string[] {
  return [
    `create table ${logTable(options)} ("id" bigserial primary key, "table_schema" text not null, ` +
      `"table_name" text not null, "keys" jsonb null, "created_at" timestamptz not null default clock_timestamp())`,
  ];
}

/** SQL that drops the change log. While a table has its triggers, it can't be written without the log: drop them first. */
export function changeLogDown(options: ChangeLogOptions = {}): string[] {
  return [`drop table if exists ${logTable(options)}`];
}

/**
 * SQL that makes a table log its changes: three triggers and their functions. It may be run again.
 *
 * @throws {ConfigurationError} without a primary key
 */
export function triggersUp(options: TriggerOptions): string[] {
  const { table, schema, primaryKey, logAs, notify, logSchema = 'public' } = options;
  if (primaryKey.length === 0) {
    throw new ConfigurationError(`triggersUp() needs the columns of the primary key of '${table}'.`);
  }
  const target = { table, schema, primaryKey, logSchema, logAs, notify };
  return events.flatMap((event) => triggerUp(target, event));
}

/** SQL that undoes {@link triggersUp}. */
export function triggersDown({ table, schema }: Pick<TriggerOptions, 'table' | 'schema'>): string[] {
  return events.flatMap((event) => triggerDown({ table, schema }, event));
}

function logTable({ schema = 'public' }: ChangeLogOptions): string {
  return qualified(schema, CHANGE_LOG_TABLE);
}
