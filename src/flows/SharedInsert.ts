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
import type { LookupPlan } from '../natural-keys/plan.js';
import type { UniqueKey } from '../natural-keys/unique-keys.js';
import type { ByValue } from '../sql/by-value.js';
import { insertRows } from '../sql/insert.js';
import { insertShared } from '../sql/insert-shared.js';
import type { Target } from '../sql/parts.js';
import type { Call } from './call.js';
import { forget, neverExpect } from './expectation.js';
import { insertedRows, keyReader } from './stray-rows.js';

/** Most rows of one shared statement; the next ones get another. */
const MOST = 500;

/** Of fewer rows a wrong guess could cost more statements than their callers may send. */
const FEWEST = 3;

/**
 * How long a shared statement may wait for a lock. Alone, only the caller whose key another transaction has inserted
 * would wait for its end, and that transaction may in turn be waiting for one of the others here.
 */
const PATIENCE_MS = 50;

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
  /** The plan of its lookup, when nobody has looked for it: it is to be created if no row of the statement is there. */
  readonly guess?: LookupPlan;
}

interface Passenger {
  readonly call: Call;
  readonly row: SharedRow;
  readonly columns: readonly Column[];
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
 *
 * In place of a select and an insert it may also be one that inserts its rows if none of their keys exists, for lookups of a
 * plan whose last ones found nothing. Else no row is written and no sequence moves. Who gets no row by such a guess goes
 * the way of every lookup, which begins with a select.
 */
class SharedInsert {
  readonly #em: EntityManager;
  readonly #target: Target;
  readonly #key: UniqueKey;
  readonly #guess: LookupPlan | undefined;
  readonly #names: string;
  readonly #passengers: Passenger[] = [];

  constructor({ em, target }: Call, { key, guess }: SharedRow, columns: readonly Column[]) {
    this.#em = em;
    this.#target = target;
    this.#key = key;
    this.#guess = guess;
    this.#names = namesOf(columns);
  }

  takes({ target }: Call, { guess }: SharedRow, columns: readonly Column[]): boolean {
    return (
      guess === this.#guess &&
      target.schema === this.#target.schema &&
      target.meta === this.#target.meta &&
      namesOf(columns) === this.#names &&
      this.#passengers.length < MOST
    );
  }

  insert(call: Call, row: SharedRow, columns: readonly Column[]): Promise<Row | undefined> {
    const { promise, resolve, reject } = Promise.withResolvers<Row | undefined>();
    this.#passengers.push({ call, row, columns, resolve, reject });
    return promise;
  }

  async send(): Promise<void> {
    if (this.#passengers.length === 1 && !this.#guess) return this.#sendEachAlone();
    // overlapping batches then wait for each other without a deadlock; callers of one key stay in their order
    const passengers = this.#passengers.toSorted((left, right) =>
      left.row.order === right.row.order ? 0 : left.row.order < right.row.order ? -1 : 1,
    );
    const first = new Map<string, Passenger>();
    for (const passenger of passengers) {
      const values = keyValues(this.#key, passenger.columns);
      if (!first.has(values)) first.set(values, passenger);
    }
    const distinct = [...first.values()];
    if (!this.#guess && first.size > 1 && !this.#canAffordRefusal()) return this.#sendEachAlone();
    try {
      await (this.#guess ? this.#sendGuess(this.#guess, distinct) : this.#sendTogether(passengers, distinct));
    } catch (error) {
      // for one key, everybody here has waited as long as each would have waited alone
      const isOfOne = isOfStatement(error)
        ? !(first.size === 1 && isOfWaiting(error))
        : isUnwritable(this.#em, () => this.#statement(distinct)!.statement);
      if (this.#guess) forget(this.#guess);
      else if (isOfOne) return this.#sendEachAlone();
      // what was refused has stored nothing, and the statements that follow a guess tell it to whom it concerns
      for (const { resolve, reject } of passengers) {
        if (isOfOne) resolve(undefined);
        else reject(error);
      }
    }
  }

  /** Sends the guess if it has the callers for it. */
  async #sendGuess(plan: LookupPlan, distinct: readonly Passenger[]): Promise<void> {
    const isFew = distinct.length < FEWEST;
    const insert = isFew ? undefined : this.#statement(distinct);
    if (insert) {
      for (const { call } of this.#passengers) call.sharedGuess = this;
      const created = await this.#insertRows(insert, distinct);
      created.forEach((row, index) => (row ? distinct[index]!.resolve(row) : forget(plan)));
    } else if (!isFew) neverExpect(plan);
    for (const { resolve } of this.#passengers) resolve(undefined);
  }

  #insertRows(insert: ByValue, distinct: readonly Passenger[]): Promise<(Row | undefined)[]> {
    const send = (statement: Sql): Promise<Row[]> => runShared(this.#em, statement);
    return insertedRows(
      send,
      this.#target,
      insert,
      distinct.map(({ row }) => row.lookup),
    );
  }

  /**
   * Whether the callers stay within the sum of their budgets, of two statements for a new row and three for a lost race,
   * also when nobody is at fault for a refused statement, as one that would wait: they have sent a select each, or less
   * where they shared it, and maybe a guess before, then that statement, and an insert each.
   */
  #canAffordRefusal(): boolean {
    const sent = new Set<object>();
    // what calls have in common
    for (const { call } of this.#passengers) sent.add(call.sharedSelect ?? call).add(call.sharedGuess ?? sent);
    sent.delete(sent);
    return sent.size < this.#passengers.length;
  }

  #sendEachAlone(): void {
    for (const passenger of this.#passengers) void this.#sendAlone(passenger);
  }

  async #sendTogether(all: readonly Passenger[], distinct: readonly Passenger[]): Promise<void> {
    const inserted = await this.#insertRows(this.#statement(distinct)!, distinct);
    const keyOf = keyReader(this.#target);
    const created = new Set<unknown>();
    for (const [index, passenger] of distinct.entries()) {
      const row = inserted[index];
      // two notations of one key: both match the row, and the first has made it
      if (row && created.size !== created.add(keyOf(row)).size) passenger.resolve(row);
    }
    // who has no row by now was second
    for (const passenger of all) passenger.resolve(undefined);
  }

  /** Of a guess, only where it can be made. */
  #statement(passengers: readonly Passenger[]): ByValue | undefined {
    const key = this.#key;
    const rows = passengers.map(({ row: { payload, lookup } }, index) => ({ payload, lookup, ordinal: index + 1 }));
    if (rows.length > 1) {
      return insertShared(this.#target, key, rows, PATIENCE_MS, this.#guess !== undefined);
    }
    // for one key, everybody here has to wait who would have to wait alone
    const { findsTaken } = passengers[0]!.row;
    return { statement: insertRows(this.#target, [{ key, findsTaken, rows }]), indexOf: () => 0 };
  }

  async #sendAlone(passenger: Passenger): Promise<void> {
    const { resolve, reject } = passenger;
    try {
      const [created] = await runShared(this.#em, this.#statement([passenger])!.statement);
      resolve(created);
    } catch (error) {
      reject(error);
    }
  }
}

function namesOf(columns: readonly Column[]): string {
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
  let insert = waiting?.find((open) => open.takes(call, row, columns));
  if (!insert) {
    insert = new SharedInsert(call, row, columns);
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
