import { wrap } from '@mikro-orm/core';
import type { MikroORM } from '@mikro-orm/postgresql';
import { BentoCache, bentostore } from 'bentocache';
import { memoryDriver } from 'bentocache/drivers/memory';
import { redisBusDriver, redisDriver } from 'bentocache/drivers/redis';
import { DEFAULTS, type Contender, type Environment } from './contender.js';
import { Item, openOrm } from './item.js';

function connectionOf(redisUrl: string): { host: string; port: number } {
  const { hostname, port } = new URL(redisUrl);
  return { host: hostname, port: Number(port) };
}

/** One level, in memory. */
function memoryOnly() {
  return new BentoCache({
    default: 'items',
    ttl: '1h',
    stores: { items: bentostore().useL1Layer(memoryDriver({ maxItems: 100_000 })) },
  });
}

/** Two levels, kept in step by the bus, as for an application of several processes. */
function twoLevels({ redisUrl }: Environment) {
  const connection = connectionOf(redisUrl);
  return new BentoCache({
    default: 'items',
    ttl: '1h',
    stores: {
      items: bentostore()
        .useL1Layer(memoryDriver({ maxItems: 100_000 }))
        .useL2Layer(redisDriver({ connection }))
        .useBus(redisBusDriver({ connection })),
    },
  });
}

interface Cache {
  getOrSet(options: { key: string; factory: () => Promise<object> }): Promise<object>;
  delete(options: { key: string }): Promise<boolean>;
  disconnectAll(): Promise<void>;
}

/** `getOrSet` around find-or-create; the plain object that comes back is merged into the request's EntityManager. */
function overMikroOrm(orm: MikroORM, cache: Cache): Contender {
  const load = async (name: string): Promise<object> => {
    const em = orm.em.fork();
    let item = await em.findOne(Item, { name });
    if (!item) {
      item = em.create(Item, { name, ...DEFAULTS });
      await em.flush();
    }
    return wrap(item).toObject();
  };
  return {
    getOrCreate: async (name) => {
      const data = await cache.getOrSet({ key: name, factory: () => load(name) });
      return orm.em.fork().merge(Item, data);
    },
    update: async (name) => {
      const em = orm.em.fork();
      const item = await em.findOneOrFail(Item, { name });
      item.weight = (item.weight ?? 0) + 1;
      await em.flush();
      await cache.delete({ key: name });
    },
    close: async () => {
      await cache.disconnectAll();
      await orm.close();
    },
  };
}

export const openMemory = async (environment: Environment): Promise<Contender> =>
  overMikroOrm(await openOrm(environment, {}), memoryOnly());

export const openTwoLevels = async (environment: Environment): Promise<Contender> =>
  overMikroOrm(await openOrm(environment, {}), twoLevels(environment));
