import type { Lookup } from '../natural-keys/lookup.js';
import { planFor, type LookupPlan } from '../natural-keys/plan.js';
import { uniqueKeysOf } from '../natural-keys/unique-keys.js';
import { quote } from '../orm/metadata.js';
import { columnsOf, isSqlFragment, type Column, type Sql } from '../orm/statement.js';
import {
  aliased,
  conflictTarget,
  fixedConditions,
  fullRow,
  kindConditions,
  lookupColumns,
  rowColumns,
  tableOf,
  typedNull,
  type Target,
} from './parts.js';
import { ORDINAL } from './select.js';

/** Tells in a returned row whether the statement inserted it. */
export const CREATED = '__plus_created';

/** Tells in a returned row when it was written: microseconds of the server's clock, read when the row was locked. */
export const WRITTEN_AT = '__plus_t';

const writtenAt = `(extract(epoch from clock_timestamp()) * 1000000)::bigint as ${quote(WRITTEN_AT)}`;

/** A row to change, by property in database form, and the row to insert when there is none. */
export interface Upsert {
  /** Comes back with the row. */
  readonly ordinal: number;
  readonly lookup: Lookup;
  /** New values of an existing row. */
  readonly changes: Readonly<Record<string, unknown>>;
  /** The new row; `undefined` to change an existing row only. */
  readonly payload: Readonly<Record<string, unknown>> | undefined;
  /** Whether the new row has another key than the lookup, so that a taken key is an error. */
  readonly renames: boolean;
  /** Whether a look has shown that there is no such row. Default: false. */
  readonly isMissing?: boolean;
}

/** Names the relation of the existing rows of a batch, which are locked. */
export const LOCKED = quote('__plus_l');

export function primaryKeyOf(target: Target): string[] {
  return target.meta.getPrimaryProps().flatMap(({ fieldNames }) => fieldNames);
}

/** The parts of an upsert's statement for rows with the same keys; in which order they go is the statement's matter. */
export class UpsertGroup {
  readonly #target: Target;
  readonly #rows: readonly Upsert[];
  readonly #plan: LookupPlan;
  readonly #table: string;
  readonly #keys: readonly (readonly Column[])[];
  /** The values to write by column, for each row; of columns that the application gave SQL for, see `#inPlace`. */
  readonly #changes: readonly ReadonlyMap<string, unknown>[];
  /** The columns that some row changes. */
  readonly #changed: readonly string[];
  /** SQL that the application gave for a column: it may name columns of the row, so it stands where it is assigned. */
  readonly #inPlace: readonly Column[];
  readonly #names: Record<'k' | 'e' | 'u' | 'n' | 'i', string>;
  #params: unknown[] = [];

