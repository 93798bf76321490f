import type { LookupPlan } from '../natural-keys/plan.js';

/** So many lookups make a statement that something is to be learnt from. */
const TELLING = 4;

/** How many of a plan's last shared statements in a row found nothing at all. */
const foundNothing = new WeakMap<LookupPlan, number>();

/** Remembers how many of the lookups of a shared statement found their row. One of few lookups makes another forgotten. */
export function noteFound(plan: LookupPlan, lookups: number, found: number): void {
  if (found > 0) forget(plan);
  else {
    const times = foundNothing.get(plan) ?? 0;
    foundNothing.set(plan, Math.max(Math.min(0, times), times + (lookups < TELLING ? -1 : 1)));
  }
}

/** Has nothing be expected of a plan whose rows can't be inserted so, until a row is found. */
export function neverExpect(plan: LookupPlan): void {
  foundNothing.set(plan, -Infinity);
}

/** Whether no lookup of a plan will find a row, as far as the last ones tell. */
export function expectsNone(plan: LookupPlan): boolean {
  return (foundNothing.get(plan) ?? 0) > 1;
}

/** Forgets what was learnt, since it was wrong. */
export function forget(plan: LookupPlan): void {
  foundNothing.delete(plan);
}
