import type { Slice, SliceResult } from './load.js';
import type { ContenderName } from '../contenders/index.js';
import type { Environment } from '../contenders/contender.js';

/** What a process of a contender is asked to do; it does one thing at a time, and answers each. */
export type Request =
  /** Opens the contender; what was open before is closed. */
  | { readonly kind: 'open'; readonly contender: ContenderName; readonly environment: Environment }
  /** Asks for the first `count` seeded rows once each, so that caches hold them; many at a time where it can. */
  | { readonly kind: 'fill'; readonly count: number }
  /** Asks for the first `count` seeded rows once each, one name per call, as the load will. */
  | { readonly kind: 'visit'; readonly count: number }
  /** Puts these seeded rows into the cache, by the contender's own way to do so. */
  | { readonly kind: 'warm-up'; readonly first: number; readonly last: number }
  | { readonly kind: 'slice'; readonly slice: Slice }
  /** The live heap, in bytes. */
  | { readonly kind: 'heap' }
  | { readonly kind: 'served' }
  /** Closes the contender; the process stays for another scenario. */
  | { readonly kind: 'rest' }
  | { readonly kind: 'close' };

/** What each request is answered with. */
export interface Answers {
  readonly open: undefined;
  readonly fill: undefined;
  readonly visit: undefined;
  readonly 'warm-up': undefined;
  readonly slice: SliceResult;
  readonly heap: number;
  readonly served: Readonly<Record<string, number>>;
  readonly rest: undefined;
  readonly close: undefined;
}

export type Answer =
  { readonly kind: 'done'; readonly value: unknown } | { readonly kind: 'failed'; readonly message: string };
