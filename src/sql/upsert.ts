import type { Lookup } from '../natural-keys/lookup.js';
import { planFor, type LookupPlan } from '../natural-keys/plan.js';
import { uniqueKeysOf } from '../natural-keys/unique-keys.js';
import { loadedProps, quote } from '../orm/metadata.js';
import { columnsOf, columnsOfProp, isSqlFragment, type Column, type Sql } from '../orm/statement.js';
import {
  aliased,
  conflictTarget,
  fixedConditions,
  fullRow,
  kindConditions,
  lookupColumns,
  tableOf,
  typedNull,
  type Target,
} from './parts.js';
import { ORDINAL } from './select.js';

/** Tells in a returned row whether the statement inserted it. */
export const CREATED = '__plus_created';

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
}

/**
 * Changes rows, or inserts them, in one statement; returns the full rows with their ordinals and {@link CREATED}.
 *
 * A single row: its key and values (`k`), the update of the existing row (`u`), the new row (`n`), and its insert when
 * `u` found nothing (`i`). A row that appears between the two takes `i`'s `do update`. So an existing row costs no
 * sequence value, and misses no value that only a new row needs.
 *
 * A batch must not deadlock with others that overlap it. So it first inserts what is missing, in the order given, then
 * locks what was there in the order of primary keys, and updates it: while it waits to insert it holds no lock but on
 * rows that nobody else can see, and while it waits for a lock all others that hold one took theirs in the same order.
 * When another writer was first with a row that was to be inserted, nothing is locked and updated: such rows, and all
 * that existed, come back missing, to be tried again by a statement that sees them.
 */
export function upsertRows(target: Target, upserts: readonly Upsert[]): Sql {
  return upserts.length === 1 ? new UpsertGroup(target, upserts, 0).single() : upsertBatch(target, upserts);
}

function upsertBatch(target: Target, upserts: readonly Upsert[]): Sql {
  const groups = runsOf(target, upserts).map((rows, index) => new UpsertGroup(target, rows, index));
  const inserts = groups.map((group) => group.inserts());
  const updates = groups.map((group) => group.updates());
  const ctes = [...inserts.map(({ sql }) => sql), lockExisting(target, groups), ...updates.map(({ sql }) => sql)];
  return {
    sql: `with ${ctes.join(', ')} ${groups.map((group) => group.selects()).join(' union all ')}`,
    params: [...inserts, ...updates].flatMap(({ params }) => params),
  };
}

/** Rows of one shape that follow each other are a group: groups are written one after the other. */
function runsOf(target: Target, upserts: readonly Upsert[]): Upsert[][] {
  const runs: Upsert[][] = [];
  let last: string | undefined;
  for (const upsert of upserts) {
    const group = groupOf(target, upsert);
    if (group === last) runs.at(-1)!.push(upsert);
    else runs.push([upsert]);
    last = group;
  }
  return runs;
}

const LOCKED = quote('__plus_l');

function primaryKeyOf(target: Target): string[] {
  return target.meta.getPrimaryProps().flatMap(({ fieldNames }) => fieldNames);
}

/** Locks the existing rows of all groups in the order of their primary keys, unless an insert was too late. */
function lockExisting(target: Target, groups: readonly UpsertGroup[]): string {
  const key = primaryKeyOf(target);
  const names = key.map((_, index) => `"__plus_p${index}"`).join(', ');
  const existing = groups.map((group) => `select ${names} from ${group.existing}`).join(' union ');
  const match = key.map((column, index) => `"e"."__plus_p${index}" = ${aliased(column)}`).join(' and ');
  const conditions = groups.flatMap((group) => group.noneLost ?? []);
  // a statement changes a row once: with two lookups for one row it would drop the changes of one of them
  const all = groups.map((group) => `select ${names} from ${group.existing}`).join(' union all ');
  conditions.push(`(select count(*) = count(distinct (${names})) from (${all}) as "e")`);
  // a stronger lock than the update takes would wait for every row that refers to this one
  const strength = groups.some((group) => group.changesKey) ? 'update' : 'no key update';
  return (
    `${LOCKED} as materialized (select ${key.map((column, index) => `${aliased(column)} as "__plus_p${index}"`).join(', ')} ` +
    `from ${tableOf(target)} as "t0" inner join (${existing}) as "e" on ${match} where ${conditions.join(' and ')} ` +
    `order by ${key.map(aliased).join(', ')} for ${strength} of "t0")`
  );
}

