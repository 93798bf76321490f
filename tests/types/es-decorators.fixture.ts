import { Collection, EntityRepositoryType, type Ref } from '@mikro-orm/core';
import { Entity, ManyToMany, ManyToOne, OneToMany, PrimaryKey, Property } from '@mikro-orm/decorators/es';
import { EntityRepository, type EntityManager } from '@mikro-orm/postgresql';
import { expectTypeOf } from 'expect-type';
import {
  AlwaysGetOrCreate,
  CacheRegion,
  CachedGetOrCreate,
  NonAtomicGetOrCreate,
  PlusRepo,
  type CreationContext,
  type Values,
} from 'mikro-orm-plus';

/** A class of the application's own, under and over the mixins. */
class BaseRepository<E extends object> extends EntityRepository<E> {
  shout(): string {
    return this.getEntityName().toUpperCase();
  }
}

class LabelRepository<E extends object> extends NonAtomicGetOrCreate(CachedGetOrCreate(BaseRepository))<E> {}

class ThingRepository extends PlusRepo<Thing> {
  protected override async createEntity(data: Values<Thing>, context: CreationContext): Promise<Thing> {
    const { labels, ...rest } = data;
    const thing = await super.createEntity(rest, context);
    expectTypeOf(thing).toEqualTypeOf<Thing>();
    void labels;
    await context.em.getRepository(Label).getOrCreate({ name: 'x' });
    return thing;
  }
}

@Entity({ repository: () => LabelRepository })
@CacheRegion({ strategy: 'read-write', store: 'redis', ttl: 3_600_000 })
export class Label {
  [EntityRepositoryType]?: LabelRepository<Label>;

  @PrimaryKey({ type: 'integer' })
  id!: number;

  @Property({ type: 'string', unique: true })
  name!: string;
}

@Entity({ repository: () => ThingRepository })
export class Thing {
  [EntityRepositoryType]?: ThingRepository;

  @PrimaryKey({ type: 'integer' })
  id!: number;

  @Property({ type: 'string', unique: true })
  code!: string;

  @Property({ type: 'integer' })
  bar!: number;

  @ManyToOne({ entity: () => Thing, nullable: true, ref: true })
  parent?: Ref<Thing>;

  @OneToMany({ entity: () => Thing, mappedBy: 'parent' })
  children = new Collection<Thing>(this);

  @ManyToMany({ entity: () => Label })
  labels = new Collection<Label>(this);
}

class Single<E extends object> extends AlwaysGetOrCreate(EntityRepository)<E> {}

export async function use(em: EntityManager, parent: Thing): Promise<void> {
  const repo = em.getRepository(Thing);
  expectTypeOf(repo).toEqualTypeOf<ThingRepository>();
  const [thing, created] = await repo.getOrCreate({ code: 'x', parent }, { bar: 1 });
  expectTypeOf(thing).toEqualTypeOf<Thing>();
  expectTypeOf(created).toEqualTypeOf<boolean>();
  await repo.getOrCreate({ code: 'x', parent: 5 }, { labels: [1, 2] });
  const [label] = await em.getRepository(Label).related(thing.labels).getOrCreate({ name: 'y' });
  expectTypeOf(label).toEqualTypeOf<Label>();
  await repo.related(thing.children).updateOrCreate({ code: 'z' }, { bar: 2 });
  expectTypeOf(em.getRepository(Label).shout()).toEqualTypeOf<string>();
  await em.getRepository(Label).evict({ name: 'y' });
  expectTypeOf(await new Single<Thing>(em, Thing).get({ code: 'x' })).toEqualTypeOf<Thing>();

  // @ts-expect-error unknown property
  void repo.getOrCreate({ cod: 'x' }, { bar: 1 });
  // @ts-expect-error wrong type
  void repo.getOrCreate({ code: 5 }, { bar: 1 });
  // @ts-expect-error wrong type in defaults
  void repo.getOrCreate({ code: 'x' }, { bar: 'no' });
  // @ts-expect-error a property of another class
  void em.getRepository(Label).related(thing.labels).getOrCreate({ code: 'x' });
  // @ts-expect-error no get without AlwaysGetOrCreate
  void em.getRepository(Label).get({ name: 'x' });
  // @ts-expect-error createEntity is no public method
  void repo.createEntity({}, undefined as never);
}
