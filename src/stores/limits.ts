import { ConfigurationError } from '../errors.js';

/** About 31 years. Sums of it and the time of day stay exact in JavaScript, in Lua and in Lua's JSON (14 digits). */
const MAX_MS = 1e12;

/**
 * Returns a duration as whole milliseconds, rounded up. Throws a {@link ConfigurationError} unless it is more than 0
 * and at most 10^12: everything in a store must expire some day, and a store must not half-execute a batch over it.
 */
export function milliseconds(name: string, value: number | undefined): number {
  if (value === undefined || !(value > 0 && value <= MAX_MS)) {
    throw new ConfigurationError(
      `${name} must be a number of milliseconds, more than 0 and at most ${MAX_MS}, but it is ${value}.`,
    );
  }
  return Math.ceil(value);
}

/** The key of a region's sequence. It starts with the region, so that `clear(prefix)` finds both by one prefix. */
export function sequenceKey(region: string): string {
  return `${region}:seq`;
}
