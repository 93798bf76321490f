import type { ContenderName } from './contenders/index.js';
import type { Target } from './judge.js';

const cached = { scenario: 'cached-hit', metric: 'throughput' } as const;
const database = {
  scenario: 'database-hit',
  metric: 'throughput',
  subject: 'plusDatabase',
  callers: [16, 64],
} as const;
const create = { scenario: 'create', metric: 'throughput', subject: 'plusDatabase', callers: [16, 64] } as const;
const race = {
  path: '64 callers race for one new key',
  scenario: 'race',
  subject: 'plusDatabase',
  against: 'rawPg',
} as const;
const bulk = {
  path: '10,000 keys, half new, one getOrCreateMany',
  scenario: 'bulk',
  subject: 'plusDatabase',
  metric: 'throughput',
} as const;
const mixed = { scenario: 'mixed', against: 'mikroFindOrCreate' } as const;

/** What the library is meant to reach. A missed one is reported as missed. */
export const targets: readonly Target<ContenderName>[] = [
  {
    ...cached,
    path: 'near cache hit, fresh fork',
    subject: 'plusNear',
    against: 'mapHydration',
    bound: { atLeast: 0.8 },
  },
  {
    ...cached,
    path: 'near cache hit, fresh fork',
    subject: 'plusNear',
    against: 'mikroFindOrCreate',
    bound: { atLeast: 12 },
  },
  {
    ...cached,
    path: 'Redis hit, fresh fork',
    subject: 'plusRedis',
    against: 'redisHydration',
    bound: { atLeast: 0.85 },
  },
  {
    ...cached,
    path: 'same key again on the same EntityManager',
    subject: 'plusIdentityMap',
    against: 'plusNear',
    bound: { atLeast: 10 },
  },
  { ...database, path: 'database hit, one call at a time per caller', against: 'rawPg', bound: { atLeast: 0.65 } },
  { ...database, path: 'database hit, one call at a time per caller', against: 'best peer', bound: { atLeast: 2 } },
  {
    path: 'database hit, 64 calls in one tick on one EntityManager',
    scenario: 'one-tick',
    subject: 'plusTick',
    against: 'rawPg',
    metric: 'throughput',
    bound: { atLeast: 1.5 },
  },
  { ...create, path: 'create', against: 'rawPg', bound: { atLeast: 0.6 } },
  { ...create, path: 'create', against: 'best peer', bound: { atLeast: 1.7 } },
  { ...race, metric: 'throughput', bound: { atLeast: 1 } },
  { ...race, metric: 'errors', bound: { atMost: 0 } },
  { ...bulk, against: 'rawPg', bound: { atLeast: 0.6 } },
  { ...bulk, against: 'best peer', bound: { atLeast: 1.7 } },
  {
    path: 'flush of one changed entity in a read-write region on Redis',
    scenario: 'flush',
    subject: 'plusRedis',
    against: 'mikroFindOrCreate',
    metric: 'throughput',
    bound: { atLeast: 0.8 },
  },
  // the issue of the mixed load names no kind of region, so both that hold across processes are held to it
  ...(['plusRedis', 'plusNear'] as const).flatMap((subject): Target<ContenderName>[] => {
    const path = `mixed load, ${subject === 'plusRedis' ? 'read-write region on Redis' : 'near cache'}`;
    return [
      { ...mixed, path, subject, metric: 'throughput', bound: { atLeast: 8 } },
      { ...mixed, path, subject, metric: 'p99', bound: { atMost: 0.5 } },
    ];
  }),
];