  constructor(target: Target, rows: readonly Upsert[], index: number) {
    this.#target = target;
    this.#rows = rows;
    this.#plan = planFor(target.driver, rows[0]!.lookup);
    this.#table = tableOf(target);
    this.#keys = rows.map(({ lookup }) => lookupColumns(target, lookup));
    const sql = Object.entries(rows[0]!.changes).filter(([, value]) => isSqlFragment(value));
    this.#inPlace = columnsOf(target.driver, target.meta, Object.fromEntries(sql));
    const inPlace = new Set(this.#inPlace.map(({ name }) => name));
    this.#changes = rows.map(({ changes }) => {
      const columns = columnsOf(target.driver, target.meta, { ...changes }).filter(({ name }) => !inPlace.has(name));
      return new Map(columns.map(({ name, value }) => [name, value]));
    });
    this.#changed = [...new Set(this.#changes.flatMap((changes) => [...changes.keys()]))];
    const name = (letter: string): string => quote(`__plus_${letter}${index}`);
    this.#names = { k: name('k'), e: name('e'), u: name('u'), n: name('n'), i: name('i') };
  }

  /** The whole statement of a group of one row. */
  single(): Sql {
    return this.#write(() => {
      const { u } = this.#names;
      const ctes = [this.#keysAndValues(), this.#update('')];
      if (this.#isInsertable()) {
        const found = `select 1 from ${u} as "u" where "u".${quote(ORDINAL)} = "n".${quote(ORDINAL)}`;
        ctes.push(this.#newRows(), this.#insert(found, this.#onConflict()));
      }
      return `with ${ctes.join(', ')} ${this.selects()}`;
    });
  }

  /** Keys and values, which of them exist, and the insert of those that don't. */
  inserts(): Sql {
    return this.#write(() => {
      const { e } = this.#names;
      const ctes = [this.#keysAndValues(), this.#existing()];
      if (this.#isInsertable()) {
        const found = `select 1 from ${e} as "e" where "e".${quote(ORDINAL)} = "n".${quote(ORDINAL)}`;
        const { key } = this.#plan;
        const conflict = this.#rows[0]!.renames ? '' : ` ${conflictTarget(key!)} do nothing`;
        ctes.push(this.#newRows(), this.#insert(found, conflict));
      }
      return ctes.join(', ');
    });
  }

  /** The update of the rows that are locked. */
  updates(): Sql {
    const key = primaryKeyOf(this.#target);
    const match = key.map((column, index) => ` and "l"."__plus_p${index}" = ${aliased(column)}`).join('');
    return this.#write(() => this.#update(`, ${LOCKED} as "l"`, match));
  }

  /** The rows that were written. */
  selects(): string {
    const { k, u, n, i } = this.#names;
    const columns = [...rowColumns(this.#target), ORDINAL, CREATED, WRITTEN_AT];
    const listOf = (alias: string): string =>
      columns.map((name) => `"${name === ORDINAL && alias === 'i' ? 'n' : alias}".${quote(name)}`).join(', ');
    const updated = `select ${listOf('u')} from ${u} as "u"`;
    if (!this.#isInsertable()) return updated;
    const inserted =
      `select ${listOf('i')} from ${i} as "i" inner join ${n} as "n" on "n".${quote(ORDINAL)} > 0 ` +
      `inner join ${k} as "k" on ${this.#insertedMatch()}`;
    return `${updated} union all ${inserted}`;
  }

  /** Names the relation of the rows that exist. */
  get existing(): string {
    return this.#names.e;
  }

  /** That every row that didn't exist was inserted; `undefined` when none was to be. */
  get noneLost(): string | undefined {
    if (!this.#isInsertable()) return undefined;
    const { e, i } = this.#names;
    return `(select count(*) from ${e}) + (select count(*) from ${i}) = ${this.#rows.length}`;
  }

  /** Whether the update changes a column that a foreign key may refer to. */
  get changesKey(): boolean {
    const columns = new Set(uniqueKeysOf(this.#target.driver, this.#target.meta).flatMap((key) => key.columns));
    return [...this.#changed, ...this.#inPlace.map(({ name }) => name)].some((name) => columns.has(name));
  }

  #isInsertable(): boolean {
    return this.#rows[0]!.payload !== undefined;
  }

  #write(text: () => string): Sql {
    this.#params = [];
    return { sql: text(), params: this.#params };
  }

  /** A relation of values by ordinal, typed by a first row of typed nulls. */
  #values(letter: 'k' | 'n', columns: readonly { name: string; typed: string }[], rows: readonly unknown[][]): string {
    const tuples = rows.map((row, index) => {
      this.#params.push(...row);
      return `(${this.#rows[index]!.ordinal}${row.map(() => ', ?').join('')})`;
    });
    const list = [ORDINAL, ...columns.map(({ name }) => name)].map(quote).join(', ');
    return `${this.#names[letter]} (${list}) as (values (0${columns.map(({ typed }) => `, ${typed}`).join('')}), ${tuples.join(', ')})`;
  }

  #keysAndValues(): string {
    const typed = (prefix: string, names: readonly string[]) =>
      names.map((name, index) => ({ name: `__plus_${prefix}${index}`, typed: typedNull(this.#target, name) }));
    const flags = this.#changed.flatMap((name, index) =>
      this.#isInAll(name) ? [] : [{ name: `__plus_h${index}`, typed: 'null::boolean', column: name }],
    );
    const columns = [
      ...typed(
        'k',
        this.#keys[0]!.map(({ name }) => name),
      ),
      ...typed('v', this.#changed),
      ...flags,
    ];
    const rows = this.#keys.map((key, index) => [
      ...key.map(({ value }) => value),
      ...this.#changed.map((name) => this.#changes[index]!.get(name) ?? null),
      ...flags.map(({ column }) => this.#changes[index]!.has(column)),
    ]);
    return this.#values('k', columns, rows);
  }

  #isInAll(column: string): boolean {
    return this.#changes.every((changes) => changes.has(column));
  }

  /** That the row `t0` is the one that `k` names. */
  #match(): string {
    const keys = this.#keys[0]!.map(({ name, value }, index) =>
      value === null ? `${aliased(name)} is null` : `${aliased(name)} = "k"."__plus_k${index}"`,
    );
    const fixed = this.#conditions(fixedConditions(this.#target, this.#plan));
    return [`"k".${quote(ORDINAL)} > 0`, ...keys, ...fixed].join(' and ');
  }

  #conditions(conditions: readonly Sql[]): string[] {
    return conditions.map(({ sql, params }) => {
      this.#params.push(...params);
      return sql;
    });
  }

  #existing(): string {
    const { k, e } = this.#names;
    const key = primaryKeyOf(this.#target).map((column, index) => `${aliased(column)} as "__plus_p${index}"`);
    return (
      `${e} as materialized (select "k".${quote(ORDINAL)}, ${key.join(', ')} ` +
      `from ${this.#table} as "t0" inner join ${k} as "k" on ${this.#match()})`
    );
  }

  #update(from: string, locked = ''): string {
    const { k, u } = this.#names;
    const set = this.#assignments((index) => `"k"."__plus_v${index}"`);
    return (
      `${u} as (update ${this.#table} as "t0" set ${set} from ${k} as "k"${from} where ${this.#match()}${locked} ` +
      `returning ${fullRow(this.#target)}, "k".${quote(ORDINAL)} as ${quote(ORDINAL)}, false as ${quote(CREATED)}, ${writtenAt})`
    );
  }

  /** `set` of the changed columns and the version; a row with nothing to change is written, and so locked, all the same. */
  #assignments(valueAt: (index: number) => string): string {
    const version = this.#version();
    const assignments = this.#changed.map((name, index) => {
      if (this.#isInAll(name)) return `${quote(name)} = ${valueAt(index)}`;
      const otherwise = name === version?.column ? version.next : aliased(name);
      return `${quote(name)} = case when "k"."__plus_h${index}" then ${valueAt(index)} else ${otherwise} end`;
    });
    for (const { name, value } of this.#inPlace) {
      this.#params.push(value);
      assignments.push(`${quote(name)} = ?`);
    }
    const given = [...this.#changed, ...this.#inPlace.map(({ name }) => name)];
    if (version && !given.includes(version.column)) assignments.push(`${quote(version.column)} = ${version.next}`);
    if (assignments.length > 0) return assignments.join(', ');
    const column = this.#target.meta.getPrimaryProps()[0]!.fieldNames[0]!;
    return `${quote(column)} = ${aliased(column)}`;
  }

  #version(): { column: string; next: string } | undefined {
    const { meta, driver } = this.#target;
    const prop = meta.versionProperty ? meta.properties[meta.versionProperty] : undefined;
    const column = prop?.fieldNames[0];
    if (!prop || column === undefined) return undefined;
    const next =
      prop.runtimeType === 'Date'
        ? driver.getPlatform().getCurrentTimestampSQL(prop.length ?? 0)
        : `${aliased(column)} + 1`;
    return { column, next };
  }

  #newColumns(index = 0): Column[] {
    return columnsOf(this.#target.driver, this.#target.meta, { ...this.#rows[index]!.payload });
  }

  #newRows(): string {
    const columns = this.#newColumns().map(({ name }) => ({ name, typed: typedNull(this.#target, name) }));
    return this.#values(
      'n',
      columns,
      this.#rows.map((_, index) => this.#newColumns(index).map(({ value }) => value)),
    );
  }

  #insert(found: string, onConflict: string): string {
    const { n, i } = this.#names;
    const columns = this.#newColumns().map(({ name }) => quote(name));
    const raw = this.#keyColumns()
      .map((name, index) => `, ${aliased(name)} as "__plus_i${index}"`)
      .join('');
    return (
      `${i} as (insert into ${this.#table} as "t0" (${columns.join(', ')}) select ${columns.map((name) => `"n".${name}`).join(', ')} ` +
      `from ${n} as "n" where "n".${quote(ORDINAL)} > 0 and not exists (${found}) ` +
      `order by "n".${quote(ORDINAL)}${onConflict} ` +
      `returning ${fullRow(this.#target)}, ("t0"."xmax" = 0) as ${quote(CREATED)}, ${writtenAt}${raw})`
    );
  }

  /** Another writer's row, if it has the key and everything else of the lookup, is changed as if it had been found. */
  #onConflict(): string {
    const key = this.#plan.key;
    if (!key || this.#rows[0]!.renames) return '';
    const { k } = this.#names;
    const keys = this.#keys[0]!;
    const ofExcluded = keys.flatMap(({ name, value }, index) => {
      if (!key.columns.includes(name) || value === null) return [];
      return [`"k"."__plus_k${index}" = excluded.${quote(name)}`];
    });
    const from = `from ${k} as "k" where ${[`"k".${quote(ORDINAL)} > 0`, ...ofExcluded].join(' and ')}`;
    const set = this.#assignments((index) => `(select "k"."__plus_v${index}" ${from})`);
    const rest = keys.flatMap(({ name, value }, index) => {
      if (key.columns.includes(name)) return [];
      return [
        value === null ? `${aliased(name)} is null` : `${aliased(name)} = (select "k"."__plus_k${index}" ${from})`,
      ];
    });
    // what conflicts is inside the index: its predicate, whose columns `excluded` has too, needs no repeating
    const conditions = [...rest, ...this.#conditions(kindConditions(this.#target))];
    return ` ${conflictTarget(key)} do update set ${set}${conditions.length > 0 ? ` where ${conditions.join(' and ')}` : ''}`;
  }

  #keyColumns(): readonly string[] {
    return this.#rows.length === 1 ? [] : this.#plan.key!.columns;
  }

  /** Which new row an inserted row was; of a generated column, only the lookup says what to expect. */
  #insertedMatch(): string {
    const equal = this.#plan.key?.nullsNotDistinct ? 'is not distinct from' : '=';
    const given = new Set(this.#newColumns().map(({ name }) => name));
    const keys = this.#keyColumns().map((name, index) => {
      const expected = given.has(name)
        ? `"n".${quote(name)}`
        : `"k"."__plus_k${this.#keys[0]!.findIndex((key) => key.name === name)}"`;
      return `${expected} ${equal} "i"."__plus_i${index}"`;
    });
    return [`"k".${quote(ORDINAL)} = "n".${quote(ORDINAL)}`, ...keys].join(' and ');
  }
}
