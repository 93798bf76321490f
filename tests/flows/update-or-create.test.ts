import { jest } from '@jest/globals';
import { defineEntity, p, raw, type EventArgs, type EventSubscriber } from '@mikro-orm/postgresql';
import type { Client } from 'pg';
import { GetOrCreateRepo, NonAtomicRepo, withRepo } from '../../src/index.js';
import { createTestOrm, type TestOrm } from '../harness/orm.js';
import { rivalClient } from './rival.js';
import { kinds } from './statements.js';

const Owner = defineEntity({ name: 'Owner', properties: { id: p.integer().primary(), name: p.string() } });

const Doc = withRepo(
  defineEntity({
    name: 'Doc',
    properties: {
      id: p.integer().primary(),
      slug: p.string().unique(),
      title: p.string(),
      count: p.integer().default(0),
      price: p.decimal().precision(10).scale(2).nullable(),
      tags: p.array().nullable(),
      data: p.json<{ a: number }>().nullable(),
      owner: () => p.manyToOne(Owner).nullable(),
      revision: p.integer().version(),
      changedAt: p
        .datetime()
        .onCreate(() => new Date('2020-01-01T00:00:00Z'))
        .onUpdate(() => new Date('2021-01-01T00:00:00Z')),
    },
  }),
  GetOrCreateRepo,
);

const Stamped = withRepo(
  defineEntity({
    name: 'Stamped',
    properties: {
      id: p.integer().primary(),
      name: p.string().unique(),
      weight: p.integer().default(0),
      version: p.datetime().version(),
    },
  }),
  NonAtomicRepo,
);

/** Every event that an upsert or a creation fires, with what its listeners are given. */
class Recorder implements EventSubscriber {
  readonly events: [event: string, entity: object, managed: boolean][] = [];
  change: ((entity: Record<string, unknown>) => void) | undefined;

  take(): [event: string, entity: object, managed: boolean][] {
    return this.events.splice(0);
  }

  #note(event: string, { entity }: EventArgs<object>): void {
    this.events.push([event, { ...entity }, '__helper' in entity]);
  }

  beforeUpsert(args: EventArgs<object>): void {
    this.#note('beforeUpsert', args);
    this.change?.(args.entity as Record<string, unknown>);
  }

  afterUpsert(args: EventArgs<object>): void {
    this.#note('afterUpsert', args);
  }

  beforeCreate(args: EventArgs<object>): void {
    this.#note('beforeCreate', args);
  }

  afterCreate(args: EventArgs<object>): void {
    this.#note('afterCreate', args);
  }

  beforeUpdate(args: EventArgs<object>): void {
    this.#note('beforeUpdate', args);
  }
}

let db: TestOrm;
let rival: Client;
const recorder = new Recorder();

beforeAll(async () => {
  db = await createTestOrm({ entities: [Owner, Doc, Stamped], subscribers: [recorder] });
  rival = await rivalClient(db.url);
});
beforeEach(() => {
  recorder.change = undefined;
  recorder.take();
});

let count = 0;
const newSlug = (): string => `doc-${(count += 1)}`;

async function insertDoc(slug: string): Promise<void> {
  await rival.query(
    `insert into doc (slug, title, count, price, revision, changed_at) values ($1, 'old', 7, 1.5, 3, '2019-01-01')`,
    [slug],
  );
}

async function rowOf(slug: string): Promise<Record<string, unknown>> {
  const { rows } = await rival.query<Record<string, unknown>>('select * from doc where slug = $1', [slug]);
  expect(rows).toHaveLength(1);
  return rows[0]!;
}

