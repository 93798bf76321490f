import { faultKinds, type FaultKind } from './faults.js';
import type { Broken, Strategy } from './protocol.js';

export interface CheckerOptions {
  readonly seconds: number;
  readonly seed: number;
  readonly readers: number;
  readonly writers: number;
  readonly rows: number;
  readonly strategy: Strategy;
  readonly onStoreFailure: 'bypass' | 'reject';
  readonly faults: readonly FaultKind[];
  readonly broken?: Broken | undefined;
  /** Ends the run at the first stale read. */
  readonly stopWhenStale?: boolean;
}

export const defaultOptions: CheckerOptions = {
  seconds: 60,
  seed: 1,
  readers: 4,
  writers: 3,
  rows: 4,
  strategy: 'read-write',
  onStoreFailure: 'reject',
  faults: faultKinds,
};
