import { jest } from '@jest/globals';
import { defineEntity, IsolationLevel, LockMode, p } from '@mikro-orm/postgresql';
import type { Client } from 'pg';
import { AlwaysRepo, withRepo } from '../../src/index.js';
import { createTestOrm, type TestOrm } from '../harness/orm.js';
import { rivalClient, untilBlocked } from './rival.js';
import { kinds } from './statements.js';

const Owner = defineEntity({
  name: 'Owner',
  properties: {
    id: p.integer().primary(),
    name: p.string(),
    docs: () => p.oneToMany(Doc).mappedBy('owner'),
  },
});

const Doc = withRepo(
  defineEntity({
    name: 'Doc',
    properties: {
      id: p.integer().primary(),
      slug: p.string().unique(),
      title: p.string().default('untitled'),
      deleted: p.boolean().default(false),
      owner: () => p.manyToOne(Owner).nullable(),
    },
    filters: {
      alive: { name: 'alive', cond: { deleted: false }, default: false },
      tenant: { name: 'tenant', cond: ({ owner }: { owner: number }) => ({ owner }), default: false },
    },
  }),
  AlwaysRepo,
);

let db: TestOrm;
let rival: Client;

beforeAll(async () => {
  db = await createTestOrm({ entities: [Owner, Doc] });
  rival = await rivalClient(db.url);
});
beforeEach(async () => {
  await rival.query('truncate owner, doc');
  await rival.query(`insert into owner (id, name) values (1, 'one'), (2, 'two')`);
  await rival.query(`insert into doc (slug, owner_id, deleted) values ('a', 1, false), ('gone', 1, true)`);
  db.statements.take();
});

const repository = () => db.orm.em.fork().getRepository(Doc);

describe('isolation levels above READ COMMITTED', () => {
  it.each([IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE])(
    'let the 40001 of a lost race through unchanged (%s)',
    async (isolationLevel) => {
      const race = db.orm.em.fork().transactional(
        async (em) => {
          await em.execute('select 1 from doc');
          await rival.query(`insert into doc (slug) values ('raced')`);
          await em.getRepository(Doc).getOrCreate({ slug: 'raced' });
        },
        { isolationLevel },
      );
      await expect(race).rejects.toMatchObject({ code: '40001' });
    },
  );

  it('create rows nobody else wants', async () => {
    const isolationLevel = IsolationLevel.SERIALIZABLE;
    const work = (em: TestOrm['orm']['em']) => em.getRepository(Doc).getOrCreate({ slug: 'new' });
    await expect(db.orm.em.fork().transactional(work, { isolationLevel })).resolves.toMatchObject([
      { slug: 'new' },
      true,
    ]);
  });
});