describe('updateOrCreate', () => {
  it('changes the given columns, onUpdate values and the version of an existing row, and nothing else', async () => {
    const slug = newSlug();
    await insertDoc(slug);
    const before = await rowOf(slug);
    const [doc, created] = await db.orm.em.fork().getRepository(Doc).updateOrCreate({ slug }, { title: 'new' });
    expect(created).toBe(false);
    expect(await rowOf(slug)).toEqual({
      ...before,
      title: 'new',
      revision: 4,
      changed_at: new Date('2021-01-01T00:00:00Z'),
    });
    expect(doc.revision).toBe(4);
  });

  it('returns what a fresh load returns, for a new row and an existing one', async () => {
    const slug = newSlug();
    const owner = await db.orm.em.fork().upsert(Owner, { id: 1, name: 'o' });
    for (const price of ['12.5', '13']) {
      const em = db.orm.em.fork();
      const values = { title: 't', price, tags: ['a', 'b'], data: { a: 1 }, owner: owner.id };
      const [doc] = await em.getRepository(Doc).updateOrCreate({ slug }, values);
      expect(doc.price).toBe(price === '13' ? '13.00' : '12.50');
      const fresh = await db.orm.em.fork().findOneOrFail(Doc, { slug });
      expect(JSON.stringify(doc)).toBe(JSON.stringify(fresh));
      db.statements.take();
      await em.flush();
      expect(db.statements.take()).toEqual([]);
    }
  });

  it('overwrites the written properties of a managed entity, keeps other unflushed changes pending, and flushes them later', async () => {
    const slug = newSlug();
    await insertDoc(slug);
    const em = db.orm.em.fork();
    const doc = await em.findOneOrFail(Doc, { slug });
    doc.title = 'unflushed title';
    doc.price = '99.00';
    await rival.query(`update doc set count = 8, tags = '{x}' where slug = $1`, [slug]);
    const [same] = await em.getRepository(Doc).updateOrCreate({ slug }, { title: 'written' });
    expect(same).toBe(doc);
    expect(doc).toMatchObject({ title: 'written', price: '99.00', count: 8, tags: ['x'] });
    expect(await rowOf(slug)).toMatchObject({ title: 'written', price: '1.50' });
    await em.flush();
    expect(await rowOf(slug)).toMatchObject({ title: 'written', price: '99.00', count: 8 });
  });

  it('leaves other entities of the unit of work pending', async () => {
    const em = db.orm.em.fork();
    const [other] = await em.getRepository(Doc).updateOrCreate({ slug: newSlug() }, { title: 'other' });
    other.title = 'dirty';
    const pending = em.create(Doc, { slug: newSlug(), title: 'pending' });
    db.statements.take();
    await em.getRepository(Doc).updateOrCreate({ slug: newSlug() }, { title: 't' });
    expect(kinds(db.statements.take())).toEqual(['upsert']);
    expect(em.getUnitOfWork().getPersistStack().has(pending)).toBe(true);
    await em.flush();
    expect(await rowOf(other.slug)).toMatchObject({ title: 'dirty' });
    expect(await rowOf(pending.slug)).toMatchObject({ title: 'pending' });
  });

  it('renames a row through its values', async () => {
    const [slug, next] = [newSlug(), newSlug()];
    await insertDoc(slug);
    const em = db.orm.em.fork();
    const [doc, created] = await em.getRepository(Doc).updateOrCreate({ slug }, { slug: next });
    expect([doc.slug, created]).toEqual([next, false]);
    expect(await rowOf(next)).toMatchObject({ count: 7 });
    db.statements.take();
    await expect(em.getRepository(Doc).getOrCreate({ slug: next })).resolves.toEqual([doc, false]);
    expect(db.statements.take()).toEqual([]);
    await expect(em.getRepository(Doc).getOrCreate({ slug }, { title: 'another' })).resolves.toMatchObject([
      { slug },
      true,
    ]);
  });

  it('creates the row under its new name when there is none to rename', async () => {
    const [slug, next] = [newSlug(), newSlug()];
    const [doc, created] = await db.orm.em
      .fork()
      .getRepository(Doc)
      .updateOrCreate({ slug }, { slug: next, title: 't' });
    expect([doc.slug, created]).toEqual([next, true]);
    expect((await rival.query('select 1 from doc where slug = $1', [slug])).rowCount).toBe(0);
  });

  it('raises the unique violation of a rename to a taken name', async () => {
    const [slug, taken] = [newSlug(), newSlug()];
    await insertDoc(slug);
    await insertDoc(taken);
    const update = (where: string) =>
      db.orm.em.fork().getRepository(Doc).updateOrCreate({ slug: where }, { slug: taken, title: 'x' });
    await expect(update(slug)).rejects.toMatchObject({ name: 'UniqueConstraintViolationException' });
    await expect(update(newSlug())).rejects.toMatchObject({ name: 'UniqueConstraintViolationException' });
    expect(await rowOf(taken)).toMatchObject({ title: 'old' });
  });

  it('applies SQL among the values to an existing row', async () => {
    const slug = newSlug();
    await insertDoc(slug);
    const [doc] = await db.orm.em
      .fork()
      .getRepository(Doc)
      .updateOrCreate({ slug }, { count: raw('count + 1') });
    expect(doc.count).toBe(8);
  });

  it('calls functions of createDefaults only for a new row, and those of values always', async () => {
    const slug = newSlug();
    await insertDoc(slug);
    const title = jest.fn(async () => 'created');
    const value = jest.fn(() => 5);
    const repository = db.orm.em.fork().getRepository(Doc);
    const [doc] = await repository.updateOrCreate({ slug }, { count: value }, { createDefaults: { title } });
    expect([title.mock.calls.length, value.mock.calls.length, doc.count]).toEqual([0, 1, 5]);
    const [made] = await repository.updateOrCreate(
      { slug: newSlug() },
      { count: value },
      { createDefaults: { title } },
    );
    expect([title.mock.calls.length, made.title, made.count]).toEqual([1, 'created', 0]);
  });

  it('takes only what changes for an existing row, though a new one would need more', async () => {
    const slug = newSlug();
    await insertDoc(slug);
    const repository = db.orm.em.fork().getRepository(Doc);
    await expect(repository.updateOrCreate({ slug }, { count: 1 })).resolves.toMatchObject([{ title: 'old' }, false]);
    await expect(repository.updateOrCreate({ slug: newSlug() }, { count: 1 })).rejects.toMatchObject({
      name: 'ValidationError',
    });
  });

  it('keeps the row locked until the transaction of the caller ends', async () => {
    const slug = newSlug();
    await insertDoc(slug);
    const lock = () => rival.query('select 1 from doc where slug = $1 for update nowait', [slug]);
    await db.orm.em.fork().transactional(async (em) => {
      await em.getRepository(Doc).updateOrCreate({ slug }, {});
      await expect(lock()).rejects.toMatchObject({ code: '55P03' });
    });
    await expect(lock()).resolves.toMatchObject({ rowCount: 1 });
  });

  it('moves a version column of dates on', async () => {
    const repository = () => db.orm.em.fork().getRepository(Stamped);
    const [first] = await repository().updateOrCreate({ name: 'a' }, { weight: 1 });
    const [second] = await repository().updateOrCreate({ name: 'a' }, { weight: 2 });
    expect(second.version.getTime()).toBeGreaterThan(first.version.getTime());
    const em = db.orm.em.fork();
    const [third] = await em.getRepository(Stamped).updateOrCreate({ name: 'a' }, { weight: 3 });
    third.weight = 4;
    await em.flush();
    await expect(repository().getOrCreate({ name: 'a' })).resolves.toMatchObject([{ weight: 4 }, false]);
  });

  it('lets the returned entity be flushed under its version', async () => {
    const em = db.orm.em.fork();
    const [doc] = await em.getRepository(Doc).updateOrCreate({ slug: newSlug() }, { title: 'a' });
    await em.getRepository(Doc).updateOrCreate({ slug: doc.slug }, { title: 'b' });
    doc.title = 'c';
    await em.flush();
    expect(await rowOf(doc.slug)).toMatchObject({ title: 'c', revision: 3 });
  });
});

