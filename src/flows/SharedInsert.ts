import {
  isOfStatement,
  isOfWaiting,
  isSharable,
  isUnwritable,
  runShared,
  type EntityManager,
  type Row,
} from '../orm/context.js';
import { canonical, sequenceOf } from '../orm/canonical.js';
import { columnsOf, isSqlFragment, type Column, type Sql } from '../orm/statement.js';
import type { Lookup } from '../natural-keys/lookup.js';
import type { UniqueKey } from '../natural-keys/unique-keys.js';
import type { ByValue } from '../sql/by-value.js';
import { insertRows } from '../sql/insert.js';
import { insertShared } from '../sql/insert-shared.js';
import type { Target } from '../sql/parts.js';
import type { Call } from './call.js';
import { insertedRows, isExact, keyReader } from './stray-rows.js';

/** Most rows of one shared statement; the next ones get another. */
const MOST = 500;

/**
 * How long a shared statement may wait for a lock. Alone, only the caller whose key another transaction has inserted
 * would wait for its end, and that transaction may in turn be waiting for one of the others here.
 */
export const PATIENCE_MS = 50;

/** What one caller wants to insert. */
export interface SharedRow {
  readonly lookup: Lookup;
  readonly key: UniqueKey;
  /** Property-keyed values in database form. */
  readonly payload: Readonly<Record<string, unknown>>;
  /** The order that every process shares. */
  readonly order: string;
  /** Whether the row of a taken key is asked for; see {@link insertRows}. Only a statement for one key can give it. */
  readonly findsTaken: boolean;
}

interface Passenger {
  readonly row: SharedRow;
  readonly columns: readonly Column[];
  /** The statement that looked for the row: an object that all of its callers have in common. */
  readonly select: object;
  /** The statement that guessed that it isn't there. */
  readonly guess: object | undefined;
  readonly resolve: (row: Row | undefined) => void;
  readonly reject: (error: unknown) => void;
}

/** The statements that wait for the end of this turn of the event loop, by unique key. */
const boarding = new Map<UniqueKey, SharedInsert[]>();

/**
 * One insert for the rows that callers outside of transactions create in one turn of the event loop. Of two rows with
 * one key the first is created, and the other caller has lost a race.
 *
 * What makes the server refuse the statement, or wait, may be one row's fault: then each is inserted by a statement of
 * its own, as nothing was stored. Callers that couldn't pay for that out of the selects they shared share no insert.
 */
class SharedInsert {
  readonly #em: EntityManager;
  readonly #target: Target;
  readonly #key: UniqueKey;
  readonly #names: string;
  readonly #passengers: Passenger[] = [];

  constructor({ em, target }: Call, key: UniqueKey, columns: readonly Column[]) {
    this.#em = em;
    this.#target = target;
    this.#key = key;
    this.#names = namesOf(columns);
  }

  takes({ target }: Call, columns: readonly Column[]): boolean {
    return (
      target.schema === this.#target.schema &&
      target.meta === this.#target.meta &&
      namesOf(columns) === this.#names &&
      this.#passengers.length < MOST
    );
  }