/** Rows with the same keys, changed columns and inserted columns share a group; SQL among the values stands alone. */
function groupOf(target: Target, upsert: Upsert): string {
  const columns = (data: Readonly<Record<string, unknown>> | undefined): string[] =>
    data ? columnsOf(target.driver, target.meta, { ...data }).map(({ name }) => name) : ['-'];
  const alone = Object.values(upsert.changes).some(isSqlFragment) ? [String(upsert.ordinal)] : [];
  return JSON.stringify([upsert.lookup.shape, columns(upsert.changes), columns(upsert.payload), upsert.renames, alone]);
}

class UpsertGroup {
  readonly #target: Target;
  readonly #rows: readonly Upsert[];
  readonly #plan: LookupPlan;
  readonly #table: string;
  readonly #keys: readonly (readonly Column[])[];
  readonly #changes: readonly (readonly Column[])[];
  /** Columns that the application gave SQL for: it may name columns of the row, so it stands where it is assigned. */
  readonly #inPlace: ReadonlySet<string>;
  readonly #names: Record<'k' | 'e' | 'u' | 'n' | 'i', string>;
  #params: unknown[] = [];

  constructor(target: Target, rows: readonly Upsert[], index: number) {
    this.#target = target;
    this.#rows = rows;
    this.#plan = planFor(target.driver, rows[0]!.lookup);
    this.#table = tableOf(target);
    this.#keys = rows.map(({ lookup }) => lookupColumns(target, lookup));
    this.#changes = rows.map(({ changes }) => columnsOf(target.driver, target.meta, { ...changes }));
    const sql = Object.entries(rows[0]!.changes).filter(([, value]) => isSqlFragment(value));
    this.#inPlace = new Set(
      columnsOf(target.driver, target.meta, Object.fromEntries(sql)).map((column) => column.name),
    );
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
    const columns = [...loadedProps(this.#target.meta).flatMap(columnsOfProp), ORDINAL, CREATED];
    const listOf = (alias: string): string =>
      columns.map((name) => `"${name === ORDINAL && alias === 'i' ? 'n' : alias}".${quote(name)}`).join(', ');
    const updated = `select ${listOf('u')} from ${this.#names.u} as "u"`;
    if (!this.#isInsertable()) return updated;
    const inserted =
      `select ${listOf('i')} from ${this.#names.i} as "i" inner join ${this.#names.n} as "n" ` +
      `on ${this.#insertedMatch()}`;
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
    return this.#changes[0]!.some(({ name }) => columns.has(name));
  }

  #isInsertable(): boolean {
    return this.#rows[0]!.payload !== undefined;
  }

  #write(text: () => string): Sql {
    this.#params = [];
    return { sql: text(), params: this.#params };
  }

  #values(
    letter: 'k' | 'n',
    columns: readonly string[],
    rows: readonly (readonly unknown[])[],
    names: string[],
  ): string {
    const typed = columns.map((name) => `, ${typedNull(this.#target, name)}`).join('');
    const tuples = rows.map((row, index) => {
      this.#params.push(...row);
      return `(${this.#rows[index]!.ordinal}${row.map(() => ', ?').join('')})`;
    });
    const list = [ORDINAL, ...names].map(quote).join(', ');
    return `${this.#names[letter]} (${list}) as (values (0${typed}), ${tuples.join(', ')})`;
  }

