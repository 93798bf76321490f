import { MikroORM } from '@mikro-orm/postgresql';
import { PlusSubscriber } from '../../../../src/index.js';
import { Tag } from '../../../cache/support/entities.js';

const [url, closes] = process.argv.slice(2);
const plus = new PlusSubscriber({ relay: { pollInterval: 60_000 } });
const orm = await MikroORM.init({
  entities: [Tag],
  clientUrl: url,
  subscribers: [plus],
  pool: { min: 0, idleTimeoutMillis: 10 },
});
await plus.start(orm);
await orm.em.fork().getRepository(Tag).getOrCreate({ name: 'leaves' });
process.stdout.write(`${plus.relayStatus().role}\n`);
if (closes === 'closes') {
  await orm.close();
  process.stdout.write(`${plus.relayStatus().role}\n`);
}
