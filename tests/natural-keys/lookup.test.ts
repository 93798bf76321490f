import fc from 'fast-check';
import { MikroORM, defineEntity, p } from '@mikro-orm/postgresql';
import { LookupError } from '../../src/index.js';
import { keyText, parseLookup, type LookupPart } from '../../src/natural-keys/lookup.js';
import { planFor } from '../../src/natural-keys/plan.js';
import { uniqueKeysOf } from '../../src/natural-keys/unique-keys.js';
import type { Meta } from '../../src/orm/metadata.js';

const Owner = defineEntity({ name: 'Owner', properties: { id: p.integer().primary(), name: p.string() } });
const Pair = defineEntity({ name: 'Pair', properties: { left: p.integer().primary(), right: p.string().primary() } });
const Address = defineEntity({
  embeddable: true,
  name: 'Address',
  properties: { city: p.string(), zip: p.string().nullable() },
});

const Thing = defineEntity({
  name: 'Thing',
  properties: {
    id: p.integer().primary(),
    name: p.string().unique(),
    code: p.string().unique().nullable(),
    scope: p.string().nullable(),
    at: p.datetime().nullable(),
    big: p.bigint().nullable(),
    bytes: p.blob().nullable(),
    data: p.json<unknown>().nullable(),
    deferred: p.string().nullable(),
    secret: p.string().hidden().nullable(),
    owner: () => p.manyToOne(Owner).nullable(),
    pair: () => p.manyToOne(Pair).nullable(),
    address: () => p.embedded(Address).nullable(),
  },
  uniques: [
    { properties: ['scope', 'name'] },
    { properties: ['scope'], where: 'code is null' },
    { properties: ['owner', 'address.city'] as never },
    { properties: ['deferred'], deferMode: 'deferred' } as never,
    { name: 'thing_lower', expression: 'create unique index "thing_lower" on "thing" (lower("code"))' },
    {
      name: 'thing_nnd',
      expression: 'create unique index "thing_nnd" on "thing" ("pair_left", "pair_right", "scope") nulls not distinct',
    },
  ],
});

let orm: MikroORM;
let meta: Meta;

beforeAll(async () => {
  orm = await MikroORM.init({
    entities: [Owner, Pair, Thing],
    dbName: 'never connected',
    discovery: { warnWhenNoEntities: false },
  });
  meta = orm.getMetadata().get(Thing);
});
afterAll(() => orm.close(true));

const parse = (where: unknown) => parseLookup(meta, where, orm.em.getPlatform());

/** Any JSON, rich in what looks like operators and properties. */
const json = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.constant(null),
    fc.boolean(),
    fc.integer(),
    fc.string(),
    fc.array(tie('value'), { maxLength: 3 }),
    fc.dictionary(
      fc.oneof(
        fc.constantFrom('$ne', '$or', '$and', '$in', '$like', '$not', '$gt', '__proto__', 'constructor', 'toString'),
        fc.constantFrom('id', 'name', 'code', 'owner', 'pair', 'left', 'right', 'address', 'city', 'zip', 'data'),
        fc.string(),
      ),
      tie('value'),
      { maxKeys: 3, noNullPrototype: false },
    ),
  ),
})).value;

const whereJson = fc.dictionary(
  fc.oneof(
    {
      weight: 5,
      arbitrary: fc.constantFrom('id', 'name', 'code', 'scope', 'at', 'big', 'bytes', 'owner', 'pair', 'address'),
    },
    { weight: 1, arbitrary: fc.constantFrom('$or', '$and', '__proto__', 'constructor', 'secret', 'data', 'nope') },
  ),
  json,
  { minKeys: 1, maxKeys: 3, noNullPrototype: false },
);

/** What a value in a parsed lookup may be: one that compares by equality, with nothing that widens it. */
function isPlainValue(value: unknown): boolean {
  if (value === null || ['string', 'number', 'bigint', 'boolean'].includes(typeof value)) return true;
  if (value instanceof Date || Buffer.isBuffer(value)) return true;
  return Array.isArray(value) && value.every((item) => !Array.isArray(item) && isPlainValue(item));
}

/** The parts of a lookup; nothing when it is refused, as it has to be: with a LookupError. */
function partsOf(where: unknown): readonly LookupPart[] | undefined {
  try {
    return parse(where).parts;
  } catch (error) {
    if (error instanceof LookupError) return undefined;
    throw error;
  }
}

