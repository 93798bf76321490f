/**
 * `npx tsx scripts/redis-size.ts`: how much memory a cached row takes in Redis, with the lookup by one unique key, for a small
 * row and a larger one. Starts servers of its own.
 */
import { defineEntity, MikroORM, p } from '@mikro-orm/postgresql';
import { Redis } from 'ioredis';
import { PlusSubscriber, withPlusRepo } from '../src/index.js';
import { startServers } from '../tests/harness/servers.js';

const ROWS = 100_000;
const STORE_MS = 10_000;

const Tag = withPlusRepo(
  defineEntity({
    name: 'Tag',
    properties: { id: p.integer().primary(), name: p.string().unique(), weight: p.integer() },
  }),
);
const Person = withPlusRepo(
  defineEntity({
    name: 'Person',
    properties: {
      id: p.uuid().primary(),
      email: p.string().unique(),
      name: p.string(),
      biography: p.text(),
      createdAt: p.datetime(),
    },
  }),
);
const FILL = [
  `insert into tag (name, weight) select 'tag number ' || n, n from generate_series(1, ${ROWS}) n`,
  `insert into person select gen_random_uuid(), 'person' || n || '@example.org', 'Person number ' || n, repeat('x', 500), now()
     from generate_series(1, ${ROWS}) n`,
];

const servers = await startServers({ postgres: true, redis: true });
try {
  const redis = new Redis(servers.redis!.url);
  const plus = new PlusSubscriber({ stores: { default: servers.redis!.url }, timeout: STORE_MS });
  const orm = await MikroORM.init({ clientUrl: servers.postgres!.url, entities: [Tag, Person], subscribers: [plus] });
  await orm.schema.create();
  for (const sql of FILL) await orm.em.execute(sql);
  await plus.start(orm);
  const fills = { Tag: () => plus.warmUp(Tag), Person: () => plus.warmUp(Person) };
  for (const [name, fill] of Object.entries(fills)) {
    const before = await usedMemory(redis);
    const rows = await fill();
    const bytes = ((await usedMemory(redis)) - before) / rows;
    console.log(`${name}: ${rows} rows, ${bytes.toFixed(0)} bytes each`);
  }
  await redis.quit();
  await orm.close();
} finally {
  await servers.stop();
}

async function usedMemory(redis: Redis): Promise<number> {
  const info = await redis.info('memory');
  return Number(/^used_memory:(\d+)/m.exec(info)![1]);
}
