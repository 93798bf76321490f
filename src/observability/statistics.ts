/** Counters since start, as Hibernate's. Every lookup counts in exactly one of the six ways that it can be answered. */
export interface Statistics {
  lookups: number;
  identityMapHits: number;
  nearCacheHits: number;
  storeHits: number;
  databaseHits: number;
  created: number;
  updated: number;
  /** Lookups that found the row only after another writer had created it first; they count as `databaseHits` too. */
  racesLost: number;
  /** Rows put into a store. */
  fills: number;
  /** Rows that were not put, since their lease or guard was void. */
  refusedFills: number;
  /** Soft locks put on entries before a commit. */
  softLocks: number;
  /** Entries removed on request, or because they could not be read. */
  evictions: number;
  /** Operations that a store failed or did not answer in time. */
  storeFailures: number;
}

export function newStatistics(): Statistics {
  return {
    lookups: 0,
    identityMapHits: 0,
    nearCacheHits: 0,
    storeHits: 0,
    databaseHits: 0,
    created: 0,
    updated: 0,
    racesLost: 0,
    fills: 0,
    refusedFills: 0,
    softLocks: 0,
    evictions: 0,
    storeFailures: 0,
  };
}

/** Sums counters of several entities. */
export function sumStatistics(all: Iterable<Readonly<Statistics>>): Statistics {
  const sum = newStatistics();
  for (const statistics of all) {
    for (const name of Object.keys(sum) as (keyof Statistics)[]) sum[name] += statistics[name];
  }
  return sum;
}
