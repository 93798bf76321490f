import { defineEntity, p } from '@mikro-orm/postgresql';
import fc from 'fast-check';
import { GetOrCreateRepo, withRepo } from '../../src/index.js';
import { createTestOrm, type TestOrm } from '../harness/orm.js';

const Text = withRepo(
  defineEntity({
    name: 'Text',
    properties: {
      id: p.integer().primary(),
      name: p.text().unique(),
      note: p.text().nullable(),
      list: p.array().nullable(),
      data: p.json<unknown>().nullable(),
      bytes: p.blob().nullable(),
    },
  }),
  GetOrCreateRepo,
);

let db: TestOrm;

beforeAll(async () => {
  db = await createTestOrm({ entities: [Text] });
});

/** Everything that has a meaning somewhere between here and the database. */
const text = fc
  .oneof(
    fc.string({ unit: 'grapheme' }),
    fc
      .array(
        fc.constantFrom(
          '?',
          '\\',
          '\\?',
          '??',
          `'`,
          `''`,
          '"',
          '$1',
          ':a',
          '{',
          '}',
          ',',
          'null',
          '--',
          ';',
          '/*',
          '%',
          'E',
        ),
        {
          maxLength: 6,
        },
      )
      .map((parts) => parts.join('')),
  )
  .filter((value) => !value.includes('\0') && value.isWellFormed());

const row = fc.record({
  name: text,
  note: fc.option(text),
  // only texts that MikroORM itself writes into an array as they are
  list: fc.option(
    fc.array(fc.constantFrom('a', '', `'`, '"', ',', '{', '}', '\\', '?', '\\?', '$1'), { maxLength: 3 }),
  ),
  data: fc.option(fc.dictionary(text, text, { maxKeys: 2, noNullPrototype: true })),
  bytes: fc.option(fc.uint8Array({ maxLength: 10 }).map((bytes) => Buffer.from(bytes))),
});

interface Row {
  name: string;
  note?: unknown;
  list?: unknown;
  data?: unknown;
  bytes?: unknown;
}

/** A row as text; PostgreSQL orders the keys of JSON in its own way. */
function shown({ name, note, list, data, bytes }: Row): string {
  const entries = data == null ? null : Object.entries(data).toSorted(([left], [right]) => (left < right ? -1 : 1));
  const hex = bytes == null ? null : Buffer.from(bytes as Buffer).toString('hex');
  return JSON.stringify([name, note ?? null, list ?? null, entries, hex]);
}

describe('values of every kind', () => {
  it('arrive as they were given, alone and in batches, in lookups and in data', async () => {
    const batch = fc.uniqueArray(row, { selector: ({ name }) => name, minLength: 1, maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(batch, async (rows) => {
        await db.orm.em.execute('truncate text');
        const repository = () => db.orm.em.fork().getRepository(Text);
        const [first, ...rest] = rows;
        const { name, ...values } = first!;
        const [made] = await repository().getOrCreate({ name }, values);
        expect(shown(made)).toBe(shown(first!));
        await repository().getOrCreateMany(
          rest.map((other) => ({ name: other.name })),
          (_where, index) => rest[index]!,
        );
        const found = await repository().getOrCreateMany(rows.map((other) => ({ name: other.name })));
        expect(found.map(([entity, created]) => [shown(entity), created])).toEqual(
          rows.map((other) => [shown(other), false]),
        );

        const changed = rows.map((other, index) => ({ ...rows.at(index - 1)!, name: other.name }));
        const updated = await repository().updateOrCreateMany(
          changed.map(({ name: key, ...more }) => ({ where: { name: key }, values: more })),
        );
        expect(updated.map(([entity]) => shown(entity))).toEqual(changed.map(shown));
        const loaded = await db.orm.em.fork().find(Text, {});
        expect(loaded.map(shown).toSorted()).toEqual(changed.map(shown).toSorted());
      }),
      { numRuns: 60, seed: 7 },
    );
  });
});
