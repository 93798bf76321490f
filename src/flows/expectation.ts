import type { LookupPlan } from '../natural-keys/plan.js';

/** So many lookups make a statement that something is to be learnt from. */
const TELLING = 4;

/** What was learnt from the last shared statements of a plan. */
interface Experience {
  /** Whether the last one found most of its rows. */
  findsMost: boolean;
  /** How many in a row found nothing at all. */
  foundNothing: number;
}

const experiences = new WeakMap<LookupPlan, Experience>();

/** Remembers how many of the lookups of a shared statement found their row. */
export function noteFound(plan: LookupPlan, lookups: number, found: number): void {
  const { foundNothing } = experiences.get(plan) ?? { foundNothing: 0 };
  experiences.set(plan, {
    findsMost: found * 2 > lookups,
    foundNothing: found > 0 ? 0 : lookups < TELLING ? foundNothing : foundNothing + 1,
  });
}

/** Whether most lookups of a plan will find their rows, as far as the last ones tell. */
export function expectsRows(plan: LookupPlan): boolean {
  return experiences.get(plan)?.findsMost === true;
}

/** Whether no lookup of a plan will find a row, as far as the last ones tell. */
export function expectsNone(plan: LookupPlan): boolean {
  return (experiences.get(plan)?.foundNothing ?? 0) > 1;
}

/** Forgets what was learnt: it was wrong, or too few callers are left that it would serve. */
export function forget(plan: LookupPlan): void {
  experiences.delete(plan);
}
