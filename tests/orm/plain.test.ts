import {
  defineEntity,
  helper,
  p,
  Type,
  type EntityName,
  type EntitySchema,
  type EventSubscriber,
} from '@mikro-orm/postgresql';
import { buildCandidate, Nursery } from '../../src/orm/candidate.js';
import type { EntityManager, Row } from '../../src/orm/context.js';
import { hydrate, storedData } from '../../src/orm/entities.js';
import type { Meta } from '../../src/orm/metadata.js';
import { PlainRows } from '../../src/orm/plain.js';
import { createTestOrm, type TestOrm } from '../harness/orm.js';

/*
 * What src/orm/plain.ts does in place of MikroORM's factory, against that factory. A test that fails here after an
 * upgrade of MikroORM says what it does differently now.
 */

const id = () => p.integer().primary();

class ThingBase {
  readonly #secret = 'kept';
  id!: number;
  name!: string;
  weight?: number | null;
  active?: boolean;
  seenAt?: Date | null;
  madeAt?: Date;

  get secret(): string {
    return this.#secret;
  }
}

const Thing = defineEntity({
  class: ThingBase,
  properties: {
    id: id(),
    name: p.string().unique(),
    weight: p.integer().nullable(),
    active: p.boolean().default(true),
    seenAt: p.datetime().nullable(),
    madeAt: p.datetime().defaultRaw('now()'),
  },
});

class Doubling extends Type<number, number> {
  override convertToDatabaseValue(value: number): number {
    return value * 2;
  }

  override convertToJSValue(value: number): number {
    return value / 2;
  }

  override getColumnType(): string {
    return 'int';
  }
}

/** What `em.create()` and a constructor do with one another: arguments, fields, a default, a value of creation. */
class MadeBase {
  id!: number;
  name: string;
  label = 'of the class';
  rank?: number;
  stamp?: string;
  readonly seen: string[] = [];

  constructor(name: string, unknown: object) {
    this.name = name.toUpperCase();
    this.seen.push(...Object.keys(unknown));
  }
}

const Made = defineEntity({
  class: MadeBase,
  properties: {
    id: id(),
    name: p.string().unique(),
    label: p.string(),
    rank: p.integer().default(3),
    stamp: p.string().onCreate(() => 'stamped'),
    note: p.string().nullable(),
  },
});
const Bare = defineEntity({
  name: 'Bare',
  properties: { id: id(), name: p.string(), rank: p.integer().default(3), at: p.datetime().nullable() },
});

const Part = defineEntity({ name: 'Part', embeddable: true, properties: { city: p.string() } });
const fancy = {
  'a custom type': defineEntity({ name: 'Custom', properties: { id: id(), half: p.type(Doubling) } }),
  JSON: defineEntity({ name: 'Json', properties: { id: id(), data: p.json<object>() } }),
  'a list': defineEntity({ name: 'List', properties: { id: id(), list: p.array() } }),
  'an embeddable': defineEntity({ name: 'Embedding', properties: { id: id(), part: () => p.embedded(Part) } }),
  'a relation': defineEntity({ name: 'Related', properties: { id: id(), thing: () => p.manyToOne(Thing) } }),
  'a lazy column': defineEntity({ name: 'Lazy', properties: { id: id(), text: p.text().lazy() } }),
  'a version': defineEntity({ name: 'Versioned', properties: { id: id(), revision: p.integer().version() } }),
  'a formula': defineEntity({ name: 'Formula', properties: { id: id(), one: p.integer().formula('1') } }),
  'a scalar reference': defineEntity({ name: 'Ref', properties: { id: id(), text: p.text().ref() } }),
  'a text whose column is a timestamp': defineEntity({
    name: 'Textual',
    properties: { id: id(), at: p.string().columnType('timestamp') },
  }),
  'a key of two columns': defineEntity({
    name: 'Pair',
    properties: { left: p.integer().primary(), right: p.integer().primary() },
  }),
  'a property that isn’t stored': defineEntity({
    name: 'Virtual',
    properties: { id: id(), note: p.string().persist(false) },
  }),
};

let db: TestOrm;
let meta: Meta;

beforeAll(async () => {
  db = await createTestOrm({ entities: [Thing, Made, Bare, Part, ...(Object.values(fancy) as EntitySchema[])] });
  meta = db.orm.getMetadata().get(Thing);
});
beforeEach(async () => {
  await db.orm.em.execute('truncate thing_base restart identity cascade');
  await db.orm.em.execute(`insert into thing_base (name, weight, seen_at) values
    ('full', 1, '2026-01-02 03:04:05.678912+00'), ('empty', null, null)`);
  db.statements.take();
});

const fork = (): EntityManager => db.orm.em.fork();
const rowsOf = (em: EntityManager): Promise<Row[]> => em.execute<Row[]>('select * from thing_base order by id');
const plainOf = (em: EntityManager): PlainRows => PlainRows.of(em, meta, undefined)!;

