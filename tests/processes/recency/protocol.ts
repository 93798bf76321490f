/**
 * What the processes of the checker tell each other.
 *
 * **Order of events.** All times are `process.hrtime()` in microseconds: CLOCK_MONOTONIC, which is one clock for all
 * processes of a machine on Linux (elsewhere the checker refuses to run). A writer takes the time of an acknowledgement
 * after the library's promise has resolved, rounded up; a reader takes the time of its start before it calls the
 * library, rounded down. So `start >= acknowledged` means that the read started after the acknowledgement, however the
 * processes were scheduled: there is no false alarm. What is hidden are reads that start within the microseconds
 * between the resolution of the promise and the time taken (longer if the process is stopped just there).
 *
 * **Transport.** A worker writes each event with one blocking write(2) to a pipe before it does anything else, so what
 * happened before a SIGKILL arrives. The order of arrival means nothing: the judge waits until everything that
 * could have been acknowledged before a read's start has arrived.
 */
import type { Statistics } from '../../../src/index.js';

export type Role = 'reader' | 'writer';

export type StoreOperation = 'readMany' | 'guard' | 'fillMany' | 'lockMany' | 'releaseMany' | 'evictMany';

/** Places where a worker can be killed, stopped, delayed, or wait for the coordinator. */
export type FaultPoint =
  | `${StoreOperation}:before`
  | `${StoreOperation}:after`
  /** After all of the library's work before COMMIT. */
  | 'commit:before'
  /** After COMMIT, before the library hears of it. */
  | 'commit:after'
  | 'rollback:after';

/** Every await of the commit flow. */
export const commitPoints: readonly FaultPoint[] = [
  'lockMany:before',
  'lockMany:after',
  'commit:before',
  'commit:after',
  'releaseMany:before',
  'releaseMany:after',
];

/** Every await of a read that misses. */
export const readPoints: readonly FaultPoint[] = [
  'readMany:after',
  'guard:before',
  'guard:after',
  'fillMany:before',
  'fillMany:after',
];

/** What happens at a fault point; `ask` waits for the coordinator. */
export type Trap =
  | { readonly kind: 'kill' }
  | { readonly kind: 'stop'; readonly ms: number }
  | { readonly kind: 'delay'; readonly ms: number }
  | { readonly kind: 'ask' };

/** From the coordinator to a worker. */
export type Order =
  | { readonly kind: 'start'; readonly setup: WorkerSetup }
  | { readonly kind: 'arm'; readonly point: FaultPoint; readonly trap: Trap; readonly slowCommitMs?: number }
  | { readonly kind: 'disarm' }
  | { readonly kind: 'go' }
  /** Ends the loops; the process stays. */
  | { readonly kind: 'quiet' }
  /** Ends everything; the process has to exit by itself. */
  | { readonly kind: 'finish' };

export interface WorkerSetup {
  readonly name: string;
  readonly role: Role;
  readonly seed: number;
  readonly lanes: number;
  readonly databaseUrl: string;
  readonly redisUrl: string;
  readonly rows: number;
  readonly region: RegionSetup;
  readonly broken: Broken | undefined;
}

/** The strategies whose promises are checked; `nonstrict-read-write` with a near cache. */
export const strategies = ['read-write', 'nonstrict-read-write'] as const;
export type Strategy = (typeof strategies)[number];

interface RegionSetup {
  readonly strategy: Strategy;
  readonly maxStaleness: number;
  readonly nearCache: { readonly maxEntries: number } | undefined;
  readonly onStoreFailure: 'bypass' | 'reject';
  readonly leaseTtl: number;
  readonly softLockTtl: number;
}

/** Ways to break the cache on purpose, to see that the checker notices; `deaf`: near caches that hear of no change. */
export type Broken = 'no-locks' | 'no-leases' | 'deaf';

/** A row's life: deleted and created again, it has another id. */
interface RowId {
  readonly row: string;
  readonly id: number;
}

/** From a worker to the coordinator. */
export type WorkerEvent =
  | { readonly kind: 'ready' }
  /** How far it has come in ending. */
  | { readonly kind: 'ending'; readonly step: 'loops' | 'orm' | 'store' }
  | ReadEvent
  | CommitEvent
  | ({ readonly kind: 'deleted'; readonly how: string; readonly released: boolean; readonly at: number } & RowId)
  /** A version that certainly was never committed. */
  | {
      readonly kind: 'aborted';
      readonly row: string;
      readonly version: number;
      readonly how: string;
      readonly at: number;
      readonly error: string;
    }
  /** A write whose outcome its caller doesn't know. */
  | {
      readonly kind: 'doubtful';
      readonly row: string;
      readonly version: number;
      readonly how: string;
      readonly at: number;
      readonly error: string;
    }
  | { readonly kind: 'trap'; readonly point: FaultPoint; readonly trap: Trap; readonly at: number }
  | { readonly kind: 'error'; readonly where: string; readonly error: string; readonly at: number }
  /** See `onStall`. */
  | { readonly kind: 'stalled'; readonly from: number; readonly at: number }
  | { readonly kind: 'unhandled'; readonly error: string; readonly at: number }
  | {
      readonly kind: 'operation';
      readonly at: number;
      readonly operation: string;
      readonly keys: readonly string[];
      readonly outcome: string;
    }
  /** Which row the entry of a key is of. */
  | { readonly kind: 'entry'; readonly key: string; readonly row: string }
  | { readonly kind: 'statistics'; readonly statistics: Statistics };

export interface ReadEvent extends RowId {
  readonly kind: 'read';
  readonly version: number;
  readonly start: number;
  readonly end: number;
  readonly how: string;
  readonly servedBy: string;
}

export interface CommitEvent extends RowId {
  readonly kind: 'committed';
  /** The row has at least this version from now on. */
  readonly version: number;
  readonly begun: number;
  readonly at: number;
  readonly how: string;
  /** Whether the store was told of the end of the transaction before it was acknowledged. */
  readonly released: boolean;
}

/** For the time of an acknowledgement: never too early. */
export function nowUp(): number {
  return Number(process.hrtime.bigint() / 1_000n) + 1;
}

/** For the time of a read's start: never too late. */
export function nowDown(): number {
  return Number(process.hrtime.bigint() / 1_000n);
}
