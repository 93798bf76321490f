/** The middle of some numbers; of an even count, the mean of the two in the middle. NaN of none. */
export function median(values: Iterable<number>): number {
  const sorted = Float64Array.from(values).toSorted();
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/**
 * The smallest value that at least `percent` % of the values don't exceed (the nearest-rank method, which never
 * invents a value). NaN of none.
 *
 * @param sorted in ascending order
 */
export function percentile(sorted: ArrayLike<number>, percent: number): number {
  const rank = Math.max(1, Math.ceil((percent / 100) * sorted.length));
  return sorted[rank - 1] ?? NaN;
}

/** Ratios of two series that were measured in turns: each is of one round, so what slowed a whole round cancels out. */
export function pairedRatio(values: readonly number[], against: readonly number[]): number {
  const rounds = Math.min(values.length, against.length);
  return median(Array.from({ length: rounds }, (_value, round) => values[round]! / against[round]!));
}
