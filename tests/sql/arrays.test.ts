import { defineEntity, p } from '@mikro-orm/postgresql';
import { GetOrCreateRepo, withRepo } from '../../src/index.js';
import { createTestOrm, type TestOrm } from '../harness/orm.js';

const Kind = withRepo(
  defineEntity({
    name: 'Kind',
    properties: {
      id: p.integer().primary(),
      int: p.integer().nullable().unique(),
      small: p.smallint().nullable().unique(),
      big: p.bigint('bigint').nullable().unique(),
      bigText: p.bigint('string').nullable().unique(),
      short: p.string().length(4).nullable().unique(),
      fixed: p.character().length(4).nullable().unique(),
      double: p.double().nullable().unique(),
      numeric: p.decimal('string').precision(10).scale(2).nullable().unique(),
      number: p.decimal('number').precision(10).scale(2).nullable().unique(),
      moment: p.datetime(3).nullable().unique(),
      day: p.date().nullable().unique(),
      uuid: p.uuid().nullable().unique(),
      bytes: p.blob().nullable().unique(),
      native: p
        .enum(() => ['red', 'blue'] as const)
        .nativeEnumName('kind_color')
        .nullable(),
      flag: p.boolean().nullable(),
      list: p.array().nullable(),
      data: p.json<unknown>().nullable(),
    },
  }),
  GetOrCreateRepo,
);

let db: TestOrm;

beforeAll(async () => {
  db = await createTestOrm({ entities: [Kind] });
});

beforeEach(async () => {
  await db.orm.em.execute('truncate kind');
});

const repository = () => db.orm.em.fork().getRepository(Kind);

/** All rows as the database writes them, without their keys. */
async function stored(): Promise<unknown[]> {
  const rows = await db.orm.em.execute<{ row: object }[]>(
    `select (to_jsonb(k) - 'id')::text as row from kind as k order by 1`,
  );
  return rows.map(({ row }) => row);
}

const values: Record<string, readonly unknown[]> = {
  int: [0, -1, 2_147_483_647],
  small: [0, -32_767, 32_767],
  big: [0n, -5n, 9_223_372_036_854_775_807n],
  bigText: ['0', '9223372036854775807'],
  short: ['', 'a"b', `\\'{,`, 'NULL'],
  fixed: ['ab', 'abcd'],
  double: [0.1, -1e-7, 1e300, 3],
  numeric: ['0.10', '-12345678.90'],
  number: [0.1, 2, -3.25],
  moment: [new Date(0), new Date('2026-03-29T01:30:00.123Z')],
  day: ['2026-01-31', '0001-01-01'],
  uuid: ['3b241101-e2bb-4255-8caf-4136c566a962', '3B241101-E2BB-4255-8CAF-4136C566A963'],
  bytes: [Buffer.from([0, 34, 92, 255]), Buffer.alloc(0)],
};

/** Short texts of everything that has a meaning in an array's literal or around it. */
const signs = ['"', '\\', "'", ',', '{', '}', '?', ' ', '$1', 'n'];
const day = (index: number): string => new Date(Date.UTC(2000, 0, index)).toISOString().slice(0, 10);

/** More values of each kind: a statement of few rows has no arrays. */
const more: Record<string, (index: number) => unknown> = {
  int: (index) => index + 10,
  small: (index) => index + 10,
  big: (index) => BigInt(index) + 10n,
  bigText: (index) => String(index + 10),
  short: (index) => `${signs[index % 10]}${signs[Math.floor(index / 10)]}`,
  fixed: (index) => `x${index}`,
  double: (index) => index + 0.25,
  numeric: (index) => `${index}.25`,
  number: (index) => index + 10.5,
  moment: (index) => new Date(Date.UTC(2026, 1, index, index % 24)),
  day,
  uuid: (index) => `00000000-0000-4000-8000-0000000000${index + 10}`,
  bytes: (index) => Buffer.from([index, 92, 34]),
};
const MANY = 60;