/** What MikroORM's factory makes of a row. */
function hostEntity(em: EntityManager, row: Row): object {
  const data = em.getDriver().mapResult(row, meta)!;
  const options = { merge: true, convertCustomTypes: true, recomputeSnapshot: true };
  return em.getEntityFactory().create(Thing as EntityName<object>, data, options);
}

function isKnown(em: EntityManager, entity: object): boolean {
  const key = helper(entity).getPrimaryKey() as never;
  return em.getUnitOfWork(false).getById(Thing as EntityName<object>, key) === entity;
}

/** All that tells entities apart, but for their EntityManager. */
function looksOf(em: EntityManager, entity: object): object {
  const wrapped = helper(entity);
  return {
    entity: { ...entity },
    keys: Object.keys(entity),
    kinds: Object.entries(Object.getOwnPropertyDescriptors(entity)).map(([name, { get, set, value, ...flags }]) => [
      name,
      [typeof get, typeof set, name.startsWith('__') ? '' : value, flags],
    ]),
    json: JSON.stringify(entity),
    data: { ...wrapped.__data },
    stored: storedData(entity),
    loaded: [...wrapped.__loadedProperties].toSorted((left, right) => (left < right ? -1 : 1)),
    flags: [wrapped.__managed, wrapped.__initialized, wrapped.__processing, wrapped.__schema, wrapped.__em === em],
    isKnown: isKnown(em, entity),
    compared: em.getComparator().prepareEntity(entity),
  };
}

describe('a row that was read', () => {
  it('becomes the entity that MikroORM’s factory makes of it', async () => {
    const [one, other] = [fork(), fork()];
    const rows = await rowsOf(one);
    const loader = plainOf(one);
    for (const row of rows) {
      const entity = loader.load(row)!;
      // its values are its own, as those of fields of a class are
      const { kinds: _, data: __, ...expected } = looksOf(other, hostEntity(other, row)) as Record<string, unknown>;
      const looks = looksOf(one, entity) as Record<string, unknown>;
      expect(looks).toMatchObject(expected);
      expect(looks['keys']).toEqual(expected['keys']);
      expect(hydrate(fork(), meta, row, undefined)).toEqual(entity);
      expect(Object.getPrototypeOf(entity)).toBe(ThingBase.prototype);
    }
    db.statements.take();
    await one.flush();
    expect(db.statements.take()).toEqual([]);
  });

  it('lets a flush see what was changed, also within a Date', async () => {
    const em = fork();
    const [row] = await rowsOf(em);
    const entity = plainOf(em).load(row!) as ThingBase;
    entity.weight = 7;
    entity.seenAt!.setUTCFullYear(2000);
    await em.flush();
    const [now] = await rowsOf(em);
    expect(now).toMatchObject({ weight: 7, seen_at: expect.stringContaining('2000-01-02') as unknown });
  });

  it('takes over what a nested transaction changed in its copy of it', async () => {
    const em = fork();
    const [row] = await rowsOf(em);
    const entity = plainOf(em).load(row!) as ThingBase;
    await em.transactional(
      async (inner) => {
        const copy = plainOf(inner).load((await rowsOf(inner))[0]!) as ThingBase;
        expect(copy).not.toBe(entity);
        copy.weight = 9;
      },
      { clear: true },
    );
    expect(entity.weight).toBe(9);
    entity.name = 'later';
    db.statements.take();
    await em.flush();
    expect(db.statements.take().join(' ')).toMatch(/update "thing_base" set "name" = 'later' where/);
    const [now] = await rowsOf(em);
    expect(now).toMatchObject({ weight: 9, name: 'later' });
  });

  it('shares the names of its properties with others, whatever MikroORM does to one of them', async () => {
    const em = fork();
    const plain = plainOf(em);
    const [one, two] = (await rowsOf(em)).map((row) => plain.load(row)!);
    const names = [...helper(two!).__loadedProperties];
    await em.refresh(one as never);
    em.assign(one!, { weight: 4 } as never);
    await em.flush();
    const data = { id: 1, name: 'full', unknown: 5 };
    em.getEntityFactory().create(Thing as EntityName<object>, data, { merge: true, refresh: true });
    expect([...helper(two!).__loadedProperties]).toEqual(names);
    expect([...helper(one!).__loadedProperties]).toEqual(names);
  });

  it('has its onLoad waiting', async () => {
    const em = fork();
    const [row] = await rowsOf(em);
    const entity = plainOf(em).load(row!)!;
    const loaded: object[] = [];
    em.getEventManager().registerSubscriber({ onLoad: (args) => void loaded.push(args.entity as object) });
    await em.getUnitOfWork(false).dispatchOnLoadEvent();
    expect(loaded).toEqual([entity]);
  });

  it('is left to the entity that the identity map has', async () => {
    const em = fork();
    const [row] = await rowsOf(em);
    const known = em.getReference(Thing, 1);
    expect(plainOf(em).load(row!)).toBeUndefined();
    expect(hydrate(em, meta, row!, undefined)).toBe(known);
  });
});

