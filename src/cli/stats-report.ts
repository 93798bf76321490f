import type { Statistics } from '../observability/statistics.js';
import type { EntryCount } from '../stores/redis/inspect.js';

/** What one look shows. */
export interface StatsReport {
  readonly format: 1;
  /** When it was made: an ISO date. */
  readonly at: string;
  /** Running processes that share their statistics. */
  readonly processes: readonly ProcessStats[];
  /** Counters of all those processes together, by entity. */
  readonly entities: Readonly<Record<string, Statistics>>;
  readonly regions: readonly RegionStats[];
  readonly stores: readonly StoreStats[];
}

export interface ProcessStats {
  readonly host: string;
  readonly pid: number;
  readonly since: string;
  /** Of all entities, or of the one that was asked for. */
  readonly statistics: Statistics;
}

export interface RegionStats extends EntryCount {
  readonly entity: string;
  readonly store: string;
}

export interface StoreStats {
  readonly store: string;
  /** Of all its servers. */
  readonly usedMemoryBytes?: number;
  readonly maxMemoryBytes?: number;
  /** Why it could not be asked. */
  readonly error?: string;
}
