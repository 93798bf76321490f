import { defineEntity, p } from '@mikro-orm/postgresql';
import { GetOrCreateRepo, withRepo } from '../../src/index.js';
import { connectTestOrm } from '../harness/orm.js';
import { defineWorker } from '../harness/worker.js';

export const Item = withRepo(
  defineEntity({
    name: 'Item',
    properties: {
      id: p.integer().primary(),
      name: p.string().unique(),
      weight: p.integer().default(0),
      note: p.string().nullable(),
    },
  }),
  GetOrCreateRepo,
);

/** What the callers do in their transactions beside the call. */
export const Visit = defineEntity({
  name: 'Visit',
  properties: { id: p.integer().primary(), item: () => p.manyToOne(Item), process: p.integer() },
});

export const entities = [Item, Visit];

export interface RaceInput {
  /** `getOrCreateEach`: one call for each name, all at once, on EntityManagers of their own. */
  call: 'getOrCreate' | 'getOrCreateEach' | 'getOrCreateMany' | 'updateOrCreateMany' | 'increment';
  names: string[];
  inTransaction: boolean;
}

export default defineWorker(async (init: { url: string }, index) => {
  const { orm, statements, close } = await connectTestOrm(init.url, { entities });

  const answer = async (em: typeof orm.em, { call, names }: RaceInput) => {
    const repository = em.getRepository(Item);
    switch (call) {
      case 'getOrCreate':
        return [await repository.getOrCreate({ name: names[0]! }, { weight: index })];
      case 'getOrCreateEach':
        return Promise.all(
          names.map((name) => orm.em.fork().getRepository(Item).getOrCreate({ name }, { weight: index })),
        );
      case 'getOrCreateMany':
        return repository.getOrCreateMany(
          // lookups of two shapes, which one unique key serves
          names.map((name, position) => ((position + index) % 2 === 0 ? { name } : { name, note: null })),
          { weight: index },
        );
      case 'updateOrCreateMany':
        return repository.updateOrCreateMany(
          // values of two sets of properties, in another distribution in each process
          names.map((name, position) => ({
            where: { name },
            values: (position + index) % 3 === 0 ? { weight: index, note: 'x' } : { weight: index },
          })),
        );
      default: {
        const got = await repository.updateOrCreate({ name: names[0]! }, { note: `by ${index}` });
        got[0].weight += 1;
        return [got];
      }
    }
  };

  return {
    async round(input: RaceInput) {
      const em = orm.em.fork();
      statements.take();
      const results = input.inTransaction
        ? await em.transactional(async (inner) => {
            const inside = await answer(inner, input);
            for (const [item] of inside) inner.create(Visit, { item, process: index });
            return inside;
          })
        : await answer(em, input);
      const guesses = statements.take().filter((sql) => sql.includes('not exists')).length;
      return results.map(([{ id, name, weight }, created]) => ({ id, name, weight, created, guesses }));
    },
    close,
  };
});
