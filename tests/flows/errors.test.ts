import { defineEntity, p } from '@mikro-orm/postgresql';
import type { Client } from 'pg';
import {
  GetOrCreateRepo,
  LookupError,
  MissingUniqueConstraintError,
  MultipleRowsError,
  PlusError,
  withRepo,
} from '../../src/index.js';
import { createTestOrm, type TestOrm } from '../harness/orm.js';
import { rivalClient } from './rival.js';
import { kinds } from './statements.js';

const Owner = defineEntity({ name: 'Owner', properties: { id: p.integer().primary(), name: p.string() } });

const Address = defineEntity({
  embeddable: true,
  name: 'Address',
  properties: { city: p.string(), zip: p.string() },
});

const User = withRepo(
  defineEntity({
    name: 'User',
    tableName: 'app_user',
    properties: {
      id: p.integer().primary(),
      email: p.string().unique(),
      login: p.string().unique(),
      name: p.string(),
      age: p.integer().nullable(),
      token: p.string().hidden().unique().nullable(),
      nick: p.string().unique().nullable(),
      rank: p.integer().nullable().default(0),
      data: p.json<object>().nullable(),
      at: p.datetime().nullable(),
      owner: () => p.manyToOne(Owner).nullable(),
      address: () => p.embedded(Address).nullable(),
      upper: p.string().persist(false).nullable(),
    },
    checks: [{ name: 'age_check', expression: 'age >= 0' }],
  }),
  GetOrCreateRepo,
);

const Settings = withRepo(
  defineEntity({
    name: 'Settings',
    properties: { id: p.integer().primary(), theme: p.string().default('light') },
  }),
  GetOrCreateRepo,
);

const Log = withRepo(
  defineEntity({ name: 'Log', properties: { id: p.integer().primary(), topic: p.string(), level: p.integer() } }),
  GetOrCreateRepo,
);

let db: TestOrm;
let rival: Client;

beforeAll(async () => {
  db = await createTestOrm({ entities: [Owner, User, Settings, Log] });
  rival = await rivalClient(db.url);
  await rival.query('alter table app_user alter rank set not null');
});
beforeEach(async () => {
  await rival.query('truncate app_user, settings, log');
  db.statements.take();
});

const person = { login: 'l', name: 'n' };