describe('a parsed lookup', () => {
  it('never holds an object, whatever JSON a request brings', () => {
    let parsed = 0;
    fc.assert(
      fc.property(whereJson, (where) => {
        // as an HTTP body would arrive: `__proto__` is a key of its own
        const body: unknown = JSON.parse(JSON.stringify(where));
        const parts = partsOf(body);
        const widening = parts?.filter(({ prop, value }) => prop.name !== 'data' && !isPlainValue(value)) ?? [];
        expect(widening).toEqual([]);
        parsed += parts ? 1 : 0;
      }),
      { numRuns: 3_000, seed: 7 },
    );
    expect(parsed).toBeGreaterThan(200);
  });

  it('refuses an operator object for every property, also below relations and embeddables', () => {
    const operator = fc.constantFrom(
      '$ne',
      '$in',
      '$gt',
      '$like',
      '$re',
      '$or',
      '$not',
      '$exists',
      '$fulltext',
      '$some',
      '$none',
    );
    const property = fc.constantFrom(...Object.keys(Thing.meta.properties));
    fc.assert(
      fc.property(operator, property, json, (name, prop, value) => {
        expect(() => parse({ [prop]: { [name]: value } })).toThrow(LookupError);
      }),
      { seed: 7 },
    );
    for (const where of [
      { owner: { id: { $ne: 1 } } },
      { pair: { left: { $gt: 1 }, right: 'x' } },
      { pair: [{ $gt: 1 }, 'x'] },
      { address: { city: { $ne: 'x' } } },
      { owner: [{ $ne: 1 }] },
    ]) {
      expect(() => parse(where)).toThrow(LookupError);
    }
  });

  it('has the same text exactly for the same set of properties and values', () => {
    const scalar = fc.oneof(fc.string(), fc.constantFrom('', 'n', 's', '1:', '0:1:', 'name', '4:name'));
    const where = fc.record(
      { name: scalar, code: fc.option(scalar), scope: fc.option(scalar) },
      { requiredKeys: ['name'] },
    );
    fc.assert(
      fc.property(where, where, (left, right) => {
        if (Object.values({ ...left, ...right }).some((value) => value?.includes('\0'))) return;
        const [a, b] = [parse(left), parse(right)];
        const entries = (value: object) =>
          JSON.stringify(Object.entries(value).toSorted(([x], [y]) => (x < y ? -1 : 1)));
        expect(a.shape + a.text === b.shape + b.text).toBe(entries(left) === entries(right));
        expect(a.text).toBe(parse(Object.fromEntries(Object.entries(left).toReversed())).text);
        expect(keyText(a)).toBe(keyText(a, left));
      }),
      { numRuns: 1_000, seed: 7 },
    );
  });

  it('takes a relation as key, as entity and as reference alike', () => {
    const em = orm.em.fork();
    const texts = [
      { owner: 7 },
      { owner: em.getReference(Owner, 7) },
      { owner: em.getReference(Owner, 7, { wrapped: true }) },
      { owner: { id: 7 } },
    ];
    expect(new Set(texts.map((where) => parse(where).text)).size).toBe(1);
    const pairs = [
      { pair: [1, 'x'] },
      { pair: { right: 'x', left: 1 } },
      { pair: em.getReference(Pair, [1, 'x'] as never) },
    ];
    expect(new Set(pairs.map((where) => parse(where).text)).size).toBe(1);
    for (const pair of [1, [1], [1, 'x', 2], { left: 1 }, { left: 1, right: 'x', more: 1 }, [1, null]]) {
      expect(() => parse({ pair })).toThrow(LookupError);
    }
  });

  it('takes an embeddable apart: what a plain object names, or all of an instance', () => {
    expect(parse({ address: { city: 'c' } }).parts.map(({ prop, value }) => [prop.name, value])).toEqual([
      ['address_city', 'c'],
    ]);
    const instance = Object.assign(new (Address.class as new () => object)(), { city: 'c' });
    expect(parse({ address: instance }).parts.map(({ prop, value }) => [prop.name, value])).toEqual([
      ['address_city', 'c'],
      ['address_zip', null],
    ]);
    expect(parse({ address: null }).parts.map(({ value }) => value)).toEqual([null, null]);
  });

  it('prints without values of hidden properties, and bounded', () => {
    expect(parse({ name: 'x', secret: 'top' }).printed).toBe(`{ name: 'x', secret: [hidden] }`);
    expect(parse({ name: 'x'.repeat(10_000) }).printed.length).toBeLessThan(300);
  });
});

describe('the unique key that serves a lookup', () => {
  const keyOf = (where: object) => planFor(orm.em.getDriver(), parse(where)).key;
  const columns = (where: object) => keyOf(where)?.columns;

  it.each<[string, object, string[] | undefined]>([
    ['the primary key', { id: 1 }, ['id']],
    ['a unique property', { name: 'x' }, ['name']],
    ['the one with the most columns', { name: 'x', scope: 's' }, ['scope', 'name']],
    ['one without null', { name: 'x', scope: null }, ['name']],
    ['a partial one, when there is no other', { scope: 's' }, ['scope']],
    ['one that counts nulls as equal', { pair: null, scope: null }, ['pair_left', 'pair_right', 'scope']],
    ['none for null in a nullable column', { code: null }, undefined],
    ['none for a deferrable constraint', { deferred: 'x' }, undefined],
    [
      'one over a relation and part of an embeddable',
      { owner: 1, address: { city: 'c' } },
      ['owner_id', 'address_city'],
    ],
    ['none for a part of a key', { owner: 1 }, undefined],
    ['none for other properties', { at: new Date(0) }, undefined],
  ])('is %s', (_name, where, expected) => {
    expect(columns(where)).toEqual(expected);
  });

  it('is found once for each shape', () => {
    const driver = orm.em.getDriver() as never;
    expect(planFor(driver, parse({ name: 'a' }))).toBe(planFor(driver, parse({ name: 'b' })));
    expect(planFor(driver, parse({ name: 'a' }))).not.toBe(planFor(driver, parse({ name: 'a', scope: null })));
    expect(uniqueKeysOf(driver, meta)).toBe(uniqueKeysOf(driver, meta));
  });

  it('of an expression index is only one that `on conflict` can name', () => {
    const keys = uniqueKeysOf(orm.em.getDriver(), meta);
    expect(keys.filter(({ nullsNotDistinct }) => nullsNotDistinct)).toHaveLength(1);
    expect(keys.filter(({ columns: names }) => names.includes('code'))).toHaveLength(1);
  });
});
