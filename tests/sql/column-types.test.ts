import { EntitySchema } from '@mikro-orm/postgresql';
import { GetOrCreateRepo } from '../../src/index.js';
import { connectTestOrm, type TestOrm } from '../harness/orm.js';
import { createDatabase, dropDatabase } from '../harness/servers.js';

interface Row {
  id: number;
  number: number;
  value: string;
  code: string;
}

interface Repository {
  getOrCreate(where: Partial<Row>, defaults: Partial<Row>): Promise<[Row, boolean]>;
  getOrCreateMany(
    wheres: Partial<Row>[],
    defaults: (where: Partial<Row>, index: number) => Partial<Row>,
  ): Promise<[Row, boolean][]>;
}

/** Columns by their type, with values as PostgreSQL writes them. */
const types: { type: string; values: [string, string]; isKey: boolean }[] = [
  // parts the items of its arrays by a semicolon
  { type: 'box', values: ['(1,1),(0,0)', '(2,2),(0,0)'], isKey: false },
  // an array under another name
  { type: '_text', values: ['{a,b}', '{c}'], isKey: true },
  { type: 'words', values: ['{a,b}', '{c}'], isKey: true },
  // of several columns
  { type: 'pair', values: ['(1,a)', '(2,b)'], isKey: false },
  { type: 'word', values: ['a,"', 'b'], isKey: true },
];

const entities = types.map(
  ({ type, isKey }) =>
    new EntitySchema<Row>({
      name: type,
      tableName: `t_${type}`,
      repository: () => GetOrCreateRepo,
      properties: {
        id: { type: 'integer', primary: true },
        number: { type: 'integer', unique: true },
        value: { type: 'string', columnType: type, nullable: true },
        code: { type: 'string', columnType: type, unique: isKey, nullable: true },
      },
    }),
);

let db: TestOrm;

beforeAll(async () => {
  db = await connectTestOrm(await createDatabase('types'), { entities });
  await db.orm.em.execute(
    'create domain words as text[]; create domain word as text; create type pair as (number int, word text)',
  );
  await db.orm.schema.create();
});

afterAll(async () => {
  await db.close();
  await dropDatabase(db.url);
});

describe.each(types)('a column of type $type', ({ type, values }) => {
  const repository = () => db.orm.em.fork().getRepository<Row>(type as never) as unknown as Repository;
  // fewer rows wouldn't go as arrays
  const rows = Array.from({ length: 60 }, (_, number) => ({ number, value: values[number % values.length]! }));
  const stored = () => db.orm.em.execute<Row[]>(`select number, value::text from t_${type} order by number`);

  beforeEach(async () => {
    await db.orm.em.execute(`truncate t_${type}`);
  });

  it('is written by a batch as by calls of one each', async () => {
    for (const { number, value } of rows) await repository().getOrCreate({ number }, { value });
    const alone = await stored();
    await db.orm.em.execute(`truncate t_${type}`);
    await repository().getOrCreateMany(
      rows.map(({ number }) => ({ number })),
      (_where, index) => ({ value: rows[index]!.value }),
    );
    expect(await stored()).toEqual(alone);
  });

  it('is written by calls that share a statement', async () => {
    await Promise.all(rows.map(({ number, value }) => repository().getOrCreate({ number }, { value })));
    const together = await stored();
    await db.orm.em.execute(`truncate t_${type}`);
    for (const { number, value } of rows) await repository().getOrCreate({ number }, { value });
    expect(together).toEqual(await stored());
  });
});

describe.each(types.filter(({ isKey }) => isKey))('a key of type $type', ({ type, values }) => {
  it('is looked up by a batch', async () => {
    const repository = () => db.orm.em.fork().getRepository<Row>(type as never) as unknown as Repository;
    await db.orm.em.execute(`truncate t_${type}`);
    const wheres = values.map((code) => ({ code }));
    const defaults = (_where: object, number: number) => ({ number });
    const created = await repository().getOrCreateMany(wheres, defaults);
    const found = await repository().getOrCreateMany(wheres, defaults);
    expect(found.map(([{ id }, isNew]) => [id, isNew])).toEqual(created.map(([{ id }]) => [id, false]));
  });
});