describe.each(Object.keys(values))('a batch by a column of kind %s', (name) => {
  const filling = Array.from({ length: MANY }, (_value, index) => more[name]!(index));
  const wheres = [...values[name]!, ...filling].map((value) => ({ [name]: value }));
  const data = { flag: true, data: { a: '"' }, native: 'blue' } as const;

  it('creates the rows that calls of one each create', async () => {
    for (const where of wheres) await repository().getOrCreate(where, data);
    const alone = await stored();
    await db.orm.em.execute('truncate kind');
    db.statements.take();
    const created = await repository().getOrCreateMany(wheres, data);
    expect(db.statements.take().map((statement) => /unnest\(|= any\( ?E?'/.test(statement))).toEqual([true, true]);
    expect(created.map(([, isNew]) => isNew)).toEqual(wheres.map(() => true));
    expect(await stored()).toEqual(alone);
  });

  it('goes as arrays', async () => {
    db.statements.take();
    await repository().getOrCreateMany(wheres, data);
    const [select, insert] = db.statements.take();
    expect(select).toContain('= any(');
    expect(insert).toContain(' from unnest(');
  });

  it('finds the rows that calls of one each find', async () => {
    const ids = [];
    for (const where of wheres) ids.push((await repository().getOrCreate(where, data))[0].id);
    const found = await repository().getOrCreateMany(wheres);
    expect(found.map(([{ id }, isNew]) => [id, isNew])).toEqual(ids.map((id) => [id, false]));
  });
});

describe('a batch', () => {
  it('doesn’t take a text that is too long for its column for the start of it', async () => {
    await repository().getOrCreate({ short: 'abcd' });
    const filling = Array.from({ length: MANY }, (_value, index) => ({ short: `${index}` }));
    const batch = repository().getOrCreateMany([...filling, { short: 'abcd' }, { short: 'abcdef' }]);
    await expect(batch).rejects.toMatchObject({ code: '22001' });
    await expect(repository().getOrCreate({ short: 'abcdef' })).rejects.toMatchObject({ code: '22001' });
  });

  it.each([
    ['int', 3_000_000_000, '22003'],
    ['small', 40_000, '22003'],
  ])('with a number beyond its column %s fails as a call of its own does', async (name, value, code) => {
    await expect(repository().getOrCreate({ [name]: value })).rejects.toMatchObject({ code });
    const filling = Array.from({ length: MANY }, (_value, index) => ({ [name]: index }));
    await expect(repository().getOrCreateMany([...filling, { [name]: value }])).rejects.toMatchObject({ code });
  });

  it('by a broken number finds what a call of its own finds', async () => {
    const filling = Array.from({ length: MANY }, (_value, index) => ({ int: index }));
    await repository().getOrCreateMany(filling);
    const [entity, created] = await repository()
      .getOrCreate({ int: 1.5 }, {})
      .catch(() => [undefined, undefined]);
    const [first] = await repository()
      .getOrCreateMany([{ int: 1.5 }, ...filling])
      .catch(() => [[undefined, undefined]]);
    expect([first![0], first![1]]).toEqual([entity, created]);
  });

  it('with lists among its values creates them as a call of one each', async () => {
    const lists = Array.from({ length: MANY }, (_value, index) => [['a', 'b'], [], ['"', '\\', ',']][index % 3]!);
    for (const [index, list] of lists.entries()) await repository().getOrCreate({ int: index }, { list });
    const alone = await stored();
    await db.orm.em.execute('truncate kind');
    await repository().getOrCreateMany(
      lists.map((_, index) => ({ int: index })),
      (_where, index) => ({ list: lists[index]! }),
    );
    expect(await stored()).toEqual(alone);
  });

  it('asks the index for what it names, and doesn’t read the whole table', async () => {
    await db.orm.em.execute(`insert into kind (short) select to_hex(i) from generate_series(1, 30000) as i`);
    await db.orm.em.execute('analyze kind');
    db.statements.take();
    await repository().getOrCreateMany(
      Array.from({ length: 1_000 }, (_value, index) => ({ short: index.toString(16) })),
    );
    const select = db.statements.take().find((statement) => statement.startsWith('select'))!;
    const plan = await db.orm.em.execute<{ 'QUERY PLAN': string }[]>(`explain ${select}`);
    const lines = plan.map((line) => line['QUERY PLAN']).join('\n');
    expect(lines).toContain('kind_short_unique');
    expect(lines).not.toContain('Seq Scan on kind');
  });
});
