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
import { noteFound } from './expectation.js';
import { selectMany, type Selected } from './select-many.js';

/** Most lookups of one shared statement; the next ones get another. */
const MOST = 500;

/** One key of a shared statement, and who waits for it. */
interface Passenger {
  readonly lookup: Lookup;
  readonly rows: Promise<readonly Row[]>;
  readonly resolve: (rows: readonly Row[]) => void;
  readonly reject: (error: unknown) => void;
  /** Whether somebody has the rows already: others get copies, since entities keep what is inside of a row. */
  isTaken: boolean;
}

/** The statements that wait for the end of this turn of the event loop, by plan. */
const boarding = new Map<LookupPlan, SharedSelect[]>();

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
  readonly #passengers = new Map<string, Passenger>();
  /** Whether each lookup had a statement of its own in the end. */
  isRefused = false;

  constructor({ em, target }: Call, plan: LookupPlan) {
    this.#em = em;
    this.#target = target;
    this.#plan = plan;
  }

  takes({ target }: Call): boolean {
    return target.schema === this.#target.schema && this.#passengers.size < MOST;
  }

  passengerOf(lookup: Lookup): Passenger {
    let passenger = this.#passengers.get(lookup.values);
    if (!passenger) {
      const { promise: rows, resolve, reject } = Promise.withResolvers<readonly Row[]>();
      passenger = { lookup, rows, resolve, reject, isTaken: false };
      this.#passengers.set(lookup.values, passenger);
    }
    return passenger;
  }

  /** Sends the statement. Everybody who waits gets an answer, or an error of his own. */
  async send(): Promise<void> {
    const passengers = [...this.#passengers.values()];
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
    select = new SharedSelect(call, plan);
    if (waiting) waiting.push(select);
    else {
      boarding.set(plan, [select]);
      // after the sockets that are ready now, whose callers may go on to the next lookup
      setImmediate(depart, plan);
    }
  }
  const passenger = select.passengerOf(lookup);
  const rows = await passenger.rows;
  call.sharedSelect = select.isRefused ? undefined : select;
  if (passenger.isTaken) return rows.map(copyRow);
  passenger.isTaken = true;
  return rows;
}

function depart(plan: LookupPlan): void {
  const leaving = boarding.get(plan)!;
  boarding.delete(plan);
  for (const select of leaving) void select.send();
}
