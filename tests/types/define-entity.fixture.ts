import { defineEntity, p, type InferEntity } from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import { expectTypeOf } from 'expect-type';
import { CachedRepo, NonAtomicRepo, cacheRegion, withPlusRepo, withRepo } from 'mikro-orm-plus';

const Owner = defineEntity({ name: 'Owner', properties: { id: p.integer().primary(), email: p.string().unique() } });

const Address = defineEntity({ embeddable: true, name: 'Address', properties: { city: p.string(), zip: p.string() } });

const Tag = cacheRegion(
  withPlusRepo(
    defineEntity({
      name: 'Tag',
      properties: {
        id: p.integer().primary(),
        name: p.string().unique(),
        weight: p.integer().nullable(),
        at: p.datetime().nullable(),
        big: p.bigint().nullable(),
        data: p.json<{ a: number }>().nullable(),
        owner: () => p.manyToOne(Owner).nullable(),
        address: () => p.embedded(Address).nullable(),
      },
    }),
  ),
  { store: 'redis', ttl: 1_000 },
);
type Tag = InferEntity<typeof Tag>;

const Cached = withRepo(
  defineEntity({ name: 'Cached', properties: { id: p.integer().primary(), name: p.string().unique() } }),
  CachedRepo,
);
const Joined = withRepo(
  defineEntity({ name: 'Joined', properties: { id: p.integer().primary(), name: p.string().unique() } }),
  NonAtomicRepo,
);

export async function use(em: EntityManager, owner: InferEntity<typeof Owner>): Promise<void> {
  const repo = em.getRepository(Tag);
  expectTypeOf(repo.getOrCreate).toBeFunction();

  const [tag, created] = await repo.getOrCreate({ name: 'x' }, { weight: 1 });
  expectTypeOf(tag.name).toEqualTypeOf<string>();
  expectTypeOf(tag.weight).toEqualTypeOf<number | null | undefined>();
  expectTypeOf(created).toEqualTypeOf<boolean>();

  // relations by entity or key, embeddables, null, functions in defaults, options
  await repo.getOrCreate({ name: 'x', owner }, { weight: () => 1, at: async () => new Date(), data: { a: 1 } });
  await repo.getOrCreate({ name: 'x', owner: 1, address: { city: 'c' } });
  await repo.getOrCreate({ name: 'x', weight: null }, {}, { refresh: true, schema: 's', filters: false });
  await repo.updateOrCreate({ name: 'x' }, { weight: 2, big: 5n }, { createDefaults: { weight: () => 3 } });
  const many = await repo.getOrCreateMany([{ name: 'x' }], (where, index) => ({ weight: index, at: where.at }));
  expectTypeOf(many[0]![0].name).toEqualTypeOf<string>();
  await repo.updateOrCreateMany([{ where: { name: 'x' }, values: { weight: 1 } }]);
  expectTypeOf(await repo.get({ name: 'x' })).toHaveProperty('weight');
  await repo.evict({ name: 'x' });
  await repo.evict(tag);
  await repo.evictAll();
  // what MikroORM's own class has is still there
  repo.createQueryBuilder('t');
  expectTypeOf((await repo.findOneOrFail({ name: 'x' })).name).toEqualTypeOf<string>();

  // @ts-expect-error unknown property in where
  void repo.getOrCreate({ nme: 'x' });
  // @ts-expect-error wrong type in where
  void repo.getOrCreate({ name: 5 });
  // @ts-expect-error operators are no plain equality
  void repo.getOrCreate({ name: { $ne: 'x' } });
  // @ts-expect-error unknown property in defaults
  void repo.getOrCreate({ name: 'x' }, { wait: 1 });
  // @ts-expect-error wrong type in defaults
  void repo.getOrCreate({ name: 'x' }, { weight: 'heavy' });
  // @ts-expect-error wrong type promised by a function in defaults
  void repo.getOrCreate({ name: 'x' }, { weight: async () => 'heavy' });
  // @ts-expect-error unknown option
  void repo.getOrCreate({ name: 'x' }, {}, { refrsh: true });
  // @ts-expect-error wrong value in an update
  void repo.updateOrCreate({ name: 'x' }, { at: 5 });

  const cached = em.getRepository(Cached);
  await cached.getOrCreate({ name: 'x' });
  await cached.evictAll();
  // @ts-expect-error only with AlwaysGetOrCreate
  void cached.get({ name: 'x' });

  const joined = em.getRepository(Joined);
  expectTypeOf((await joined.getOrCreate({ name: 'x' }))[0].name).toEqualTypeOf<string>();
  // @ts-expect-error only with CachedGetOrCreate
  void joined.evictAll();
}
