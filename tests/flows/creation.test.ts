import {
  Collection,
  defineEntity,
  p,
  type Constructor,
  type EventArgs,
  type EventSubscriber,
  type InferEntity,
} from '@mikro-orm/postgresql';
import type { Client } from 'pg';
import { GetOrCreateRepo, withRepo } from '../../src/index.js';
import { createTestOrm, type TestOrm } from '../harness/orm.js';
import { rivalClient } from './rival.js';
import { kinds } from './statements.js';

const Author = defineEntity({
  name: 'Author',
  properties: {
    id: p.integer().primary(),
    name: p.string(),
    country: p.string().nullable(),
    books: () => p.oneToMany(Book).mappedBy('author'),
    best: () => p.oneToOne(Book).mappedBy('bestOf').nullable(),
  },
});

const calls: string[] = [];

const BookSchema = defineEntity({
  name: 'Book',
  properties: {
    id: p.integer().primary(),
    title: p.string().unique(),
    author: () => p.manyToOne(Author),
    bestOf: () => p.oneToOne(Author).inversedBy('best').nullable(),
    /** From the constructor. */
    line: p.string().nullable(),
    /** From onCreate, which reads the related entity. */
    label: p
      .string()
      .nullable()
      .onCreate((book) => `label ${(book as { author: { name: string } }).author.name}`),
    /** From beforeCreate. */
    origin: p.string().nullable(),
    copies: p.integer().default(5),
    madeAt: p.datetime().defaultRaw('now()'),
    note: p.string().persist(false).nullable(),
    tags: () => p.manyToMany(Topic),
  },
});

const Topic = defineEntity({ name: 'Topic', properties: { id: p.integer().primary(), name: p.string() } });

class BookClass extends (BookSchema.class as Constructor<InferEntity<typeof BookSchema>>) {
  constructor(data: { title: string; author: { name: string } }) {
    super();
    calls.push('constructor');
    this.line = `${data.title} by ${data.author.name}`;
  }
}
BookSchema.setClass(BookClass);
BookSchema.addHook('beforeCreate', ({ entity }) => {
  calls.push('beforeCreate hook');
  const book = entity;
  book.origin = book.author.country ?? 'nowhere';
  book.note = 'from the hook';
});
BookSchema.addHook('afterCreate', () => {
  calls.push('afterCreate hook');
});
BookSchema.addHook('onLoad', () => {
  calls.push('onLoad hook');
});
const Book = withRepo(BookSchema, GetOrCreateRepo);
type Book = InferEntity<typeof BookSchema>;

class Subscriber implements EventSubscriber {
  readonly ids: unknown[] = [];

  async beforeCreate({ entity, changeSet }: EventArgs<object>): Promise<void> {
    calls.push(`beforeCreate subscriber ${changeSet?.type}`);
    (entity as Book).copies += 1;
  }

  afterCreate({ entity, changeSet }: EventArgs<object>): void {
    calls.push(`afterCreate subscriber ${changeSet?.type}`);
    this.ids.push((entity as Book).id);
  }
}

let db: TestOrm;
let rival: Client;
const subscriber = new Subscriber();

beforeAll(async () => {
  db = await createTestOrm({ entities: [Author, Book, Topic], subscribers: [subscriber] });
  rival = await rivalClient(db.url);
});
beforeEach(async () => {
  await rival.query('truncate author, book, topic, book_tags');
  await rival.query(`insert into author (id, name, country) values (1, 'Ada', 'UK') on conflict do nothing`);
  db.statements.take();
  calls.length = 0;
});

