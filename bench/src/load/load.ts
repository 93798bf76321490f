/** Which names a load asks for. The seeded rows are called `k1`, `k2`, …; anything else is new. */
export type Names =
  /** Any of the first `count` seeded rows, all equally often. */
  | { readonly kind: 'existing'; readonly count: number }
  /** Never seen before. */
  | { readonly kind: 'new' }
  /** Alternately an existing and a new one. */
  | { readonly kind: 'half-new'; readonly count: number }
  /** 95 % hits and 4 % updates over a Zipf distribution of the first `count` rows, 1 % new rows. */
  | { readonly kind: 'mixed'; readonly count: number };

/** What one caller does again and again. */
export type Operation =
  /** One `getOrCreate`. */
  | 'get'
  /** One `getOrCreateMany` of `batch` names. */
  | 'many'
  /** `batch` callers at once ask for one and the same name. */
  | 'race'
  /** What the drawn name calls for: a `getOrCreate` or an update. */
  | 'mixed'
  /** A changed entity is flushed; loading it isn't counted. */
  | 'flush';

/** A load on one process. */
export interface Load {
  readonly operation: Operation;
  readonly names: Names;
  /** How many callers there are at once, each with one call under way at a time. */
  readonly callers: number;
  /** Names per call, for `many` and `race`; otherwise 1. */
  readonly batch: number;
}

/** How long a slice takes: as long as `milliseconds`, or as many `calls` (of all callers together). */
export type Limit = { readonly milliseconds: number } | { readonly calls: number };

/** A load for a while. */
export interface Slice {
  readonly load: Load;
  readonly limit: Limit;
  /** Start of new names, unlike that of any other slice. */
  readonly prefix: string;
  readonly seed: number;
}

/** What came of a slice in one process. */
export interface SliceResult {
  /** Names that were asked for. */
  readonly names: number;
  /** Calls that failed. */
  readonly errors: number;
  /** The first of their messages. */
  readonly firstError: string | undefined;
  readonly elapsedMs: number;
  /** Of each call, in ms. */
  readonly latencies: Float32Array;
  /** Of this process: user and system, in ms. */
  readonly cpuMs: number;
  /** The highest resident set size of this process during the slice, in bytes. */
  readonly peakBytes: number;
}
