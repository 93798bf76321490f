import type { ContenderDefinition } from './contender.js';

const mikroDocs = 'https://mikro-orm.io/docs';

/** All contenders by the name that scenarios use; each peer the way its documentation has it. */
export const contenders = {
  plusIdentityMap: {
    title: 'mikro-orm-plus, same EntityManager',
    role: 'subject',
    fillPasses: 1,
    open: async (environment) => (await import('./plus.js')).openIdentityMap(environment),
  },
  plusNear: {
    title: 'mikro-orm-plus, near cache',
    role: 'subject',
    fillPasses: 3,
    warmsUp: true,
    holdsRows: true,
    open: async (environment) => (await import('./plus.js')).openNear(environment),
  },
  plusMemory: {
    title: 'mikro-orm-plus, memory store',
    role: 'subject',
    fillPasses: 3,
    warmsUp: true,
    open: async (environment) => (await import('./plus.js')).openMemory(environment),
  },
  plusRedis: {
    title: 'mikro-orm-plus, Redis',
    role: 'subject',
    fillPasses: 3,
    warmsUp: true,
    open: async (environment) => (await import('./plus.js')).openRedis(environment),
  },
  plusDatabase: {
    title: 'mikro-orm-plus, not cached',
    role: 'subject',
    fillPasses: 0,
    open: async (environment) => (await import('./plus.js')).openDatabase(environment),
  },
  plusTick: {
    title: 'mikro-orm-plus, one EntityManager, calls in one tick',
    role: 'subject',
    fillPasses: 0,
    open: async (environment) => (await import('./plus.js')).openTick(environment),
  },
  rawPg: {
    title: 'pg, prepared statements',
    role: 'floor',
    fillPasses: 0,
    open: async (environment) => (await import('./pg.js')).open(environment),
  },
  mapHydration: {
    title: 'fork + decode + hydrate from a Map',
    role: 'floor',
    fillPasses: 0,
    open: async (environment) => (await import('./hydration.js')).openMap(environment),
  },
  redisHydration: {
    title: 'ioredis GET + fork + decode + hydrate',
    role: 'floor',
    fillPasses: 0,
    open: async (environment) => (await import('./hydration.js')).openRedis(environment),
  },
  mikroFindOrCreate: {
    title: 'MikroORM, findOne, else create + flush',
    role: 'peer',
    documentation: `${mikroDocs}/entity-manager#persist-and-flush`,
    fillPasses: 0,
    open: async (environment) => (await import('./mikro-orm.js')).openFindOrCreate(environment),
  },
  mikroUpsert: {
    title: "MikroORM, upsert with onConflictAction 'ignore'",
    role: 'peer',
    documentation: `${mikroDocs}/entity-manager#upsert`,
    fillPasses: 0,
    open: async (environment) => (await import('./mikro-orm.js')).openUpsert(environment),
  },
  mikroResultCache: {
    title: 'MikroORM, result cache in memory',
    role: 'peer',
    documentation: `${mikroDocs}/caching`,
    fillPasses: 1,
    open: async (environment) => (await import('./mikro-orm.js')).openMemoryCache(environment),
  },
  mikroResultCacheRedis: {
    title: 'MikroORM, result cache in Redis',
    role: 'peer',
    documentation: `${mikroDocs}/caching`,
    fillPasses: 1,
    open: async (environment) => (await import('./mikro-orm.js')).openRedisCache(environment),
  },
  sequelize: {
    title: 'Sequelize, findOrCreate',
    role: 'peer',
    documentation: 'https://sequelize.org/docs/v6/core-concepts/model-querying-finders/#findorcreate',
    fillPasses: 0,
    open: async (environment) => (await import('./sequelize.js')).open(environment),
  },
  typeOrm: {
    title: 'TypeORM, findOneBy, else insert orIgnore',
    role: 'peer',
    documentation: 'https://typeorm.io/docs/query-builder/insert-query-builder',
    fillPasses: 0,
    open: async (environment) => (await import('./typeorm.js')).open(environment),
  },
  prisma: {
    title: 'Prisma, upsert with an empty update',
    role: 'peer',
    documentation: 'https://www.prisma.io/docs/orm/reference/prisma-client-reference#upsert',
    fillPasses: 0,
    open: async (environment) => (await import('./prisma.js')).open(environment),
  },
  drizzle: {
    title: 'Drizzle, prepared select, else insert onConflictDoNothing',
    role: 'peer',
    documentation: 'https://orm.drizzle.team/docs/perf-queries',
    fillPasses: 0,
    open: async (environment) => (await import('./drizzle.js')).open(environment),
  },
  bentoMemory: {
    title: 'BentoCache over MikroORM, memory',
    role: 'peer',
    documentation: 'https://bentocache.dev/docs/quick-setup',
    fillPasses: 1,
    open: async (environment) => (await import('./bentocache.js')).openMemory(environment),
  },
  bentoTwoLevels: {
    title: 'BentoCache over MikroORM, memory + Redis + bus',
    role: 'peer',
    documentation: 'https://bentocache.dev/docs/multi-tier',
    fillPasses: 1,
    holdsRows: true,
    open: async (environment) => (await import('./bentocache.js')).openTwoLevels(environment),
  },
} satisfies Record<string, ContenderDefinition>;

export type ContenderName = keyof typeof contenders;