describe('the events of updateOrCreate', () => {
  it('are those of em.upsert, with the same kind of arguments, for a new row and an existing one', async () => {
    const [slug, other] = [newSlug(), newSlug()];
    for (const title of ['new', 'changed']) {
      await db.orm.em.fork().getRepository(Doc).updateOrCreate({ slug }, { title });
      const own = recorder.take();
      await db.orm.em.fork().upsert(Doc, { slug: other, title }, { onConflictFields: ['slug'] });
      const host = recorder.take();
      expect(own.map(([event, , managed]) => [event, managed])).toEqual(
        host.map(([event, , managed]) => [event, managed]),
      );
      expect(own.map(([event]) => event)).toEqual(['beforeUpsert', 'afterUpsert']);
      expect(own[0]![1]).toEqual({ slug, title });
      expect(host[0]![1]).toMatchObject({ slug: other, title });
      expect(own[1]![1]).toMatchObject({ slug, title });
    }
  });

  it('let a listener of beforeUpsert change the values, as in em.upsert', async () => {
    const slug = newSlug();
    recorder.change = (entity) => {
      entity['title'] = 'from the listener';
    };
    const [doc] = await db.orm.em.fork().getRepository(Doc).updateOrCreate({ slug }, { count: 3 });
    expect(doc).toMatchObject({ slug, title: 'from the listener', count: 3 });
    expect(await rowOf(slug)).toMatchObject({ title: 'from the listener' });
  });
});

