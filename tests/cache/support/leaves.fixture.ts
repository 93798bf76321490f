import { MikroORM } from '@mikro-orm/postgresql';
import { PlusSubscriber } from '../../../src/index.js';
import { Tag } from './entities.js';

/** A program that uses the cache, closes its ORM, and must then end by itself. */
const [url, redisUrl] = process.argv.slice(2) as [string, string];
process.on('unhandledRejection', (reason) => {
  console.log('unhandled', reason);
  process.exit(2);
});
const plus = new PlusSubscriber({ stores: { default: redisUrl }, timeout: 5_000 });
const orm = await MikroORM.init({ entities: [Tag], clientUrl: url, subscribers: [plus] });
for (let round = 0; round < 2; round++) {
  await orm.em.fork().getRepository(Tag).getOrCreate({ name: 'left' });
  await orm.em.fork().getRepository(Tag).updateOrCreate({ name: 'left' }, { weight: round });
}
await plus.ping();
await orm.close();
console.log('closed', plus.statistics(Tag).storeHits);