describe('the option', () => {
  it('populate loads relations of found, created and known entities', async () => {
    const [found] = await repository().getOrCreate({ slug: 'a' }, {}, { populate: ['owner'] });
    expect(found.owner).toMatchObject({ id: 1, name: 'one' });
    const em = db.orm.em.fork();
    const [made] = await em.getRepository(Doc).getOrCreate({ slug: 'b' }, { owner: 2 }, { populate: ['owner.docs'] });
    expect(made.owner).toMatchObject({ id: 2, name: 'two' });
    expect(made.owner?.docs.getItems()).toEqual([made]);
    const [updated] = await repository().updateOrCreate({ slug: 'a' }, { owner: 2 }, { populate: ['owner'] });
    expect(updated.owner).toMatchObject({ name: 'two' });
    const many = await repository().getOrCreateMany(
      [{ slug: 'a' }, { slug: 'b' }, { slug: 'c' }],
      { owner: 1 },
      { populate: true },
    );
    expect(many.map(([{ owner }]) => owner?.name)).toEqual(['two', 'two', 'one']);
  });

  it('lockMode locks the row that is found, and creates a missing one', async () => {
    const lock = () => rival.query(`select 1 from doc where slug = 'a' for update nowait`);
    await db.orm.em.fork().transactional(async (em) => {
      const options = { lockMode: LockMode.PESSIMISTIC_WRITE };
      await em.getRepository(Doc).getOrCreate({ slug: 'a' }, {}, options);
      await expect(lock()).rejects.toMatchObject({ code: '55P03' });
      await expect(em.getRepository(Doc).getOrCreate({ slug: 'new' }, {}, options)).resolves.toMatchObject([{}, true]);
    });
    await expect(lock()).resolves.toBeDefined();
  });

  it('lockMode locks a row that is in the identity map already', async () => {
    await db.orm.em.fork().transactional(async (em) => {
      await em.getRepository(Doc).getOrCreate({ slug: 'a' });
      await em.getRepository(Doc).getOrCreate({ slug: 'a' }, {}, { lockMode: LockMode.PESSIMISTIC_WRITE });
      const lock = rival.query(`select 1 from doc where slug = 'a' for update nowait`);
      await expect(lock).rejects.toMatchObject({ code: '55P03' });
    });
  });

  it('refresh reads again, and overwrites unflushed changes as MikroORM’s own does', async () => {
    const em = db.orm.em.fork();
    const [doc] = await em.getRepository(Doc).getOrCreate({ slug: 'a' });
    doc.title = 'unflushed';
    await rival.query(`update doc set title = 'changed' where slug = 'a'`);
    await expect(em.getRepository(Doc).getOrCreate({ slug: 'a' })).resolves.toMatchObject([
      { title: 'unflushed' },
      false,
    ]);
    const [same] = await em.getRepository(Doc).getOrCreate({ slug: 'a' }, {}, { refresh: true });
    expect(same).toBe(doc);
    expect(doc.title).toBe('changed');
    db.statements.take();
    await em.flush();
    expect(db.statements.take()).toEqual([]);
  });

  it('filters applies filters: a row they hide is not found, and its creation is the unique violation', async () => {
    const filters = { alive: true };
    await expect(repository().getOrCreate({ slug: 'a' }, {}, { filters })).resolves.toMatchObject([
      { slug: 'a' },
      false,
    ]);
    await expect(repository().getOrCreate({ slug: 'b' }, {}, { filters })).resolves.toMatchObject([
      { slug: 'b' },
      true,
    ]);
    await expect(repository().getOrCreate({ slug: 'gone' }, {}, { filters })).rejects.toMatchObject({
      name: 'UniqueConstraintViolationException',
    });
    await expect(repository().getOrCreate({ slug: 'gone' })).resolves.toMatchObject([{ deleted: true }, false]);
  });

  it('filters applies to rows that are in the identity map too', async () => {
    const em = db.orm.em.fork();
    await em.getRepository(Doc).getOrCreate({ slug: 'gone' });
    const hidden = em.getRepository(Doc).getOrCreate({ slug: 'gone' }, {}, { filters: { alive: true } });
    await expect(hidden).rejects.toMatchObject({ name: 'UniqueConstraintViolationException' });
  });

  it('filters with parameters applies, and false switches those of the EntityManager off', async () => {
    const em = db.orm.em.fork();
    em.setFilterParams('tenant', { owner: 2 });
    const filters = { tenant: true };
    await expect(em.getRepository(Doc).getOrCreate({ slug: 'a' }, {}, { filters })).rejects.toThrow(/duplicate key/);
    const scoped = db.orm.em.fork();
    scoped.addFilter({ name: 'none', cond: { title: 'no such' }, entity: [Doc] });
    await expect(scoped.getRepository(Doc).getOrCreate({ slug: 'a' })).rejects.toThrow(/duplicate key/);
    const off = scoped.getRepository(Doc).getOrCreate({ slug: 'a' }, {}, { filters: false });
    await expect(off).resolves.toMatchObject([{ slug: 'a' }, false]);
  });

  it('lookup takes a full query for the get half only', async () => {
    const lookup = { slug: { $in: ['a', 'x'] }, deleted: false };
    await expect(repository().getOrCreate({ slug: 'x' }, {}, { lookup })).resolves.toMatchObject([
      { slug: 'a' },
      false,
    ]);
    const other = { slug: { $in: ['y', 'x'] } };
    await expect(repository().getOrCreate({ slug: 'x' }, {}, { lookup: other })).resolves.toMatchObject([
      { slug: 'x' },
      true,
    ]);
  });

  it('lookup sends nothing that the caller has not flushed', async () => {
    const em = db.orm.em.fork();
    em.create(Doc, { slug: 'pending' });
    db.statements.take();
    await em.getRepository(Doc).getOrCreate({ slug: 'x' }, {}, { lookup: { title: 'none' } });
    expect(kinds(db.statements.take())).toEqual(['select', 'insert']);
  });

  it('signal stops a call before it sends anything, when it is aborted already', async () => {
    const signal = AbortSignal.abort(new Error('stop'));
    await expect(repository().getOrCreate({ slug: 'x' }, {}, { signal })).rejects.toThrow('stop');
    await expect(repository().updateOrCreate({ slug: 'x' }, {}, { signal })).rejects.toThrow('stop');
    await expect(repository().getOrCreateMany([{ slug: 'x' }], {}, { signal })).rejects.toThrow('stop');
    expect(db.statements.take()).toEqual([]);
  });

  it('signal stops a call that waits for another writer, and stores nothing', async () => {
    await rival.query('begin');
    await rival.query(`insert into doc (slug) values ('held')`);
    const controller = new AbortController();
    const options = { signal: controller.signal, inflightQueryAbortStrategy: 'cancel query' } as const;
    const waiting = repository().getOrCreate({ slug: 'held' }, {}, options);
    const stopped = waiting.catch((error: unknown) => error);
    await untilBlocked(rival, 1);
    // where Kysely tells of the canceled query
    const said = jest.spyOn(console, 'error').mockImplementation(() => undefined);
    controller.abort(new Error('stop'));
    expect(await stopped).toMatchObject({ message: 'stop' });
    await untilBlocked(rival, 0);
    while (said.mock.calls.length === 0) await new Promise((resolve) => setImmediate(resolve));
    said.mockRestore();
    await rival.query('rollback');
    await expect(db.orm.em.fork().count(Doc, { slug: 'held' })).resolves.toBe(0);
  });
});

describe('get and findOneOrFail of an AlwaysRepo', () => {
  it('create what is missing, but not as a read for write', async () => {
    await expect(repository().get({ slug: 'x' })).resolves.toMatchObject({ slug: 'x' });
    await expect(repository().findOneOrFail({ slug: 'y' })).resolves.toMatchObject({ slug: 'y' });
    const options = { lockMode: LockMode.PESSIMISTIC_WRITE } as const;
    await db.orm.em.fork().transactional(async (em) => {
      await expect(em.getRepository(Doc).get({ slug: 'z' }, options)).rejects.toThrow(/not found/);
      await expect(em.getRepository(Doc).findOneOrFail({ slug: 'z' }, options)).rejects.toThrow(/not found/);
    });
    await expect(repository().findOneOrFail({ slug: { $like: 'no%' } })).rejects.toThrow(/not found/);
    await expect(repository().findOneOrFail({ title: 'none' })).rejects.toThrow(/not found/);
    await expect(db.orm.em.fork().count(Doc)).resolves.toBe(4);
  });
});