describe('what the database or MikroORM refuses', () => {
  const cases: [name: string, exception: string, defaults: object][] = [
    ['a missing required property', 'ValidationError', { login: 'l' }],
    [
      'a null in a column that only the database requires',
      'NotNullConstraintViolationException',
      { ...person, rank: null },
    ],
    ['a foreign key of no row', 'ForeignKeyConstraintViolationException', { ...person, owner: 999 }],
    ['a failed check', 'CheckConstraintViolationException', { ...person, age: -1 }],
    ['a conflict on another unique constraint', 'UniqueConstraintViolationException', { ...person, login: 'taken' }],
  ];

  describe.each(cases)('%s', (_name, exception, defaults) => {
    const calls: [string, (em: TestOrm['orm']['em']) => Promise<unknown>][] = [
      ['getOrCreate', (em) => em.getRepository(User).getOrCreate({ email: 'e' }, defaults)],
      [
        'getOrCreateMany',
        (em) =>
          em
            .getRepository(User)
            .getOrCreateMany([{ email: 'fine' }, { email: 'e' }], ({ email }) =>
              email === 'fine' ? { login: 'fine', name: 'fine' } : defaults,
            ),
      ],
      ['updateOrCreate', (em) => em.getRepository(User).updateOrCreate({ email: 'e' }, defaults)],
    ];
    it.each(calls)(
      'is MikroORM’s own exception in %s, stores nothing, and leaves the EntityManager usable',
      async (_call, run) => {
        await rival.query(`insert into app_user (email, login, name) values ('other', 'taken', 'n')`);
        const em = db.orm.em.fork();
        const error = await run(em).catch((reason: unknown) => reason);
        expect(error).toBeInstanceOf(Error);
        expect(error).not.toBeInstanceOf(PlusError);
        expect((error as Error).name).toBe(exception);
        expect((await rival.query(`select email from app_user`)).rows).toEqual([{ email: 'other' }]);
        expect([
          ...em
            .getUnitOfWork()
            .getIdentityMap()
            .getStore(em.getMetadata().get(User) as never),
        ]).toEqual([]);
        expect(em.isInTransaction()).toBe(false);
        db.statements.take();
        await em.flush();
        expect(db.statements.take()).toEqual([]);
        const [user, created] = await em.getRepository(User).getOrCreate({ email: 'e' }, person);
        expect([user.login, created]).toEqual(['l', true]);
      },
    );
  });

  it('is MikroORM’s own error for null in a required property', async () => {
    const repository = db.orm.em.fork().getRepository(User);
    const values = { login: 'l', name: null as never };
    await expect(repository.getOrCreate({ email: 'e' }, values)).rejects.toMatchObject({ name: 'ValidationError' });
    await expect(repository.updateOrCreate({ email: 'e' }, values)).rejects.toThrow(
      /non-null value to the property name/,
    );
  });

  it('lets an error of a function in the defaults through, and stores nothing', async () => {
    const em = db.orm.em.fork();
    const failing = {
      ...person,
      age: () => {
        throw new RangeError('no age');
      },
    };
    await expect(em.getRepository(User).getOrCreate({ email: 'e' }, failing)).rejects.toThrow(new RangeError('no age'));
    await expect(em.getRepository(User).updateOrCreate({ email: 'e' }, failing)).rejects.toThrow('no age');
    await expect(em.count(User)).resolves.toBe(0);
  });

  it('raises the unique violation when the row of the constraint differs in the rest of the lookup', async () => {
    const repository = () => db.orm.em.fork().getRepository(User);
    await repository().getOrCreate({ email: 'e' }, { login: 'l', name: 'one' });
    await expect(repository().getOrCreate({ email: 'e', name: 'two' }, { login: 'other' })).rejects.toMatchObject({
      name: 'UniqueConstraintViolationException',
    });
    await expect(repository().updateOrCreate({ email: 'e', name: 'two' }, { login: 'other' })).rejects.toMatchObject({
      name: 'UniqueConstraintViolationException',
    });
    await expect(db.orm.em.fork().find(User, {})).resolves.toMatchObject([{ email: 'e', login: 'l', name: 'one' }]);
  });
});

