import { defineEntity, p } from '@mikro-orm/postgresql';
import type { Client } from 'pg';
import { ConfigurationError, GetOrCreateRepo, LookupError, NonAtomicRepo, withRepo } from '../../src/index.js';
import { createTestOrm, type TestOrm } from '../harness/orm.js';
import { rivalClient } from './rival.js';
import { kinds } from './statements.js';

const Thing = withRepo(
  defineEntity({
    name: 'Thing',
    properties: {
      id: p.integer().primary(),
      name: p.string().unique(),
      parts: () => p.oneToMany(Part).mappedBy('thing'),
      tags: () => p.manyToMany(Tag).owner(),
      labels: () => p.manyToMany(Label).owner(),
    },
  }),
  GetOrCreateRepo,
);

const Part = withRepo(
  defineEntity({
    name: 'Part',
    properties: {
      id: p.integer().primary(),
      name: p.string(),
      weight: p.integer().default(0),
      thing: () => p.manyToOne(Thing),
    },
    uniques: [{ properties: ['thing', 'name'] }],
  }),
  GetOrCreateRepo,
);

const Tag = withRepo(
  defineEntity({
    name: 'Tag',
    properties: {
      id: p.integer().primary(),
      name: p.string().unique(),
      weight: p.integer().default(0),
      things: () => p.manyToMany(Thing).mappedBy('tags'),
    },
  }),
  GetOrCreateRepo,
);

const Label = withRepo(
  defineEntity({ name: 'Label', properties: { id: p.integer().primary(), name: p.string().unique() } }),
  NonAtomicRepo,
);

let db: TestOrm;
let rival: Client;

beforeAll(async () => {
  db = await createTestOrm({ entities: [Thing, Part, Tag, Label] });
  rival = await rivalClient(db.url);
});
beforeEach(async () => {
  await rival.query('truncate thing, part, tag, label, thing_tags, thing_labels');
  await rival.query(`insert into thing (id, name) values (-1, 'one'), (-2, 'two')`);
});

async function open() {
  const em = db.orm.em.fork();
  const thing = await em.findOneOrFail(Thing, -1);
  const other = await em.findOneOrFail(Thing, -2);
  db.statements.take();
  return { em, thing, other };
}

async function expectClean(em: TestOrm['orm']['em']): Promise<void> {
  db.statements.take();
  await em.flush();
  expect(db.statements.take()).toEqual([]);
}

describe('related() of a 1:M collection', () => {
  it('creates items with the owner, finds them again, and keeps owners apart', async () => {
    const { em, thing, other } = await open();
    const parts = em.getRepository(Part).related(thing.parts);
    const [part, created] = await parts.getOrCreate({ name: 'p' }, { weight: 2 });
    expect([part.thing, part.weight, created]).toEqual([thing, 2, true]);
    expect(kinds(db.statements.take())).toEqual(['select', 'insert']);
    await expect(parts.getOrCreate({ name: 'p' })).resolves.toEqual([part, false]);
    const [elsewhere, createdToo] = await em.getRepository(Part).related(other.parts).getOrCreate({ name: 'p' });
    expect([elsewhere.thing, createdToo]).toEqual([other, true]);
    const [same, createdAgain] = await parts.updateOrCreate({ name: 'p' }, { weight: 3 });
    expect([same, same.weight, createdAgain]).toEqual([part, 3, false]);
    await expectClean(em);
    const { rows } = await rival.query('select thing_id, name, weight from part order by thing_id desc');
    expect(rows).toEqual([
      { thing_id: -1, name: 'p', weight: 3 },
      { thing_id: -2, name: 'p', weight: 0 },
    ]);
  });

  it('shows the item in a loaded collection once, and leaves an unloaded one unloaded', async () => {
    const { em, thing, other } = await open();
    await thing.parts.init();
    const parts = em.getRepository(Part).related(thing.parts);
    const [part] = await parts.getOrCreate({ name: 'p' });
    await parts.getOrCreate({ name: 'p' });
    expect(thing.parts.getItems()).toEqual([part]);
    await em.getRepository(Part).related(other.parts).getOrCreate({ name: 'q' });
    expect(other.parts.isInitialized()).toBe(false);
    await expectClean(em);
  });
});

