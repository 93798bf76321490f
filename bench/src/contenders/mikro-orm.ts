import type { CacheAdapter } from '@mikro-orm/core';
import type { MikroORM } from '@mikro-orm/postgresql';
import { Redis } from 'ioredis-6';
import { DEFAULTS, type Contender, type Environment } from './contender.js';
import { Item, openOrm } from './item.js';

async function findOrCreate(orm: MikroORM, name: string): Promise<object> {
  const em = orm.em.fork();
  const found = await em.findOne(Item, { name });
  if (found) return found;
  const item = em.create(Item, { name, ...DEFAULTS });
  await em.flush();
  return item;
}

async function prepareFlush(orm: MikroORM, name: string): Promise<() => Promise<void>> {
  const em = orm.em.fork();
  const item = await em.findOneOrFail(Item, { name });
  item.weight = (item.weight ?? 0) + 1;
  return () => em.flush();
}

/** Find, else create and flush. */
export async function openFindOrCreate(environment: Environment): Promise<Contender> {
  const orm = await openOrm(environment, {});
  return {
    getOrCreate: (name) => findOrCreate(orm, name),
    getOrCreateMany: async (names) => {
      const em = orm.em.fork();
      const items = await em.find(Item, { name: { $in: names } });
      const known = new Set(items.map(({ name }) => name));
      for (const name of names) if (!known.has(name)) items.push(em.create(Item, { name, ...DEFAULTS }));
      await em.flush();
      return items;
    },
    update: async (name) => (await prepareFlush(orm, name))(),
    prepareFlush: (name) => prepareFlush(orm, name),
    close: () => orm.close(),
  };
}

/** MikroORM's own answer to races: `on conflict do nothing`, and a select for a row that was there. */
export async function openUpsert(environment: Environment): Promise<Contender> {
  const orm = await openOrm(environment, {});
  const options = { onConflictFields: ['name'], onConflictAction: 'ignore' } as const;
  return {
    getOrCreate: (name) => orm.em.fork().upsert(Item, { name, ...DEFAULTS }, options as never),
    getOrCreateMany: (names) =>
      orm.em.fork().upsertMany(
        Item,
        names.map((name) => ({ name, ...DEFAULTS })),
        options as never,
      ),
    close: () => orm.close(),
  };
}

/** The interface that MikroORM documents for caches of one's own, over ioredis. It has no adapter for Redis itself. */
class RedisCacheAdapter implements CacheAdapter {
  readonly #redis: Redis;

  // a URL and not a client: MikroORM copies the objects of its configuration
  constructor({ url }: { url: string }) {
    this.#redis = new Redis(url);
  }

  async get<T>(name: string): Promise<T | undefined> {
    const text = await this.#redis.get(`result:${name}`);
    return text === null ? undefined : (JSON.parse(text) as T);
  }

  async set(name: string, data: unknown, _origin: string, expiration = 60_000): Promise<void> {
    await this.#redis.set(`result:${name}`, JSON.stringify(data), 'PX', expiration);
  }

  async remove(name: string): Promise<void> {
    await this.#redis.del(`result:${name}`);
  }

  async clear(): Promise<void> {
    const names = await this.#redis.keys('result:*');
    if (names.length > 0) await this.#redis.del(names);
  }

  async close(): Promise<void> {
    await this.#redis.quit();
  }
}

const EXPIRATION_MS = 3_600_000;

/** `findOne` with the option `cache`, and after every write `clearCache` for the key. */
async function openResultCache(environment: Environment, configuration: object): Promise<Contender> {
  const orm = await openOrm(environment, { resultCache: configuration });
  return {
    getOrCreate: async (name) => {
      const em = orm.em.fork();
      const found = await em.findOne(Item, { name }, { cache: [name, EXPIRATION_MS] });
      if (found) return found;
      const item = em.create(Item, { name, ...DEFAULTS });
      await em.flush();
      // the cache also keeps that there was nothing
      await em.clearCache(name);
      return item;
    },
    update: async (name) => {
      await (
        await prepareFlush(orm, name)
      )();
      await orm.em.fork().clearCache(name);
    },
    close: () => orm.close(),
  };
}

export const openMemoryCache = (environment: Environment): Promise<Contender> =>
  openResultCache(environment, { expiration: EXPIRATION_MS });

export const openRedisCache = (environment: Environment): Promise<Contender> =>
  openResultCache(environment, {
    expiration: EXPIRATION_MS,
    adapter: RedisCacheAdapter,
    options: { url: environment.redisUrl },
  });
