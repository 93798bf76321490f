import { isOfStatement, isUnwritable, runShared, type EntityManager, type Row } from '../orm/context.js';
import { columnsOf, isSqlFragment, type Column, type Sql } from '../orm/statement.js';
import type { LookupPlan } from '../natural-keys/plan.js';
import type { ByValue } from '../sql/by-value.js';
import { insertIfNone } from '../sql/insert-shared.js';
import type { Target } from '../sql/parts.js';
import type { Call } from './call.js';
import { forget } from './expectation.js';
import { namesOf, PATIENCE_MS, type SharedRow } from './SharedInsert.js';
import { insertedRows, isExact } from './stray-rows.js';

/** Of fewer rows a wrong guess could cost more statements than their callers may send. */
const FEWEST = 3;

/** Most rows of one statement; the next ones get another. */
const MOST = 500;

interface Passenger {
  readonly call: Call;
  readonly row: SharedRow;
  readonly columns: readonly Column[];
  readonly resolve: (row: Row | undefined) => void;
  readonly reject: (error: unknown) => void;
}

/** The statements that wait for the end of this turn of the event loop, by plan. */
const boarding = new Map<LookupPlan, GuessedInsert[]>();

/** How many statements have been sent and not answered, by plan. */
const underWay = new Map<LookupPlan, number>();

/**
 * One insert in place of a select and an insert, for lookups of a plan whose last ones found nothing. It inserts the rows
 * of all its callers if none of their keys exists, and else nothing: no row is written and no sequence moves. Who gets no
 * row by it goes the way of every lookup, which begins with a select.
 */
class GuessedInsert {
  readonly #em: EntityManager;
  readonly #target: Target;
  readonly #plan: LookupPlan;
  readonly #names: string;
  readonly #passengers: Passenger[] = [];

  constructor({ em, target }: Call, plan: LookupPlan, names: string) {
    this.#em = em;
    this.#target = target;
    this.#plan = plan;
    this.#names = names;
  }

  takes({ target }: Call, names: string): boolean {
    return target.schema === this.#target.schema && names === this.#names && this.#passengers.length < MOST;
  }

  insert(call: Call, row: SharedRow, columns: readonly Column[]): Promise<Row | undefined> {
    const { promise, resolve, reject } = Promise.withResolvers<Row | undefined>();
    this.#passengers.push({ call, row, columns, resolve, reject });
    return promise;
  }

  /** Sends the statement, if it has the passengers for it. */
  async send(): Promise<void> {
    const passengers = this.#distinct();
    const insert = passengers.length < FEWEST ? undefined : this.#statement(passengers);
    const isRight = insert ? await this.#sendTogether(insert, passengers) : underWay.has(this.#plan);
    if (!isRight) forget(this.#plan);
    for (const { resolve } of this.#passengers) resolve(undefined);
  }

  /** Returns whether all rows were inserted. */
  async #sendTogether(insert: ByValue, passengers: readonly Passenger[]): Promise<boolean> {
    const send = (statement: Sql): Promise<Row[]> => runShared(this.#em, statement);
    const lookups = passengers.map(({ row }) => row.lookup);
    underWay.set(this.#plan, (underWay.get(this.#plan) ?? 0) + 1);
    let inserted = 0;
    try {
      const rows = await insertedRows(send, this.#target, this.#plan.key!, insert, lookups);
      for (const [index, row] of rows) passengers[index]!.resolve(row);
      inserted = rows.size;
    } catch (error) {
      // what was refused has stored nothing, and the next statements will tell it to whom it concerns
      const isRefused = isOfStatement(error) || isUnwritable(this.#em, () => insert.statement);
      if (!isRefused) for (const { reject } of this.#passengers) reject(error);
    } finally {
      const left = underWay.get(this.#plan)! - 1;
      if (left > 0) underWay.set(this.#plan, left);
      else underWay.delete(this.#plan);
    }
    for (const { call } of this.#passengers) call.sharedGuess = this;
    return inserted === passengers.length;
  }

  /** The first passenger of each key, in the order that every process shares. */
  #distinct(): Passenger[] {
    const first = new Map<string, Passenger>();
    for (const passenger of this.#passengers) {
      if (!first.has(passenger.row.order)) first.set(passenger.row.order, passenger);
    }
    return [...first.values()].toSorted((left, right) => (left.row.order < right.row.order ? -1 : 1));
  }

  #statement(passengers: readonly Passenger[]): ByValue | undefined {
    const key = this.#plan.key!;
    const rows = passengers.map(({ row: { payload, lookup }, columns }, index) => ({
      payload,
      lookup,
      columns,
      ordinal: index + 1,
    }));
    return isExact(key) ? insertIfNone(this.#target, key, rows, PATIENCE_MS) : undefined;
  }
}

/**
 * Inserts one row by a statement that other rows of this turn of the event loop share, on the guess that none of them is
 * there. The call must be one whose selects are shared.
 *
 * @returns the row; nothing when any row was there, or the guess couldn't be made
 */
export async function insertGuessed(call: Call, plan: LookupPlan, row: SharedRow): Promise<Row | undefined> {
  const { target } = call;
  const columns = columnsOf(target.driver, target.meta, { ...row.payload });
  if (columns.some(({ value }) => isSqlFragment(value))) return undefined;
  if (!row.key.columns.every((name) => columns.some((column) => column.name === name))) return undefined;
  const names = namesOf(columns);
  const waiting = boarding.get(plan);
  let insert = waiting?.find((open) => open.takes(call, names));
  if (!insert) {
    insert = new GuessedInsert(call, plan, names);
    if (waiting) waiting.push(insert);
    else {
      boarding.set(plan, [insert]);
      setImmediate(depart, plan);
    }
  }
  return insert.insert(call, row, columns);
}

function depart(plan: LookupPlan): void {
  const leaving = boarding.get(plan)!;
  boarding.delete(plan);
  for (const insert of leaving) void insert.send();
}
