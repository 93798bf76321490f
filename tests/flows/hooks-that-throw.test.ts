import { defineEntity, p } from '@mikro-orm/postgresql';
import { GetOrCreateRepo, withRepo } from '../../src/index.js';
import { createTestOrm, type TestOrm } from '../harness/orm.js';

let failing: string | undefined;
const hook = (name: string) => [
  () => {
    if (failing === name) throw new Error(`${name} failed`);
  },
];

const Tag = withRepo(
  defineEntity({
    name: 'Tag',
    properties: { id: p.integer().primary(), name: p.string().unique(), weight: p.integer().default(0) },
    hooks: {
      onInit: hook('onInit'),
      beforeCreate: hook('beforeCreate'),
      afterCreate: hook('afterCreate'),
      beforeUpsert: hook('beforeUpsert'),
      afterUpsert: hook('afterUpsert'),
    },
  }),
  GetOrCreateRepo,
);

type Em = TestOrm['orm']['em'];

let db: TestOrm;

beforeAll(async () => {
  db = await createTestOrm({ entities: [Tag] });
});

const get = (em: Em) => em.getRepository(Tag).getOrCreate({ name: 'a' });
const update = (em: Em) => em.getRepository(Tag).updateOrCreate({ name: 'a' }, { weight: 1 });

describe.each<[string, (em: Em) => Promise<unknown>, isStored: boolean]>([
  ['onInit', get, false],
  ['beforeCreate', get, false],
  ['afterCreate', get, true],
  ['onInit', update, false],
  ['beforeUpsert', update, false],
  ['afterUpsert', update, true],
])('%s that throws', (name, call, isStored) => {
  const failingIn = async (em: Em): Promise<void> => {
    failing = name;
    try {
      await expect(call(em)).rejects.toThrow(`${name} failed`);
    } finally {
      failing = undefined;
    }
  };

  beforeEach(() => db.orm.em.execute('truncate tag'));

  it('fails the call, and leaves an EntityManager that knows whether the row was stored', async () => {
    const em = db.orm.em.fork();
    await failingIn(em);
    await expect(db.orm.em.fork().count(Tag)).resolves.toBe(isStored ? 1 : 0);
    await expect(get(em)).resolves.toMatchObject([{ name: 'a' }, !isStored]);
    await expect(db.orm.em.fork().count(Tag)).resolves.toBe(1);
  });

  it('leaves nothing behind in a transaction that is rolled back for it', async () => {
    const em = db.orm.em.fork();
    await em.begin();
    await failingIn(em);
    await em.rollback();
    await expect(db.orm.em.fork().count(Tag)).resolves.toBe(0);
    await expect(get(em)).resolves.toMatchObject([{ name: 'a' }, true]);
  });
});