describe('a candidate', () => {
  const data = { name: 'new', seenAt: new Date('2026-05-05T05:05:05Z') };

  async function insert(em: EntityManager): Promise<Row> {
    const sql = `insert into thing_base (name, weight, seen_at) values ('new', 5, ?) returning *`;
    const [row] = await em.execute<Row[]>(sql, [data.seenAt]);
    return row!;
  }

  it.each(['apart', 'within'] as const)('that was built %s becomes the entity of its row', async (where) => {
    const [one, other] = [fork(), fork()];
    const row = await insert(one);
    const nursery = Nursery[where](one, undefined);
    const { entity } = await buildCandidate(one, meta, data, undefined, 'fire', nursery);
    expect(plainOf(one).adopt(entity, row)).toBe(entity);
    // a field of the class is a value of its own, as after `em.create()` and a flush
    const { kinds: _, data: __, keys, loaded, ...looks } = looksOf(one, entity) as Record<string, unknown>;
    const expected = looksOf(other, hostEntity(other, row)) as Record<string, unknown>;
    expect({ ...expected, ...looks, json: undefined }).toEqual({ ...expected, json: undefined });
    expect(new Set(keys as string[])).toEqual(new Set(expected['keys'] as string[]));
    expect(loaded).toEqual(expected['loaded']);
    expect((entity as ThingBase).secret).toBe('kept');
    expect((entity as ThingBase).seenAt).not.toBe(data.seenAt);
    db.statements.take();
    await one.flush();
    expect(db.statements.take()).toEqual([]);
  });

  it('that was built within an EntityManager isn’t known to it, and never flushed', async () => {
    const em = fork();
    const { entity } = await buildCandidate(em, meta, data, undefined, 'fire', Nursery.within(em, undefined));
    expect([...em.getUnitOfWork(false).getIdentityMap()]).toEqual([]);
    expect(em.getUnitOfWork(false).getPersistStack().size).toBe(0);
    db.statements.take();
    await em.flush();
    expect(db.statements.take()).toEqual([]);
    expect((entity as ThingBase).id).toBeUndefined();
  });

  it('is left alone when the identity map has an entity of its row', async () => {
    const em = fork();
    const row = await insert(em);
    const known = await em.findOneOrFail(Thing, { name: 'new' });
    const { entity } = await buildCandidate(em, meta, data, undefined);
    expect(plainOf(em).adopt(entity, row)).toBeUndefined();
    expect(em.getUnitOfWork(false).getById(Thing as EntityName<object>, known.id as never)).toBe(known);
  });
});

describe.each([
  ['with a constructor, fields and a property beside its columns', Made, { name: 'a', note: 'n' }],
  ['that runs nothing', Bare, { name: 'a', at: new Date('2026-05-05T05:05:05Z') }],
  ['that is given all there is', Bare, { name: 'a', rank: 5, at: null, id: 12 }],
])('a new entity of a class %s', (_name, entity, data) => {
  it('is what em.create() makes, and the same row', async () => {
    const em = fork();
    const ofEntity = db.orm.getMetadata().get(entity as EntityName<object>) as Meta;
    const plain = PlainRows.of(em, ofEntity, undefined)!;
    const build = async (nursery: Nursery) => buildCandidate(em, ofEntity, data, undefined, 'fire', nursery);
    const made = await build(Nursery.apart(em, undefined, plain));
    const hosts = await build(Nursery.apart(em, undefined));
    expect(made.payload).toEqual(hosts.payload);
    expect({ ...made.entity }).toEqual({ ...hosts.entity });
    expect(JSON.stringify(made.entity)).toBe(JSON.stringify(hosts.entity));
    expect(made.entity).toBeInstanceOf(ofEntity.class);
    const flagsOf = (of: object): unknown[] => {
      const { __managed, __initialized, __processing, __schema } = helper(of);
      return [__managed, __initialized, __processing, __schema];
    };
    expect(flagsOf(made.entity)).toEqual(flagsOf(hosts.entity));
    const errorOf = async (nursery: Nursery): Promise<string> => {
      const building = async () =>
        buildCandidate(em, ofEntity, { ...data, name: undefined }, undefined, 'fire', nursery);
      return building().then(String, String);
    };
    await expect(errorOf(Nursery.apart(em, undefined, plain))).resolves.toBe(
      await errorOf(Nursery.apart(em, undefined)),
    );
  });
});

describe('MikroORM’s factory makes', () => {
  it.each(Object.keys(fancy))('entities with %s', (name) => {
    const fancyMeta = db.orm.getMetadata().get(fancy[name as keyof typeof fancy] as never) as unknown as Meta;
    expect(PlainRows.of(fork(), fancyMeta, undefined)).toBeUndefined();
  });

  it('entities that somebody wants to see made', () => {
    const em = db.orm.em.fork({ freshEventManager: true });
    em.getEventManager().registerSubscriber({ onInit: () => undefined } satisfies EventSubscriber);
    expect(PlainRows.of(em, meta, undefined)).toBeUndefined();
  });
});
