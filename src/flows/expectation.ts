import type { LookupPlan } from '../natural-keys/plan.js';

/** So many lookups make a statement that something is to be learnt from. */
const TELLING = 4;

/** How many of a plan's last shared statements in a row found nothing at all. */
const foundNothing = new WeakMap<LookupPlan, number>();

/** Remembers how many of the lookups of a shared statement found their row. */
export function noteFound(plan: LookupPlan, lookups: number, found: number): void {
  if (found > 0) foundNothing.delete(plan);
  else if (lookups >= TELLING) foundNothing.set(plan, (foundNothing.get(plan) ?? 0) + 1);
}

/** Whether no lookup of a plan will find a row, as far as the last ones tell. */
export function expectsNone(plan: LookupPlan): boolean {
  return (foundNothing.get(plan) ?? 0) > 1;
}

/** Forgets what was learnt: it was wrong, or too few callers are left that it would serve. */
export function forget(plan: LookupPlan): void {
  foundNothing.delete(plan);
}
