import { Redis } from 'ioredis-6';
import pg from 'pg';
import type { MikroORM } from '@mikro-orm/postgresql';
import type { Contender, Environment } from './contender.js';
import { Item, openOrm } from './item.js';

/** A fork, and an entity made of a row's JSON: the least that a cached entity can cost. */
function hydrate(orm: MikroORM, json: string): object {
  const em = orm.em.fork();
  const meta = em.getMetadata(Item);
  const data = em.getDriver().mapResult(JSON.parse(json), meta) as object;
  const options = { merge: true, convertCustomTypes: true, recomputeSnapshot: true };
  return em.getEntityFactory().create(Item, data, options);
}

async function seededRows({ databaseUrl }: Environment, count: number): Promise<{ name: string; json: string }[]> {
  const client = new pg.Client(databaseUrl);
  await client.connect();
  const { rows } = await client.query<{ name: string; json: string }>(
    `select name, row_to_json(item)::text as json from item where id <= $1`,
    [count],
  );
  await client.end();
  return rows;
}

/** The floor of a near cache hit. */
export async function openMap(environment: Environment): Promise<Contender> {
  const orm = await openOrm(environment, {});
  const seeded = await seededRows(environment, environment.parameters['rows'] ?? 1_000);
  const rows = new Map(seeded.map(({ name, json }) => [name, json]));
  return {
    getOrCreate: async (name) => hydrate(orm, rows.get(name)!),
    close: () => orm.close(),
  };
}

/** The floor of a Redis hit. */
export async function openRedis(environment: Environment): Promise<Contender> {
  const orm = await openOrm(environment, {});
  const redis = new Redis(environment.redisUrl);
  const seeded = await seededRows(environment, environment.parameters['rows'] ?? 1_000);
  await redis.mset(seeded.flatMap(({ name, json }) => [`floor:${name}`, json]));
  return {
    getOrCreate: async (name) => hydrate(orm, (await redis.get(`floor:${name}`))!),
    close: async () => {
      await redis.quit();
      await orm.close();
    },
  };
}
