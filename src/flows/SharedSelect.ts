import type { Lookup } from '../natural-keys/lookup.js';
import type { LookupPlan } from '../natural-keys/plan.js';
import {
  isOfStatement,
  isOfWaiting,
  isSharable,
  isUnwritable,
  runShared,
  type EntityManager,
  type Row,
} from '../orm/context.js';
import { copyRow } from '../orm/rows.js';
import type { Sql } from '../orm/statement.js';
import { selectRows } from '../sql/select.js';
import type { Target } from '../sql/parts.js';
import type { Call } from './call.js';
import { expectsRows, noteFound } from './expectation.js';
import { selectMany, type Selected } from './select-many.js';

/** Most lookups of one shared statement; the next ones get another. */
const MOST = 500;

/**
 * From so many lookups of different EntityManagers on, a statement is sent as two, unless one is under way. Callers that
 * wait for one statement go on together and meet in the next one: nothing happens here while the database works, and
 * nothing there while their entities are made. Two halves take turns. It doesn't pay where most rows are to be created:
 * there are two statements already, of which the second costs more.
 */
const SPLIT_FROM = 16;

/** One key of a shared statement, and who waits for it. */
interface Passenger {
  readonly lookup: Lookup;
  /** Of the one who asked first. */
  readonly em: EntityManager;
  /** The statement that it goes with. */
  select: SharedSelect;
  readonly rows: Promise<readonly Row[]>;
  readonly resolve: (rows: readonly Row[]) => void;
  readonly reject: (error: unknown) => void;
  /** Whether somebody has the rows already: others get copies, since entities keep what is inside of a row. */
  isTaken: boolean;
}

/** The statements that wait for the end of this turn of the event loop, by plan. */
const boarding = new Map<LookupPlan, SharedSelect[]>();

/** How many statements have been sent and not answered, by plan. */
const underWay = new Map<LookupPlan, number>();

/**
 * One statement for the lookups of one shape that callers outside of transactions make in one turn of the event loop.
 * Lookups of the same key share a row of it.
 *
 * Nobody joins a statement that was sent: a lookup that begins after a commit must see it. What one lookup's value makes
 * the server refuse is no other's business: each of them is then looked up by a statement of its own.
 */
class SharedSelect {
  readonly #em: EntityManager;
  readonly #target: Target;
  readonly #plan: LookupPlan;
  readonly #passengers: Map<string, Passenger>;
  /** Whether each lookup had a statement of its own in the end. */
  isRefused = false;

  constructor(em: EntityManager, target: Target, plan: LookupPlan, passengers = new Map<string, Passenger>()) {
    this.#em = em;
    this.#target = target;
    this.#plan = plan;
    this.#passengers = passengers;
    for (const passenger of passengers.values()) passenger.select = this;
  }

  takes({ target }: Call): boolean {
    return target.schema === this.#target.schema && this.#passengers.size < MOST;
  }

  passengerOf({ em }: Call, lookup: Lookup): Passenger {
    let passenger = this.#passengers.get(lookup.values);
    if (!passenger) {
      const { promise: rows, resolve, reject } = Promise.withResolvers<readonly Row[]>();
      passenger = { lookup, em, select: this, rows, resolve, reject, isTaken: false };
      this.#passengers.set(lookup.values, passenger);
    }
    return passenger;
  }

  /** This statement, or its two halves; not parted between lookups that one EntityManager asked for in a row. */
  parts(): SharedSelect[] {
    if (this.#passengers.size < SPLIT_FROM) return [this];
    const all = [...this.#passengers];
    let half = all.length >> 1;
    while (half < all.length && all[half]![1].em === all[half - 1]![1].em) half += 1;
    if (half === all.length) return [this];
    return [all.slice(0, half), all.slice(half)].map(
      (part) => new SharedSelect(this.#em, this.#target, this.#plan, new Map(part)),
    );
  }

  /** Sends the statement. Everybody who waits gets an answer, or an error of his own. */
  async send(): Promise<void> {
    const passengers = [...this.#passengers.values()];
    underWay.set(this.#plan, (underWay.get(this.#plan) ?? 0) + 1);
    try {
      const { rows, indexOf } = await this.#select(passengers);
      const found = Map.groupBy(rows, indexOf);
      noteFound(this.#plan, passengers.length, found.size);
      passengers.forEach(({ resolve }, index) => resolve(found.get(index) ?? []));
    } catch (error) {
      const isOfOne =
        passengers.length > 1 &&
        (isOfStatement(error) ? !isOfWaiting(error) : isUnwritable(this.#em, () => this.#statement(passengers)));
      this.isRefused = isOfOne;
      for (const passenger of passengers) {
        if (isOfOne) void this.#sendAlone(passenger);
        else passenger.reject(error);
      }
    } finally {
      const left = underWay.get(this.#plan)! - 1;
      if (left > 0) underWay.set(this.#plan, left);
      else underWay.delete(this.#plan);
    }
  }

  async #sendAlone(passenger: Passenger): Promise<void> {
    try {
      passenger.resolve((await this.#select([passenger])).rows);
    } catch (error) {
      passenger.reject(error);
    }
  }

  #select(passengers: readonly Passenger[]): Promise<Selected> {
    const lookups = passengers.map(({ lookup }) => lookup);
    return selectMany((statement) => runShared(this.#em, statement), this.#target, this.#plan, lookups);
  }

  #statement(passengers: readonly Passenger[]): Sql {
    return selectRows(
      this.#target,
      this.#plan,
      passengers.map(({ lookup }) => lookup),
    );
  }
}

/** Whether a call's selects may be shared with those of other calls, on whichever EntityManager. */
export function sharesSelects({ em, options }: Call): boolean {
  return isSharable(em, options);
}

/** The rows of one lookup, by a statement that other lookups of this turn of the event loop share. */
export async function selectShared(call: Call, plan: LookupPlan, lookup: Lookup): Promise<readonly Row[]> {
  const waiting = boarding.get(plan);
  let select = waiting?.find((open) => open.takes(call));
  if (!select) {
    select = new SharedSelect(call.em, call.target, plan);
    if (waiting) waiting.push(select);
    else {
      boarding.set(plan, [select]);
      // after the sockets that are ready now, whose callers may go on to the next lookup
      setImmediate(depart, plan);
    }
  }
  const passenger = select.passengerOf(call, lookup);
  const rows = await passenger.rows;
  call.sharedSelect = passenger.select.isRefused ? undefined : passenger.select;
  if (passenger.isTaken) return rows.map(copyRow);
  passenger.isTaken = true;
  return rows;
}

function depart(plan: LookupPlan): void {
  const leaving = boarding.get(plan)!;
  boarding.delete(plan);
  const isSplit = expectsRows(plan) && !underWay.has(plan);
  const parts = isSplit ? leaving.flatMap((select) => select.parts()) : leaving;
  for (const select of parts) void select.send();
}