describe('the creation of a row', () => {
  it.each([
    [
      'getOrCreate',
      (em: TestOrm['orm']['em'], author: never) => em.getRepository(Book).getOrCreate({ title: 't', author }),
    ],
    [
      'getOrCreateMany',
      async (em: TestOrm['orm']['em'], author: never) =>
        (await em.getRepository(Book).getOrCreateMany([{ title: 't', author }]))[0]!,
    ],
  ])(
    'runs constructor, defaults, onCreate, hooks and subscribers, which may read a managed relation (%s)',
    async (_name, create) => {
      const em = db.orm.em.fork();
      const author = await em.findOneOrFail(Author, 1);
      const [book, created] = await create(em, author as never);
      expect(created).toBe(true);
      expect(calls.filter((call) => call !== 'constructor')).toEqual([
        'beforeCreate hook',
        'beforeCreate subscriber create',
        'afterCreate hook',
        'afterCreate subscriber create',
      ]);
      expect(book).toMatchObject({
        line: 't by Ada',
        label: 'label Ada',
        origin: 'UK',
        copies: 6,
        note: 'from the hook',
      });
      expect(book.madeAt).toBeInstanceOf(Date);
      expect(subscriber.ids.at(-1)).toBe(book.id);
      expect(book.author).toBe(author);
      const { rows } = await rival.query('select title, author_id, line, label, origin, copies from book');
      expect(rows).toEqual([
        { title: 't', author_id: 1, line: 't by Ada', label: 'label Ada', origin: 'UK', copies: 6 },
      ]);
      db.statements.take();
      await em.flush();
      expect(db.statements.take()).toEqual([]);
    },
  );

  it('runs nothing of it for an existing row, but onLoad', async () => {
    await rival.query(`insert into book (title, author_id) values ('t', 1)`);
    const em = db.orm.em.fork();
    const [, created] = await em.getRepository(Book).getOrCreate({ title: 't' }, { author: 1 as never });
    expect(created).toBe(false);
    expect(calls).toEqual(['onLoad hook']);
  });

  it('gives the same entity as em.create and a flush', async () => {
    const em = db.orm.em.fork();
    const author = await em.findOneOrFail(Author, 1);
    const [book] = await em.getRepository(Book).getOrCreate({ title: 'own', author });
    const own = calls.splice(0);
    const other = em.create(Book, { title: 'host', author } as never) as unknown as Book;
    await em.flush();
    expect(new Set(calls)).toEqual(new Set(own));
    const shape = (entity: Book) => {
      const plain = JSON.parse(JSON.stringify(entity)) as Record<string, unknown>;
      // a flush leaves properties that nobody set unset; the row that was read has null
      const set = Object.entries({ ...plain, id: 0, madeAt: '', title: '', line: '' }).filter(
        ([, value]) => value !== null,
      );
      return Object.fromEntries(set);
    };
    expect(shape(book)).toEqual(shape(other));
  });

  it('leaves dirty and pending entities of the unit of work as they are', async () => {
    const em = db.orm.em.fork();
    const author = await em.findOneOrFail(Author, 1);
    author.name = 'Ada L.';
    const pending = em.create(Author, { id: 2, name: 'pending' });
    const removed = em.create(Topic, { name: 'x' }, { persist: false });
    db.statements.take();
    await em.getRepository(Book).getOrCreate({ title: 't' }, { author: 1 as never });
    expect(kinds(db.statements.take())).toEqual(['select', 'insert']);
    expect(em.getUnitOfWork().getPersistStack().has(pending)).toBe(true);
    expect(em.getUnitOfWork().getPersistStack().has(removed)).toBe(false);
    await em.flush();
    const { rows } = await rival.query('select name from author order by name');
    expect(rows).toEqual([{ name: 'Ada L.' }, { name: 'pending' }]);
  });

  it('leaves the collections of the new entity initialized and empty', async () => {
    const [book] = await db.orm.em.fork().getRepository(Book).getOrCreate({ title: 't', author: 1 });
    expect(book.tags).toBeInstanceOf(Collection);
    expect(book.tags.isInitialized()).toBe(true);
    expect(book.tags.isDirty()).toBe(false);
    expect(book.tags.count()).toBe(0);
  });

  it('shows nothing of an M:N relation that only its other side declares', async () => {
    const Label = withRepo(
      defineEntity({ name: 'Label', properties: { id: p.integer().primary(), name: p.string().unique() } }),
      GetOrCreateRepo,
    );
    const Thing = defineEntity({
      name: 'Thing',
      properties: { id: p.integer().primary(), labels: () => p.manyToMany(Label).owner() },
    });
    await using own = await createTestOrm({ entities: [Label, Thing] });
    const em = own.orm.em.fork();
    const [label] = await em.getRepository(Label).getOrCreate({ name: 'new' });
    expect(JSON.parse(JSON.stringify(label))).toEqual({ id: label.id, name: 'new' });
    const thing = em.create(Thing, { labels: [label] });
    await em.flush();
    await expect(own.orm.em.fork().count(Thing, { id: thing.id, labels: label })).resolves.toBe(1);
  });

  it('lets items be added to a collection of the new entity, and flushed', async () => {
    const em = db.orm.em.fork();
    const [book] = await em.getRepository(Book).getOrCreate({ title: 't', author: 1 });
    book.tags.add(em.create(Topic, { name: 'x' }));
    await em.flush();
    expect((await rival.query('select 1 from book_tags')).rowCount).toBe(1);
  });
});

describe('a lost race', () => {
  const winner = `insert into book (title, author_id, copies) values ('t', 1, 77)`;

  it('leaves no phantom in the caller’s loaded collections and inverse sides', async () => {
    const em = db.orm.em.fork();
    const author = await em.findOneOrFail(Author, 1, { populate: ['books', 'best'] });
    db.statements.take();
    const defaults = {
      author,
      bestOf: author,
      copies: async () => {
        await rival.query(winner);
        return 1;
      },
    };
    const [book, created] = await em.getRepository(Book).getOrCreate({ title: 't' }, defaults);
    expect([book.copies, created]).toEqual([77, false]);
    expect(author.books.getItems().filter((item) => (item as object) !== book)).toEqual([]);
    expect(author.best).toBeNull();
    db.statements.take();
    await em.flush();
    expect(db.statements.take()).toEqual([]);
    expect((await rival.query('select 1 from book')).rowCount).toBe(1);
  });

  it('fires no afterCreate', async () => {
    const em = db.orm.em.fork();
    const copies = async () => {
      await rival.query(winner);
      return 1;
    };
    await em.getRepository(Book).getOrCreate({ title: 't' }, { author: 1 as never, copies });
    expect(calls.filter((call) => call.startsWith('afterCreate'))).toEqual([]);
  });
});

describe('a failed creation', () => {
  it('leaves no phantom in the caller’s loaded collections', async () => {
    const em = db.orm.em.fork();
    const author = await em.findOneOrFail(Author, 1, { populate: ['books'] });
    const failing = em.getRepository(Book).getOrCreate({ title: 't' }, { author, copies: 2 ** 40 });
    await expect(failing).rejects.toThrow(/out of range/);
    expect(author.books.getItems()).toEqual([]);
    db.statements.take();
    await em.flush();
    expect(db.statements.take()).toEqual([]);
  });
});
