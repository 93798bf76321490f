/** A moment of this process, to be asked for its age later. */
export interface Moment {
  readonly steadyMs: number;
  readonly wallMs: number;
}

export function now(): Moment {
  return { steadyMs: performance.now(), wallMs: Date.now() };
}

/**
 * Milliseconds since a moment, rather too many than too few: the steady clock stands still while the machine is
 * suspended, and the wall clock may be set back, so the one that says more is believed.
 */
export function ageOf(moment: Moment): number {
  return Math.max(performance.now() - moment.steadyMs, Date.now() - moment.wallMs);
}
