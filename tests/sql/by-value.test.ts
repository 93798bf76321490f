import { defineEntity, p } from '@mikro-orm/postgresql';
import { GetOrCreateRepo, withRepo } from '../../src/index.js';
import { createTestOrm, type TestOrm } from '../harness/orm.js';

const Word = withRepo(
  defineEntity({
    name: 'Word',
    properties: { id: p.integer().primary(), text: p.string().unique(), weight: p.integer().nullable() },
  }),
  GetOrCreateRepo,
);

let db: TestOrm;

beforeAll(async () => {
  db = await createTestOrm({ entities: [Word] });
  await db.orm.em.execute(
    `create collation any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`,
  );
});
beforeEach(async () => {
  await db.orm.em.execute('drop index if exists word_partial; truncate word');
  db.statements.take();
});

const repository = () => db.orm.em.fork().getRepository(Word);
const many = Array.from({ length: 120 }, (_value, index) => ({ text: `word ${index}` }));

describe('a batch by a text', () => {
  it('lists its keys once, and tells the rows apart by their values', async () => {
    await repository().getOrCreateMany(many.slice(60), { weight: 1 });
    db.statements.take();
    const results = await repository().getOrCreateMany(many, { weight: 2 });
    expect(results.map(([{ text, weight }, created]) => [text, weight, created])).toEqual(
      many.map(({ text }, index) => [text, index < 60 ? 2 : 1, index < 60]),
    );
    const [select, insert, ...others] = db.statements.take();
    expect(others).toEqual([]);
    for (const statement of [select!, insert!]) expect(statement.match(/word 7\b/g)).toHaveLength(1);
    expect(insert).not.toContain(' join ');
  });

  describe('that a collation finds equal to others', () => {
    beforeEach(() => db.orm.em.execute('alter table word alter column text type varchar(255) collate any_case'));
    afterEach(async () => {
      await db.orm.em.execute('truncate word; alter table word alter column text type varchar(255) collate "default"');
    });

    it('finds the rows that single calls find', async () => {
      const [[word]] = [await repository().getOrCreate({ text: 'WORD 7' })];
      const results = await repository().getOrCreateMany(many);
      expect(results[7]).toMatchObject([{ id: word.id, text: 'WORD 7' }, false]);
      expect(results.map(([, created]) => created)).toEqual(many.map((_, index) => index !== 7));
    });

    it('creates one row for several notations of a key', async () => {
      const results = await repository().getOrCreateMany([...many, { text: 'WORD 7' }]);
      expect(results.at(-1)![0]).toBe(results[7]![0]);
      expect(results.filter(([, created]) => created)).toHaveLength(many.length);
    });
  });
});