  #keysAndValues(): string {
    const [keys, changes] = [this.#keys[0]!, this.#changes[0]!.filter(({ name }) => !this.#inPlace.has(name))];
    const rows = this.#rows.map((_, index) => [
      ...this.#keys[index]!.map(({ value }) => value),
      ...this.#changes[index]!.filter(({ name }) => !this.#inPlace.has(name)).map(({ value }) => value),
    ]);
    const names = [...keys.map((_, index) => `__plus_k${index}`), ...changes.map((_, index) => `__plus_v${index}`)];
    return this.#values(
      'k',
      [...keys, ...changes].map(({ name }) => name),
      rows,
      names,
    );
  }

  /** That the row `t0` is the one that `k` names. */
  #match(): string {
    return [`"k".${quote(ORDINAL)} > 0`, ...this.#keyEquals(() => true), ...this.#fixed()].join(' and ');
  }

  #keyEquals(wanted: (column: string) => boolean): string[] {
    return this.#keys[0]!.flatMap(({ name, value }, index) => {
      if (!wanted(name)) return [];
      return [value === null ? `${aliased(name)} is null` : `${aliased(name)} = "k"."__plus_k${index}"`];
    });
  }

  #fixed(): string[] {
    return this.#conditions(fixedConditions(this.#target, this.#plan));
  }

  #conditions(conditions: readonly Sql[]): string[] {
    return conditions.map(({ sql, params }) => {
      this.#params.push(...params);
      return sql;
    });
  }

  /** Rows whose key is taken, also by a row that differs in the rest of the lookup: no insert could succeed. */
  #existing(): string {
    const { k, e } = this.#names;
    const key = primaryKeyOf(this.#target).map((column, index) => `${aliased(column)} as "__plus_p${index}"`);
    const match = this.#isInsertable() ? this.#keyMatch() : this.#match();
    return (
      `${e} as materialized (select "k".${quote(ORDINAL)}, ${key.join(', ')} ` +
      `from ${this.#table} as "t0" inner join ${k} as "k" on ${match})`
    );
  }

  #keyMatch(): string {
    const { columns, predicate } = this.#plan.key!;
    const keys = this.#keyEquals((name) => columns.includes(name));
    const ofIndex = predicate ? [`(${predicate.replaceAll('?', '\\?')})`] : [];
    return [`"k".${quote(ORDINAL)} > 0`, ...keys, ...ofIndex].join(' and ');
  }

  #update(from: string, locked = ''): string {
    const { k, u } = this.#names;
    const set = this.#assignments((index) => `"k"."__plus_v${index}"`);
    return (
      `${u} as (update ${this.#table} as "t0" set ${set} from ${k} as "k"${from} where ${this.#match()}${locked} ` +
      `returning ${fullRow(this.#target)}, "k".${quote(ORDINAL)} as ${quote(ORDINAL)}, false as ${quote(CREATED)})`
    );
  }

  /** `set` of the changed columns and the version; a row with nothing to change is written, and so locked, all the same. */
  #assignments(valueAt: (index: number) => string): string {
    let index = 0;
    const assignments = this.#changes[0]!.map(({ name, value }) => {
      if (!this.#inPlace.has(name)) return `${quote(name)} = ${valueAt(index++)}`;
      this.#params.push(value);
      return `${quote(name)} = ?`;
    });
    const version = this.#version();
    if (version) assignments.push(version);
    if (assignments.length > 0) return assignments.join(', ');
    const column = this.#target.meta.getPrimaryProps()[0]!.fieldNames[0]!;
    return `${quote(column)} = ${aliased(column)}`;
  }

  #version(): string | undefined {
    const { meta, driver } = this.#target;
    const prop = meta.versionProperty ? meta.properties[meta.versionProperty] : undefined;
    if (!prop || this.#changes[0]!.some(({ name }) => name === prop.fieldNames[0])) return undefined;
    const column = prop.fieldNames[0]!;
    const next =
      prop.runtimeType === 'Date'
        ? driver.getPlatform().getCurrentTimestampSQL(prop.length ?? 0)
        : `${aliased(column)} + 1`;
    return `${quote(column)} = ${next}`;
  }

  #newRows(): string {
    const rows = this.#rows.map(({ payload }) => columnsOf(this.#target.driver, this.#target.meta, { ...payload }));
    const columns = rows[0]!.map(({ name }) => name);
    return this.#values(
      'n',
      columns,
      rows.map((row) => row.map(({ value }) => value)),
      columns,
    );
  }

  #insert(found: string, onConflict: string): string {
    const { n, i } = this.#names;
    const columns = columnsOf(this.#target.driver, this.#target.meta, { ...this.#rows[0]!.payload }).map(({ name }) =>
      quote(name),
    );
    const raw = this.#keyColumns()
      .map((name, index) => `, ${aliased(name)} as "__plus_i${index}"`)
      .join('');
    return (
      `${i} as (insert into ${this.#table} as "t0" (${columns.join(', ')}) select ${columns.map((name) => `"n".${name}`).join(', ')} ` +
      `from ${n} as "n" where "n".${quote(ORDINAL)} > 0 and not exists (${found}) ` +
      `order by "n".${quote(ORDINAL)}${onConflict} ` +
      `returning ${fullRow(this.#target)}, ("t0"."xmax" = 0) as ${quote(CREATED)}${raw})`
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

  #insertedMatch(): string {
    const equal = this.#plan.key?.nullsNotDistinct ? 'is not distinct from' : '=';
    const keys = this.#keyColumns().map((name, index) => `"n".${quote(name)} ${equal} "i"."__plus_i${index}"`);
    return [`"n".${quote(ORDINAL)} > 0`, ...keys].join(' and ');
  }
}
