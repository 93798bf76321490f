import { EntitySchema, defineEntity, p, type EntityManager, type EventArgs } from '@mikro-orm/postgresql';
import { GetOrCreateRepo, withRepo } from '../../src/index.js';
import { createTestOrm, type TestOrm } from '../harness/orm.js';

/** Leaves something in an EntityManager, and tells how much of it was there. */
function leaveIn(em: EntityManager): number {
  const before = em.getUnitOfWork().getPersistStack().size;
  em.create(Left, {}, { persist: true });
  return before;
}

const Left = defineEntity({ name: 'Left', properties: { id: p.integer().primary() } });

class Animal {
  id!: number;
  name!: string;
  type!: string;
  seen!: number | null;
}

class Cat extends Animal {}

const AnimalSchema = new EntitySchema<Animal>({
  class: Animal,
  repository: () => GetOrCreateRepo,
  discriminatorColumn: 'type',
  discriminatorValue: 'animal',
  properties: {
    id: { type: 'integer', primary: true },
    name: { type: 'string', unique: true },
    type: { type: 'string' },
    seen: { type: 'integer', nullable: true },
  },
});

const CatSchema = new EntitySchema<Cat, Animal>({
  class: Cat,
  extends: AnimalSchema,
  discriminatorValue: 'cat',
  hooks: {
    beforeCreate: [
      ({ entity, em }: EventArgs<Cat>) => {
        entity.seen = leaveIn(em as EntityManager);
      },
    ],
  },
});

const Stamped = withRepo(
  defineEntity({
    name: 'Stamped',
    properties: {
      id: p.integer().primary(),
      name: p.string().unique(),
      seen: p.integer().onCreate((_entity, em) => leaveIn(em as EntityManager)),
    },
  }),
  GetOrCreateRepo,
);

let db: TestOrm;

beforeAll(async () => {
  db = await createTestOrm({ entities: [Left, AnimalSchema, CatSchema, Stamped] });
});

describe('a row of a batch', () => {
  it('sees nothing that the hook of a subclass did for another', async () => {
    const repository = db.orm.em.fork().getRepository(Animal) as unknown as GetOrCreateRepo<Animal>;
    const cats = await repository.getOrCreateMany([{ name: 'a' }, { name: 'b' }], { type: 'cat' });
    expect(cats.map(([{ seen }]) => seen)).toEqual([0, 0]);
  });

  it('sees nothing that an onCreate did for another', async () => {
    const rows = await db.orm.em
      .fork()
      .getRepository(Stamped)
      .getOrCreateMany([{ name: 'a' }, { name: 'b' }]);
    expect(rows.map(([{ seen }]) => seen)).toEqual([0, 0]);
  });
});