describe('an unusable where', () => {
  const cases: [problem: string, where: unknown, message: RegExp][] = [
    ['an operator object', { email: { $ne: 'x' } }, /operator object for 'email'/],
    ['an operator on the top level', { $or: [{ email: 'x' }] }, /'\$or', which is no property/],
    ['an operator beside the key', { email: 'x', name: { $like: '%' } }, /operator object for 'name'/],
    ['an operator in a relation', { email: 'x', owner: { $ne: 1 } }, /operator object for 'owner'/],
    ['an operator below a relation', { email: 'x', owner: { id: { $gt: 0 } } }, /object or array for 'id'/],
    [
      'an operator in an embeddable',
      { email: 'x', address: { city: { $ne: 'x' } } },
      /operator object for 'address.city'/,
    ],
    ['an operator for an embeddable', { email: 'x', address: { $ne: null } }, /operator object for 'address'/],
    ['an array', { email: ['x', 'y'] }, /object or array for 'email'/],
    ['an object', { email: { toString: 'x' } }, /object or array for 'email'/],
    ['a Map', { email: new Map([['$ne', 'x']]) }, /object or array for 'email'/],
    ['undefined', { email: undefined }, /undefined for 'email'/],
    ['a function', { email: () => 'x' }, /function for 'email'/],
    ['a RegExp', { email: /x/ }, /RegExp for 'email'/],
    ['a symbol', { email: Symbol('x') }, /symbol for 'email'/],
    ['NaN', { id: Number.NaN }, /NaN for 'id'/],
    ['an invalid date', { email: 'x', at: new Date('no') }, /invalid Date for 'at'/],
    ['a NUL character', { email: 'x\0' }, /NUL character in 'email'/],
    ['an unknown property', { emial: 'x' }, /'emial', which is no property/],
    ['a property of Object.prototype', { hasOwnProperty: 'x' }, /'hasOwnProperty', which is no property/],
    ['a constructor', { constructor: 'x' }, /not a plain object/],
    ['__proto__ out of JSON', JSON.parse('{"__proto__": {"email": "x"}}'), /'__proto__', which is no property/],
    ['a symbol key', { [Symbol('raw')]: 1 }, /symbol key/],
    ['a property that is not persisted', { email: 'x', upper: 'X' }, /'upper', which is not persisted/],
    ['a new entity as relation', { email: 'x', owner: 'NEW' }, /new Owner without primary key for 'owner'/],
    ['an unknown property of an embeddable', { email: 'x', address: { street: 's' } }, /'address.street'/],
    ['no object', 'x', /not a plain object/],
    ['an array of lookups', [{ email: 'x' }], /not a plain object/],
    ['nothing', undefined, /not a plain object/],
  ];

  it.each(cases)('is refused before anything is sent: %s', async (_problem, given, message) => {
    const em = db.orm.em.fork();
    const where =
      (given as { owner?: unknown } | undefined)?.owner === 'NEW'
        ? { email: 'x', owner: em.create(Owner, { name: 'n' }, { persist: false }) }
        : given;
    const repository = em.getRepository(User);
    const calls = [
      () => repository.getOrCreate(where as never, person),
      () => repository.getOrCreateMany([{ email: 'fine' }, where as never], person),
      () => repository.updateOrCreate(where as never, person),
    ];
    for (const call of calls) {
      const error = await call().catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(LookupError);
      expect(error).toMatchObject({ code: 'PLUS_LOOKUP', entity: 'User', message: expect.stringMatching(message) });
    }
    expect(db.statements.take()).toEqual([]);
  });

  it('is printed with the values of hidden properties redacted', async () => {
    const repository = db.orm.em.fork().getRepository(User);
    const where = { token: 'secret', email: { $ne: 'shown' } };
    const error = await repository.getOrCreate(where as never).catch((reason: unknown) => reason as LookupError);
    expect(error).toMatchObject({ lookup: `{ token: [hidden], email: { '$ne': 'shown' } }` });
    expect(JSON.stringify(error) + (error as Error).message).not.toContain('secret');
  });

  it.each([
    ['defaults', { nme: 'n' }, /nme/],
    ['defaults', [], /plain object/],
  ])('has its like in unusable %s', async (_argument, defaults, message) => {
    const repository = db.orm.em.fork().getRepository(User);
    await expect(repository.getOrCreate({ email: 'e' }, defaults as never)).rejects.toThrow(message);
    await expect(repository.updateOrCreate({ email: 'e' }, defaults as never)).rejects.toThrow(LookupError);
    await expect(repository.getOrCreate({ email: 'e' }, person, { refrsh: true } as never)).rejects.toThrow(/refrsh/);
    expect(db.statements.take()).toEqual([]);
  });
});