  insert(call: Call, row: SharedRow, columns: readonly Column[]): Promise<Row | undefined> {
    const { promise, resolve, reject } = Promise.withResolvers<Row | undefined>();
    this.#passengers.push({
      row,
      columns,
      select: call.sharedSelect ?? call,
      guess: call.sharedGuess,
      resolve,
      reject,
    });
    return promise;
  }

  async send(): Promise<void> {
    if (this.#passengers.length === 1) return this.#sendEachAlone();
    // overlapping batches then wait for each other without a deadlock; callers of one key stay in their order
    const passengers = this.#passengers.toSorted((left, right) =>
      left.row.order === right.row.order ? 0 : left.row.order < right.row.order ? -1 : 1,
    );
    const first = new Map<string, Passenger>();
    for (const passenger of passengers) {
      const values = keyValues(this.#key, passenger.columns);
      if (!first.has(values)) first.set(values, passenger);
    }
    if (first.size > 1 && !this.#canAffordRefusal()) return this.#sendEachAlone();
    const distinct = [...first.values()];
    try {
      await this.#sendTogether(passengers, distinct);
    } catch (error) {
      // for one key, everybody here has waited as long as each would have waited alone
      const isOfOne = isOfStatement(error)
        ? !(first.size === 1 && isOfWaiting(error))
        : isUnwritable(this.#em, () => this.#statement(distinct).statement);
      if (isOfOne) this.#sendEachAlone();
      else for (const passenger of passengers) passenger.reject(error);
    }
  }

  /**
   * Whether the callers stay within the sum of their budgets, of two statements for a new row and three for a lost race,
   * also when nobody is at fault for a refused statement, as one that would wait: they have sent a select each, or less
   * where they shared it, and maybe a guess before, then that statement, and an insert each.
   */
  #canAffordRefusal(): boolean {
    const selects = new Set(this.#passengers.map(({ select }) => select));
    const guesses = new Set(this.#passengers.map(({ guess }) => guess));
    guesses.delete(undefined);
    return selects.size + guesses.size < this.#passengers.length;
  }

  #sendEachAlone(): void {
    for (const passenger of this.#passengers) void this.#sendAlone(passenger);
  }

  async #sendTogether(all: readonly Passenger[], distinct: readonly Passenger[]): Promise<void> {
    const send = (statement: Sql): Promise<Row[]> => runShared(this.#em, statement);
    const lookups = distinct.map(({ row }) => row.lookup);
    const inserted = await insertedRows(send, this.#target, this.#key, this.#statement(distinct), lookups);
    const keyOf = keyReader(this.#target);
    const created = new Set<unknown>();
    for (const [index, passenger] of distinct.entries()) {
      const row = inserted.get(index);
      // two notations of one key: both match the row, and the first has made it
      if (row && created.size !== created.add(keyOf(row)).size) passenger.resolve(row);
    }
    // who has no row by now was second
    for (const passenger of all) passenger.resolve(undefined);
  }

  #statement(passengers: readonly Passenger[]): ByValue {
    const rows = passengers.map(({ row: { payload, lookup }, columns }, index) => ({
      payload,
      lookup,
      columns,
      ordinal: index + 1,
    }));
    if (rows.length > 1) return insertShared(this.#target, this.#key, rows, PATIENCE_MS, isExact(this.#key));
    // for one key, everybody here has to wait who would have to wait alone
    const { findsTaken } = passengers[0]!.row;
    return { statement: insertRows(this.#target, [{ key: this.#key, findsTaken, rows }]), indexOf: () => 0 };
  }

  async #sendAlone(passenger: Passenger): Promise<void> {
    const { resolve, reject } = passenger;
    try {
      const [created] = await runShared(this.#em, this.#statement([passenger]).statement);
      resolve(created);
    } catch (error) {
      reject(error);
    }
  }
}

/** The same text for rows that give the same columns. */
export function namesOf(columns: readonly Column[]): string {
  return sequenceOf(columns, ({ name }) => name);
}

function keyValues(key: UniqueKey, columns: readonly Column[]): string {
  return sequenceOf(key.columns, (name) => canonical(columns.find((column) => column.name === name)?.value));
}

/**
 * Inserts one row by a statement that other rows of this turn of the event loop share.
 *
 * @returns the row; nothing when its key is taken. `undefined` at once when the row must have a statement of its own:
 *   in a transaction, with SQL among its values, or without a value for its key
 */
export function shareInsert(call: Call, row: SharedRow): Promise<Row | undefined> | undefined {
  const { em, target, options } = call;
  if (!isSharable(em, options)) return undefined;
  const columns = columnsOf(target.driver, target.meta, { ...row.payload });
  if (columns.some(({ value }) => isSqlFragment(value))) return undefined;
  if (!row.key.columns.every((name) => columns.some((column) => column.name === name))) return undefined;
  const waiting = boarding.get(row.key);
  let insert = waiting?.find((open) => open.takes(call, columns));
  if (!insert) {
    insert = new SharedInsert(call, row.key, columns);
    if (waiting) waiting.push(insert);
    else {
      boarding.set(row.key, [insert]);
      setImmediate(depart, row.key);
    }
  }
  return insert.insert(call, row, columns);
}

function depart(key: UniqueKey): void {
  const leaving = boarding.get(key)!;
  boarding.delete(key);
  for (const insert of leaving) void insert.send();
}
