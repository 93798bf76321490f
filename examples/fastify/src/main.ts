import { defineEntity, MikroORM, p, RequestContext } from '@mikro-orm/postgresql';
import { fastify } from 'fastify';
import { PlusSubscriber, withPlusRepo } from 'mikro-orm-plus';

const Tag = withPlusRepo(
  defineEntity({ name: 'Tag', properties: { id: p.integer().primary(), name: p.string().unique() } }),
);
const plus = new PlusSubscriber({ stores: { default: process.env.REDIS_URL ?? 'memory://' } });
const orm = await MikroORM.init({ entities: [Tag], clientUrl: process.env.DATABASE_URL, subscribers: [plus] });
await orm.schema.update(); // for the example only: a real service runs migrations

const tags = orm.em.getRepository(Tag); // works on the EntityManager of the request
const app = fastify();
app.addHook('onRequest', (_request, _reply, done) => RequestContext.create(orm.em, done));
app.addHook('onClose', () => orm.close());

app.put<{ Params: { name: string } }>('/tags/:name', async ({ params: { name } }) => {
  const [tag, created] = await tags.getOrCreate({ name });
  return { id: tag.id, name: tag.name, created };
});

app.get('/health', async () => {
  await orm.em.getConnection().execute('select 1');
  await plus.ping();
  return { status: 'ok' };
});

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void app.close());
console.log(`listening on ${await app.listen({ port: Number(process.env.PORT ?? 3000), host: '127.0.0.1' })}`);