describe('a lookup that no unique constraint serves', () => {
  it.each<[string, object]>([
    ['a property without one', { name: 'n' }],
    ['null in a nullable unique column', { nick: null }],
  ])('is refused before anything is sent: %s', async (_case, where) => {
    const repository = db.orm.em.fork().getRepository(User);
    const error = await repository.getOrCreate(where, { email: 'e', login: 'l' }).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(MissingUniqueConstraintError);
    expect(error).toMatchObject({ code: 'PLUS_MISSING_UNIQUE_CONSTRAINT', entity: 'User' });
    await expect(repository.updateOrCreate(where, { email: 'e' })).rejects.toThrow(MissingUniqueConstraintError);
    expect(db.statements.take()).toEqual([]);
  });

  it('creates one row in a race of eight connections when it is serialized', async () => {
    for (let round = 0; round < 5; round++) {
      const results = await Promise.all(
        Array.from({ length: 8 }, (_value, level) =>
          db.orm.em
            .fork()
            .getRepository(Log)
            .getOrCreate({ topic: `t${round}` }, { level }, { serialize: true }),
        ),
      );
      expect(new Set(results.map(([{ id }]) => id)).size).toBe(1);
      expect(results.filter(([, created]) => created)).toHaveLength(1);
    }
    await expect(db.orm.em.fork().count(Log)).resolves.toBe(5);
  });

  it('creates one row in a race of eight updates when they are serialized, and loses none', async () => {
    const results = await Promise.all(
      Array.from({ length: 8 }, (_value, level) =>
        db.orm.em.fork().transactional(async (em) => {
          const got = await em
            .getRepository(Log)
            .updateOrCreate({ topic: 't' }, {}, { serialize: true, createDefaults: { level: 0 } });
          got[0].level += 1;
          return [level, got[1]] as const;
        }),
      ),
    );
    expect(results.filter(([, created]) => created)).toHaveLength(1);
    await expect(db.orm.em.fork().find(Log, {})).resolves.toMatchObject([{ topic: 't', level: 8 }]);
  });

  it('takes the lock in a transaction of its own outside one, and in the caller’s inside one', async () => {
    await db.orm.em.fork().getRepository(Log).getOrCreate({ topic: 't' }, { level: 1 }, { serialize: true });
    expect(kinds(db.statements.take())).toEqual(['select', 'begin', 'select', 'select', 'insert', 'commit']);
    await db.orm.em.fork().getRepository(Log).getOrCreate({ topic: 't' }, { level: 1 }, { serialize: true });
    expect(kinds(db.statements.take())).toEqual(['select']);
  });
});

describe('more than one matching row', () => {
  it('is an error, alone and in a batch', async () => {
    await rival.query(`insert into log (topic, level) values ('t', 1), ('t', 2)`);
    const repository = () => db.orm.em.fork().getRepository(Log);
    const options = { serialize: true };
    await expect(repository().getOrCreate({ topic: 't' }, { level: 1 }, options)).rejects.toThrow(MultipleRowsError);
    await expect(repository().getOrCreateMany([{ topic: 'u' }, { topic: 't' }], { level: 1 }, options)).rejects.toThrow(
      MultipleRowsError,
    );
    const lookup = { lookup: { topic: 't' } };
    await expect(repository().getOrCreate({ id: 1_000 }, { level: 1 }, lookup)).rejects.toThrow(MultipleRowsError);
    await expect(repository().updateOrCreate({ topic: 't' }, { level: 1 }, options)).rejects.toThrow(MultipleRowsError);
    const { rows } = await rival.query('select level from log order by id');
    expect(rows).toEqual([{ level: 1 }, { level: 2 }]);
  });
});

describe('an empty where', () => {
  it('is fine for an entity of which there is at most one row', async () => {
    const repository = () => db.orm.em.fork().getRepository(Settings);
    const [settings, created] = await repository().getOrCreate({});
    expect([settings.theme, created]).toEqual(['light', true]);
    await expect(repository().getOrCreate({})).resolves.toMatchObject([{ id: settings.id }, false]);
    await expect(repository().updateOrCreate({}, { theme: 'dark' })).resolves.toMatchObject([
      { id: settings.id, theme: 'dark' },
      false,
    ]);
    await rival.query('insert into settings default values');
    await expect(repository().getOrCreate({})).rejects.toThrow(MultipleRowsError);
    await expect(repository().updateOrCreate({}, { theme: 'x' })).rejects.toThrow(MultipleRowsError);
  });

  it('creates one row in a race', async () => {
    const results = await Promise.all(
      Array.from({ length: 8 }, () => db.orm.em.fork().getRepository(Settings).getOrCreate({})),
    );
    expect(new Set(results.map(([{ id }]) => id)).size).toBe(1);
    await expect(db.orm.em.fork().count(Settings)).resolves.toBe(1);
  });
});