describe('related() of an M:N collection', () => {
  it.each([
    ['loaded', true],
    ['unloaded', false],
  ])(
    'creates and links an item in one transaction, links it once, and leaves nothing to flush (%s)',
    async (_state, loaded) => {
      const { em, thing } = await open();
      if (loaded) await thing.tags.init();
      db.statements.take();
      const tags = em.getRepository(Tag).related(thing.tags);
      const [tag, created] = await tags.getOrCreate({ name: 't' }, { weight: 4 });
      expect([tag.weight, created]).toEqual([4, true]);
      expect(kinds(db.statements.take())).toEqual(['begin', 'select', 'insert', 'insert', 'commit']);
      await expect(tags.getOrCreate({ name: 't' })).resolves.toEqual([tag, false]);
      await expect(tags.updateOrCreate({ name: 't' }, { weight: 5 })).resolves.toMatchObject([{ weight: 5 }, false]);
      expect((await rival.query('select thing_id, tag_id from thing_tags')).rows).toEqual([
        { thing_id: -1, tag_id: tag.id },
      ]);
      expect(thing.tags.isInitialized()).toBe(loaded);
      expect(thing.tags.getItems(false)).toEqual(loaded ? [tag] : []);
      await expectClean(em);
      await thing.tags.init();
      expect(thing.tags.getItems()).toEqual([tag]);
    },
  );

  it('links from the inverse side too', async () => {
    const em = db.orm.em.fork();
    const tag = em.create(Tag, { name: 't' });
    await em.flush();
    const things = em.getRepository(Thing).related(tag.things);
    const [thing, created] = await things.getOrCreate({ name: 'three' });
    expect(created).toBe(true);
    await things.getOrCreate({ name: 'three' });
    expect((await rival.query('select thing_id, tag_id from thing_tags')).rows).toEqual([
      { thing_id: thing.id, tag_id: tag.id },
    ]);
    await tag.things.init();
    expect(tag.things.getItems()).toEqual([thing]);
    await expectClean(em);
  });

  it('undoes the item when the link fails', async () => {
    const { em, thing } = await open();
    await rival.query('delete from thing where id = -1');
    await expect(em.getRepository(Tag).related(thing.tags).getOrCreate({ name: 't' })).rejects.toMatchObject({
      name: 'ForeignKeyConstraintViolationException',
    });
    expect((await rival.query('select 1 from tag')).rowCount).toBe(0);
  });

  it('joins the transaction of the caller, and opens none of its own in a non-atomic class', async () => {
    await db.orm.em.fork().transactional(async (em) => {
      const thing = await em.findOneOrFail(Thing, -1);
      db.statements.take();
      await em.getRepository(Label).related(thing.labels).getOrCreate({ name: 'l' });
      expect(kinds(db.statements.take())).toEqual(['select', 'insert', 'insert']);
      await em.getRepository(Tag).related(thing.tags).getOrCreate({ name: 't' });
      expect(kinds(db.statements.take())).toEqual(['savepoint', 'select', 'insert', 'insert', 'release']);
    });
    const { em, thing } = await open();
    await em.getRepository(Label).related(thing.labels).getOrCreate({ name: 'm' });
    expect(kinds(db.statements.take())).toEqual(['select', 'insert', 'insert']);
    expect((await rival.query('select 1 from thing_labels')).rowCount).toBe(2);
  });

  it('keeps unflushed changes of the collection', async () => {
    const { em, thing } = await open();
    await thing.tags.init();
    const added = em.create(Tag, { name: 'added' });
    thing.tags.add(added);
    const [tag] = await em.getRepository(Tag).related(thing.tags).getOrCreate({ name: 't' });
    await em.flush();
    const { rows } = await rival.query('select tag_id from thing_tags order by tag_id');
    expect(rows).toEqual(
      [{ tag_id: tag.id }, { tag_id: added.id }].toSorted((left, right) => left.tag_id - right.tag_id),
    );
  });

  it('links once in a race of eight connections', async () => {
    const results = await Promise.all(
      Array.from({ length: 8 }, async () => {
        const em = db.orm.em.fork();
        const thing = await em.findOneOrFail(Thing, -1);
        return em.getRepository(Tag).related(thing.tags).getOrCreate({ name: 't' });
      }),
    );
    expect(results.filter(([, created]) => created)).toHaveLength(1);
    expect((await rival.query('select 1 from thing_tags')).rowCount).toBe(1);
  });
});

describe('related() of what it can’t serve', () => {
  it('is refused', async () => {
    const { em, thing } = await open();
    expect(() => em.getRepository(Tag).related(thing.parts as never)).toThrow(ConfigurationError);
    expect(() => em.getRepository(Tag).related(thing as never)).toThrow(ConfigurationError);
    const fresh = em.create(Thing, { name: 'new' }, { persist: false });
    await expect(em.getRepository(Tag).related(fresh.tags).getOrCreate({ name: 't' })).rejects.toThrow(LookupError);
    await expect(em.getRepository(Part).related(fresh.parts).getOrCreate({ name: 'p' })).rejects.toThrow(LookupError);
  });
});
