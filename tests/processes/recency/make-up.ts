/** "At most 2 s after the store is back", and what stalls too short to be reported may add to it. */
export const MAKE_UP_US = 2_000_000 + 500_000;

export interface Span {
  readonly from: number;
  to: number;
}

/**
 * By when a process must have told the store what it could not tell at `at`: an outage begins the time anew, and a stall,
 * in which the machine gave it no turn, stops it.
 */
export function dueAfter(at: number, outages: readonly Span[], stalls: readonly Readonly<Span>[]): number {
  const spans = [
    ...outages.map(({ from, to }) => ({ from, to, isStall: false })),
    ...stalls.map(({ from, to }) => ({ from, to, isStall: true })),
  ];
  let due = at + MAKE_UP_US;
  let healed = at;
  for (const { from, to, isStall } of spans.toSorted((left, right) => left.from - right.from)) {
    if (from > due || to < at) continue;
    if (isStall) due += Math.max(0, to - Math.max(from, healed));
    else {
      due = Math.max(due, to + MAKE_UP_US);
      healed = Math.max(healed, to);
    }
  }
  return due;
}
