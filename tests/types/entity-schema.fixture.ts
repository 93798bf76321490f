import { EntityRepositoryType, EntitySchema } from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import { expectTypeOf } from 'expect-type';
import { AlwaysCachedRepo, cacheRegion } from 'mikro-orm-plus';

class Tag {
  [EntityRepositoryType]?: AlwaysCachedRepo<Tag>;
  id!: number;
  name!: string;
  weight?: number;
}

export const TagSchema = cacheRegion(
  new EntitySchema<Tag>({
    class: Tag,
    repository: () => AlwaysCachedRepo,
    properties: {
      id: { type: 'integer', primary: true },
      name: { type: 'string', unique: true },
      weight: { type: 'integer', nullable: true },
    },
  }),
  { ttl: 1_000 },
);

export async function use(em: EntityManager): Promise<void> {
  const [tag, created] = await em.getRepository(Tag).getOrCreate({ name: 'x' }, { weight: 1 });
  expectTypeOf(tag).toEqualTypeOf<Tag>();
  expectTypeOf(created).toEqualTypeOf<boolean>();
  const [same] = await em.getRepository(TagSchema).getOrCreate({ name: 'x' });
  expectTypeOf(same).toEqualTypeOf<Tag>();
  expectTypeOf(await em.getRepository(Tag).get({ name: 'x' })).toEqualTypeOf<Tag>();

  // @ts-expect-error unknown property
  void em.getRepository(Tag).getOrCreate({ nme: 'x' });
  // @ts-expect-error wrong type
  void em.getRepository(TagSchema).getOrCreate({ name: 5 });
}
