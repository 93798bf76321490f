import {
  refuseUnknown,
  requireMilliseconds,
  resolveRegion,
  type RegionOptions,
  type ResolvedRegion,
} from './config/region-options.js';
import { resolveRelay, type RelayOptions, type ResolvedRelay } from './config/relay-options.js';
import { ConfigurationError } from './errors.js';
import type { StoreSource } from './stores/open-store.js';

/** Options of `PlusSubscriber`. All times are in milliseconds. */
export interface PlusOptions {
  /**
   * Stores by alias: URLs (`memory://?maxEntries=10000`, `redis://…`, `rediss://…`), `CacheStore`s, or ioredis clients.
   * `default` holds lookup entries, and the rows of regions that name no other. Default: `{ default: 'memory://' }`.
   */
  stores?: Readonly<Record<string, StoreSource>>;
  /** Defaults for every region. */
  regions?: RegionOptions;
  /**
   * Start of every key. Default: made from host, port and name of the database, so that two databases over one Redis
   * never meet. Set it where processes reach one database under several names: they share entries, and tell each other
   * of changes, only under one prefix.
   */
  prefix?: string;
  /** The longest that a store may hold up a read or a commit, in milliseconds. Default: 250. */
  timeout?: number;
  /**
   * Take part in bringing to the cache what is changed past MikroORM (`psql`, other services, bulk statements, cascades),
   * as the triggers of the cached tables log it. It takes one more connection to PostgreSQL, and keeps `memory://`
   * regions of several processes in step. Default: false.
   */
  relay?: boolean | RelayOptions;
  /**
   * Publish this process's counters every so many milliseconds, from 100, for `npx mikro-orm-plus stats`: one `SET` of
   * some hundred bytes per entity, in the first store that is in Redis, under the prefix. They expire after three
   * intervals. A failure is ignored. Default: nothing is published.
   */
  shareStatistics?: number;
}

/** Options of `PlusSubscriber` with nothing left open. */
export interface ResolvedOptions {
  readonly stores: Readonly<Record<string, StoreSource>>;
  readonly regions: ResolvedRegion;
  readonly prefix: string | undefined;
  readonly timeout: number;
  readonly relay: ResolvedRelay | undefined;
  readonly shareStatistics: number | undefined;
}

const SHORTEST_SHARE_MS = 100;

const plusOptionNames = new Set(['stores', 'regions', 'prefix', 'timeout', 'relay', 'shareStatistics']);

/** @throws {ConfigurationError} for an unknown option or a value that can't work */
export function resolveOptions(options: PlusOptions): ResolvedOptions {
  refuseUnknown('PlusSubscriber', options, plusOptionNames);
  const timeout = options.timeout ?? 250;
  requireMilliseconds('PlusSubscriber', 'timeout', timeout);
  const { shareStatistics } = options;
  if (shareStatistics !== undefined) {
    requireMilliseconds('PlusSubscriber', 'shareStatistics', shareStatistics);
    if (shareStatistics < SHORTEST_SHARE_MS) {
      throw new ConfigurationError(`PlusSubscriber: shareStatistics must be at least ${SHORTEST_SHARE_MS} ms.`);
    }
  }
  if (options.prefix === '')
    throw new ConfigurationError("The prefix of PlusSubscriber can't be empty: leave it out, or name one.");
  const stores = { ...options.stores };
  stores.default ??= 'memory://';
  return {
    stores,
    regions: resolveRegion('regions of PlusSubscriber', options.regions ?? {}),
    prefix: options.prefix,
    timeout,
    relay: resolveRelay(options.relay),
    shareStatistics,
  };
}
