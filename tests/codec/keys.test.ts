import { defineEntity, MikroORM, p } from '@mikro-orm/postgresql';
import fc from 'fast-check';
import { databasePrefix, fingerprint, lookupKey, objectKey } from '../../src/codec/keys.js';
import { lookupKeyText } from '../../src/codec/primary-key.js';
import { parseLookup } from '../../src/natural-keys/lookup.js';
import { canonical, sequence } from '../../src/orm/canonical.js';

const Pair = defineEntity({
  name: 'Pair',
  properties: { left: p.string().primary(), right: p.string().primary(), name: p.string(), rank: p.integer() },
});
const ById = defineEntity({ name: 'ById', properties: { id: p.uuid().primary() } });

const orm = await MikroORM.init({ entities: [Pair, ById], dbName: 'none', connect: false } as never);
const platform = orm.em.getPlatform();
const lookupOf = (entity: typeof Pair | typeof ById, where: object) =>
  parseLookup(orm.em.getMetadata().get(entity as never) as never, where, platform);

describe('keys', () => {
  it('differ for primary keys that differ, however their parts are cut', () => {
    const pairs = fc.tuple(fc.tuple(fc.string(), fc.string()), fc.tuple(fc.string(), fc.string()));
    const keyOf = ([left, right]: readonly [string, string]) =>
      objectKey('r', 's', sequence([left, right].map(canonical)));
    fc.assert(
      fc.property(pairs, ([one, other]) => {
        expect(keyOf(one) === keyOf(other)).toBe(one[0] === other[0] && one[1] === other[1]);
      }),
    );
    expect(keyOf(['a', 'bc'])).not.toBe(keyOf(['ab', 'c']));
    expect(keyOf(['', 'x'])).not.toBe(keyOf(['x', '']));
  });

  it('of lookups differ by property, by value, by null and by schema, and not by the order of properties', () => {
    const key = (where: object, schema?: string) => lookupKey('r', schema, lookupOf(Pair, where));
    const all = [
      key({ name: 'a' }),
      key({ left: 'a' }),
      key({ name: 'b' }),
      key({ name: null }),
      key({ name: 'null' }),
      key({ name: '' }),
      key({ name: 'a', rank: 1 }),
      key({ name: 'a' }, 'other'),
      key({ name: 'a', left: 'b' }),
      key({ name: 'b', left: 'a' }),
      key({}),
      lookupKey('other', undefined, lookupOf(Pair, { name: 'a' })),
    ];
    expect(new Set(all).size).toBe(all.length);
    expect(key({ name: 'a', rank: 1 })).toBe(key({ rank: 1, name: 'a' }));
    expect(all.every((text) => /^(r|other):l:[\w-]{22}$/.test(text))).toBe(true);
  });

  it('say nothing of the values', () => {
    expect(lookupKey('r', undefined, lookupOf(Pair, { name: 'secret' }))).not.toContain('secret');
    expect(objectKey('r', undefined, 'secret')).not.toContain('secret');
  });

  it('are the same for every way to write a uuid, and for nothing else', () => {
    const id = '0b0f6c3e-8f0e-4a5b-9d36-5b7e0a7c1d42';
    const texts = [id, id.toUpperCase(), `{${id}}`, id.replaceAll('-', '')].map((text) =>
      lookupKeyText(lookupOf(ById, { id: text })),
    );
    expect(new Set(texts).size).toBe(1);
    expect(lookupKeyText(lookupOf(ById, { id: id.replace('0', '1') }))).not.toBe(texts[0]);
    expect(lookupKeyText(lookupOf(Pair, { left: 'AA', right: 'b' }))).not.toBe(
      lookupKeyText(lookupOf(Pair, { left: 'aa', right: 'b' })),
    );
    expect(lookupKeyText(lookupOf(Pair, { left: 'AA' }))).toBeUndefined();
  });

  it('name the database, whichever way this machine is called', () => {
    const prefixes = [
      databasePrefix('db1', 5432, 'shop'),
      databasePrefix('db2', 5432, 'shop'),
      databasePrefix('db1', 5433, 'shop'),
      databasePrefix('db1', 5432, 'shop2'),
      databasePrefix(undefined, 5432, 'shop'),
    ];
    expect(new Set(prefixes).size).toBe(prefixes.length);
    for (const host of ['localhost', '127.0.0.1', '::1', undefined]) {
      expect(databasePrefix(host, 5432, 'shop')).toBe(prefixes[4]);
    }
    expect(databasePrefix('DB1', 5432, 'shop')).toBe(prefixes[0]);
  });
});

describe('a fingerprint', () => {
  it('changes with the name, the type and the order of columns', () => {
    const columns = [
      ['id', ['id'], ['int']],
      ['name', ['name'], ['text']],
    ];
    const base = fingerprint(columns);
    expect(fingerprint(structuredClone(columns))).toBe(base);
    for (const other of [
      [columns[0]!],
      [columns[1]!, columns[0]!],
      [columns[0]!, ['name', ['title'], ['text']]],
      [columns[0]!, ['name', ['name'], ['varchar']]],
      [...columns, ['more', ['more'], ['int']]],
    ]) {
      expect(fingerprint(other)).not.toBe(base);
    }
  });
});