describe('updateOrCreateMany', () => {
  it('answers in the order of the items; a row named twice is one entity, created once, and the last values win', async () => {
    const [a, b] = [newSlug(), newSlug()];
    const repository = db.orm.em.fork().getRepository(Doc);
    const results = await repository.updateOrCreateMany([
      { where: { slug: b }, values: { title: 'b1' } },
      { where: { slug: a }, values: { title: 'a' } },
      { where: { slug: b }, values: { title: 'b2', count: 4 } },
    ]);
    expect(results.map(([{ slug }, created]) => [slug, created])).toEqual([
      [b, true],
      [a, true],
      [b, false],
    ]);
    expect(results[0]![0]).toBe(results[2]![0]);
    expect(await rowOf(b)).toMatchObject({ title: 'b2', count: 4 });
  });

  it('takes items with different property sets in where and values, for new and existing rows', async () => {
    const slugs = Array.from({ length: 6 }, newSlug);
    await insertDoc(slugs[0]!);
    await insertDoc(slugs[1]!);
    await insertDoc(slugs[2]!);
    const { id } = (await rowOf(slugs[2]!)) as { id: number };
    const repository = db.orm.em.fork().getRepository(Doc);
    db.statements.take();
    const results = await repository.updateOrCreateMany([
      { where: { slug: slugs[0]! }, values: { title: 'x' } },
      { where: { slug: slugs[1]!, count: 7 }, values: { count: 70 }, createDefaults: { title: 'never' } },
      { where: { id }, values: { price: '3' }, createDefaults: { slug: 'never', title: 'never' } },
      { where: { slug: slugs[3]! }, values: { title: 'y', count: 1 } },
      { where: { slug: slugs[4]! }, values: { title: 'z' }, createDefaults: { title: 'zz', count: 9 } },
      { where: { slug: slugs[5]!, count: 6 }, values: { title: 'q', price: null } },
    ]);
    expect(kinds(db.statements.take())).toEqual(['select', 'select', 'select', 'upsert']);
    expect(results.map(([{ slug, title, count: n, price }, created]) => [slug, title, n, price, created])).toEqual([
      [slugs[0], 'x', 7, '1.50', false],
      [slugs[1], 'old', 70, '1.50', false],
      [slugs[2], 'old', 7, '3.00', false],
      [slugs[3], 'y', 1, null, true],
      [slugs[4], 'zz', 9, null, true],
      [slugs[5], 'q', 6, null, true],
    ]);
    for (const slug of slugs) {
      const fresh = await db.orm.em.fork().findOneOrFail(Doc, { slug });
      const [entity] = results.find(([doc]) => doc.slug === slug)!;
      expect(JSON.stringify(entity)).toBe(JSON.stringify(fresh));
    }
  });

  it('stores nothing of a batch of which one item fails', async () => {
    const [a, b] = [newSlug(), newSlug()];
    const repository = db.orm.em.fork().getRepository(Doc);
    const batch = repository.updateOrCreateMany([
      { where: { slug: a }, values: { title: 'a' } },
      { where: { slug: b }, values: { title: 'b', owner: 999_999 } },
    ]);
    await expect(batch).rejects.toMatchObject({ name: 'ForeignKeyConstraintViolationException' });
    expect((await rival.query('select 1 from doc where slug = any($1)', [[a, b]])).rowCount).toBe(0);
  });
});
