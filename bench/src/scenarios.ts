import type { ContenderName } from './contenders/index.js';
import type { Load } from './load/load.js';

/** A contender's part in a scenario. */
export interface Entry {
  readonly contender: ContenderName;
  /** What differs from the scenario's load. */
  readonly load?: Partial<Load>;
}

/** Contenders that are measured in turns under one load. */
export interface Scenario {
  readonly id: string;
  readonly title: string;
  /** What is measured, in a sentence. */
  readonly description: string;
  readonly load: Omit<Load, 'callers'>;
  /** The numbers of callers at once. */
  readonly callers: readonly number[];
  /** Processes that work at the same time, for each contender. */
  readonly processes: number;
  /** Rows in the table. */
  readonly rows: number;
  /** Rows that are asked for beforehand, so that caches hold them; a quick run asks for fewer. */
  readonly fill: number;
  /**
   * Whether caches are filled as by traffic that has gone on for long: once by the contender's own way to warm up, if it has
   * one, and then the first process asks for each name once, and the others too if each holds rows itself.
   */
  readonly isSteady?: boolean;
  /** Sizes of caches, where the default holds fewer rows. */
  readonly parameters?: Readonly<Record<string, number>>;
  /** Calls per slice instead of a time, for calls that are long. */
  readonly calls?: number;
  /** Calls that warm up each process instead of a time, for code that a slow contender would run too seldom in it. */
  readonly warmUpCalls?: number;
  /** The contender that the others are shown in proportion to. */
  readonly baseline: ContenderName;
  readonly entries: readonly Entry[];
  /** Of subjects, the peers that keep rows in the same place; all peers when absent. */
  readonly rivals?: Partial<Record<ContenderName, readonly ContenderName[]>>;
}

const HIT_ROWS = 1_000;
const MIXED_ROWS = 100_000;
const BULK = 10_000;
/** After so many, V8 has compiled what a flush runs through: its CPU time doesn't fall any more. */
const WARM_FLUSHES = 10_000;
/** Of which 400 are updates. */
const WARM_MIXED = 10_000;

const get = { operation: 'get', batch: 1 } as const;
const databasePeers = ['mikroFindOrCreate', 'mikroUpsert', 'sequelize', 'typeOrm', 'prisma', 'drizzle'] as const;
const of = (...names: ContenderName[]): Entry[] => names.map((contender) => ({ contender }));

/** What is measured, in the order of the report. */
export const scenarios: readonly Scenario[] = [
  {
    id: 'cached-hit',
    title: 'Hit, from a cache',
    description: `getOrCreate of one of ${HIT_ROWS} rows that the caches hold, on a fresh EntityManager (but for "same EntityManager")`,
    load: { ...get, names: { kind: 'existing', count: HIT_ROWS } },
    callers: [1, 16, 64],
    processes: 1,
    rows: HIT_ROWS,
    fill: HIT_ROWS,
    baseline: 'mikroFindOrCreate',
    entries: of(
      'plusIdentityMap',
      'plusNear',
      'plusMemory',
      'plusRedis',
      'mapHydration',
      'redisHydration',
      'mikroFindOrCreate',
      'mikroResultCache',
      'mikroResultCacheRedis',
      'bentoMemory',
      'bentoTwoLevels',
    ),
    rivals: {
      plusIdentityMap: [],
      plusNear: ['mikroResultCache', 'bentoTwoLevels'],
      plusMemory: ['mikroResultCache', 'bentoMemory'],
      plusRedis: ['mikroResultCacheRedis'],
    },
  },
  {
    id: 'database-hit',
    title: 'Hit, from the database',
    description: 'getOrCreate of a row that exists, nothing cached, one call at a time per caller',
    load: { ...get, names: { kind: 'existing', count: 10_000 } },
    callers: [1, 16, 64],
    processes: 1,
    rows: 10_000,
    fill: 0,
    baseline: 'rawPg',
    entries: of('rawPg', 'plusDatabase', ...databasePeers),
  },
  {
    id: 'one-tick',
    title: 'Hits from the database, 64 calls in one tick on one EntityManager',
    description:
      'Promise.all over 64 getOrCreate of rows that exist; for the floor and the peer, 64 callers with single selects',
    load: { operation: 'many', batch: 64, names: { kind: 'existing', count: 10_000 } },
    callers: [1],
    processes: 1,
    rows: 10_000,
    fill: 0,
    baseline: 'rawPg',
    entries: [
      { contender: 'plusTick' },
      { contender: 'rawPg', load: { ...get, callers: 64 } },
      { contender: 'mikroFindOrCreate', load: { ...get, callers: 64 } },
    ],
  },
  {
    id: 'create',
    title: 'Create',
    description: 'getOrCreate of a name that nobody has',
    load: { ...get, names: { kind: 'new' } },
    callers: [1, 16, 64],
    processes: 1,
    rows: 10_000,
    fill: 0,
    baseline: 'rawPg',
    entries: of('rawPg', 'plusDatabase', 'plusRedis', ...databasePeers),
  },
  {
    id: 'race',
    title: '64 callers race for one new name',
    description: 'at once, again and again with another name; failed calls are counted, and not as done',
    load: { operation: 'race', batch: 64, names: { kind: 'new' } },
    callers: [1],
    processes: 1,
    rows: 10_000,
    fill: 0,
    baseline: 'rawPg',
    entries: of('rawPg', 'plusDatabase', ...databasePeers),
  },
  {
    id: 'bulk',
    title: `${BULK.toLocaleString('en')} names at once, half of them new`,
    description: 'one getOrCreateMany, or what the contender has for many rows; in names per second',
    load: { operation: 'many', batch: BULK, names: { kind: 'half-new', count: BULK } },
    callers: [1],
    processes: 1,
    rows: BULK,
    fill: 0,
    calls: 1,
    baseline: 'rawPg',
    entries: of('rawPg', 'plusDatabase', ...databasePeers),
  },
  {
    id: 'flush',
    title: 'Flush of one changed entity',
    description:
      'em.flush() alone, of a changed entity in a read-write region on Redis and of one without the subscriber',
    load: { operation: 'flush', batch: 1, names: { kind: 'existing', count: 10_000 } },
    callers: [1, 16, 64],
    processes: 1,
    rows: 10_000,
    fill: 0,
    warmUpCalls: WARM_FLUSHES,
    baseline: 'mikroFindOrCreate',
    entries: of('plusRedis', 'mikroFindOrCreate'),
  },
  {
    id: 'mixed',
    title: 'Mixed load from 2 processes',
    description: `95 % hits over a Zipf distribution of ${MIXED_ROWS.toLocaleString('en')} names, 4 % updates (load, change, flush), 1 % new names; the callers are those of each process`,
    load: { operation: 'mixed', batch: 1, names: { kind: 'mixed', count: MIXED_ROWS } },
    callers: [1, 16, 64],
    processes: 2,
    rows: MIXED_ROWS,
    fill: MIXED_ROWS,
    isSteady: true,
    warmUpCalls: WARM_MIXED,
    // with room for the new names
    parameters: { nearCacheEntries: 2 * MIXED_ROWS },
    baseline: 'mikroFindOrCreate',
    entries: of('plusRedis', 'plusNear', 'mikroFindOrCreate', 'mikroResultCacheRedis', 'bentoTwoLevels'),
  },
];
