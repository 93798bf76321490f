import {
  ChangeSetComputer,
  defineEntity,
  p,
  raw,
  TransactionContext,
  TransactionEventBroadcaster,
  Type,
  type EventSubscriber,
  type MikroORM,
  type TransactionEventArgs,
} from '@mikro-orm/postgresql';
import { buildCandidate } from '../../src/orm/candidate.js';
import { buildChanges } from '../../src/orm/changes.js';
import { onOrmClose } from '../../src/orm/close.js';
import { resolveContext, run } from '../../src/orm/context.js';
import { hydrate, hydrateOver, hydrateWritten, primaryKeyValues, storedData } from '../../src/orm/entities.js';
import { nextMoment, noteShown, showsNewer } from '../../src/orm/order.js';
import { isFiltered } from '../../src/orm/filters.js';
import { loadedProps, type Meta } from '../../src/orm/metadata.js';
import { columnsOf, longText, selectList } from '../../src/orm/statement.js';
import { inUnit } from '../../src/orm/unit.js';
import { createTestOrm, type TestOrm } from '../harness/orm.js';

/*
 * What src/orm leans on beyond MikroORM's documented API. A test that fails here after an upgrade of MikroORM says which
 * assumption no longer holds.
 */

class Upper extends Type<string, string> {
  override convertToDatabaseValueSQL(key: string): string {
    return `upper(${key})`;
  }

  override convertToJSValueSQL(key: string): string {
    return `lower(${key})`;
  }

  override getColumnType(): string {
    return 'text';
  }
}

const Owner = defineEntity({
  name: 'Owner',
  properties: { id: p.integer().primary(), name: p.string() },
  filters: { named: { name: 'named', cond: { name: 'x' }, default: false } },
});

const Doc = defineEntity({
  name: 'Doc',
  properties: {
    id: p.integer().primary(),
    slug: p.string().unique(),
    title: p.string(),
    doubled: p
      .integer()
      .formula(
        (columns: Record<string, string>, table: { toString(): string }) =>
          `${table.toString()}.count * 2 + 0 * ${columns['id']}`,
      ),
    count: p.integer().default(1),
    loud: p.type(Upper).nullable(),
    at: p.datetime().nullable(),
    data: p.json<object>().nullable(),
    owner: () => p.manyToOne(Owner).nullable(),
    revision: p.integer().version(),
  },
});

class Transactions implements EventSubscriber {
  readonly events: string[] = [];

  beforeTransactionStart(): void {
    this.events.push('before start');
  }

  afterTransactionStart({ transaction }: TransactionEventArgs): void {
    this.events.push(`after start${(transaction as { savepointName?: string }).savepointName ? ' savepoint' : ''}`);
  }

  afterTransactionCommit(): void {
    this.events.push('after commit');
  }

  afterTransactionRollback(): void {
    this.events.push('after rollback');
  }
}

type Em = MikroORM['em'];

let db: TestOrm;
let meta: Meta;
const transactions = new Transactions();

beforeAll(async () => {
  db = await createTestOrm({ entities: [Owner, Doc], subscribers: [transactions], allowGlobalContext: true });
  meta = db.orm.getMetadata().get(Doc);
});
beforeEach(async () => {
  await db.orm.em.execute('truncate doc, owner');
  db.statements.take();
  transactions.events.length = 0;
});

const idOf = (em: object): number => (em as Record<'_id', number>)['_id'];

const driver = () => db.orm.em.getDriver();

async function rowOf(em: Em, slug: string): Promise<Record<string, unknown>> {
  const sql = `select ${selectList(driver(), meta, undefined)} from "doc" as "t0" where slug = ?`;
  const [row] = await run(em, { sql, params: [slug] });
  return row!;
}

describe('statements', () => {
  it('get formulas with the table they were declared with (private createFormulaTable), and SQL-level conversions', () => {
    expect(selectList(driver(), meta, undefined).split(', ')).toEqual([
      '"t0"."id"',
      '"t0"."slug"',
      '"t0"."title"',
      '"t0".count * 2 + 0 * t0.id as "doubled"',
      '"t0"."count"',
      'lower("t0"."loud") as "loud"',
      '"t0"."at"',
      '"t0"."data" as "data"',
      '"t0"."owner_id"',
      '"t0"."revision"',
    ]);
  });

  it('read what a plain load reads, property by property', async () => {
    const em = db.orm.em.fork();
    await em.findOne(Doc, { slug: 'x' });
    const [statement] = db.statements.take();
    expect(statement).toContain('"d0".*');
    expect(
      loadedProps(meta)
        .map(({ name }) => name)
        .toSorted(),
    ).toEqual(Object.keys(meta.properties).toSorted());
  });

  it('write values as the driver maps them to columns (mapDataToFieldNames)', () => {
    const columns = columnsOf(driver(), meta, { slug: 'a', data: { b: 1 }, owner: 3, loud: 'x', title: undefined });
    expect(columns.map(({ name }) => name)).toEqual(['slug', 'data', 'owner_id', 'loud']);
    const { sql, params } = { sql: columns.map(() => '?').join(', '), params: columns.map(({ value }) => value) };
    expect(driver().getPlatform().formatQuery(sql, params)).toBe(`'a', '{"b":1}', 3, upper('x')`);
  });

  it('take a `\\?` for a question mark, and a `?` for a value', async () => {
    const rows = await run(db.orm.em.fork(), { sql: `select ? as "a\\?", 'x' as b where ? = 1`, params: ['?', 1] });
    expect(rows).toEqual([{ 'a?': '?', b: 'x' }]);
  });

  it('run in the open transaction, are logged with its id, and raise MikroORM’s exceptions', async () => {
    await db.orm.em.fork().transactional(async (em) => {
      await run(em, { sql: 'insert into owner (id, name) values (1, ?)', params: ['o'] });
      expect(await run(em as never, { sql: 'select id from owner', params: [] })).toEqual([{ id: 1 }]);
      expect(await run(db.orm.em.fork(), { sql: 'select id from owner', params: [] })).toEqual([]);
    });
    const failing = run(db.orm.em.fork(), { sql: 'insert into owner (id, name) values (1, null)', params: [] });
    await expect(failing).rejects.toMatchObject({ name: 'NotNullConstraintViolationException' });
  });

  it('honour the abort options of the EntityManager (protected getAbortOptions)', async () => {
    const em = db.orm.em.fork({ signal: AbortSignal.abort(new Error('stop')) });
    expect((em as unknown as { getAbortOptions(): { signal?: AbortSignal } }).getAbortOptions().signal?.aborted).toBe(
      true,
    );
    await expect(run(em, { sql: 'select 1', params: [] })).rejects.toThrow('stop');
  });
});

describe('a long text', () => {
  const signs = ["'", '\\', '"', '?', '??', 'a', '\n', 'é', '{', '$1'];
  const texts = Array.from({ length: 100 }, (_value, index) => `${signs[index % 10]}x${signs[Math.floor(index / 10)]}`);

  it.each(['', 'plain', ...signs, texts.join(''), texts.join(',')])(
    'is quoted as MikroORM’s platform quotes %j',
    (text) => {
      const platform = driver().getPlatform();
      const format = (value: unknown): string => platform.formatQuery('select ? as a, ?', [value, 1]);
      expect(format(longText(text))).toBe(format(text));
    },
  );

  it('comes back as it was', async () => {
    const [row] = await run(db.orm.em, { sql: 'select ?::text as text', params: [longText(texts.join(''))] });
    expect(row).toEqual({ text: texts.join('') });
  });
});

describe('a candidate', () => {
  const build = async (data: Record<string, unknown>) => buildCandidate(db.orm.em.fork(), meta, data, undefined);

  it('holds what a flush would insert, checked as a flush checks it (private processProperties)', async () => {
    await expect(build({ slug: 'a' })).rejects.toMatchObject({ name: 'ValidationError' });
    const { payload, entity } = await build({
      slug: 'a',
      title: 't',
      at: '2024-01-01T00:00:00Z',
      data: { a: 1 },
      owner: 4,
    });
    expect(payload).toEqual({ slug: 'a', title: 't', count: 1, at: new Date('2024-01-01'), data: '{"a":1}', owner: 4 });
    expect(primaryKeyValues(entity)).toBeUndefined();
  });

  it('leaves the unit of work that it is built for untouched', async () => {
    const em = db.orm.em.fork();
    const owner = em.create(Owner, { id: 1, name: 'o' });
    await em.flush();
    await buildCandidate(em, meta, { slug: 'a', title: 't', owner }, undefined);
    const uow = em.getUnitOfWork();
    expect([uow.getPersistStack().size, uow.getIdentityMap().values().length]).toEqual([0, 1]);
    uow.computeChangeSets();
    expect(uow.getChangeSets()).toEqual([]);
  });

  it('comes from a change set of MikroORM’s own (ChangeSetComputer)', () => {
    const em = db.orm.em.fork();
    const doc = em.create(Doc, { slug: 'a', title: 't' }, { persist: false });
    const changeSet = new ChangeSetComputer(em, new Set()).computeChangeSet(doc as never);
    expect(changeSet).toMatchObject({ type: 'create', payload: { slug: 'a', title: 't', count: 1 } });
  });
});

describe('changes', () => {
  it('hold what an assignment and a flush would write, and SQL as it is', () => {
    const sql = raw('count + 1');
    const { payload, written } = buildChanges(db.orm.em.fork(), meta, {
      title: 't',
      at: '2024-01-01',
      owner: { id: 5 },
      count: sql,
    });
    expect(payload).toEqual({ title: 't', at: new Date('2024-01-01'), owner: 5, count: sql });
    expect([...written].toSorted()).toEqual(['at', 'count', 'owner', 'revision', 'title']);
  });
});

describe('an entity made of a raw row', () => {
  async function stored(): Promise<void> {
    const em = db.orm.em.fork();
    const owner = em.create(Owner, { id: 1, name: 'o' });
    em.create(Doc, { slug: 'a', title: 't', loud: 'loud', at: new Date(0), data: { a: [1] }, owner });
    await em.flush();
  }

  it('is managed, complete and clean: its snapshot is what a flush computes', async () => {
    await stored();
    const em = db.orm.em.fork();
    const doc = hydrate(em, meta, await rowOf(em, 'a'), undefined);
    const fresh = await db.orm.em.fork().findOneOrFail(Doc, { slug: 'a' });
    expect(JSON.stringify(doc)).toBe(JSON.stringify(fresh));
    expect(em.getComparator().prepareEntity(doc)).toEqual(storedData(doc));
    expect(storedData(fresh)).toMatchObject(storedData(doc)!);
    expect(primaryKeyValues(doc)).toEqual([(fresh as { id: number }).id]);
    db.statements.take();
    await em.flush();
    await expect(em.findOne(Doc, fresh.id)).resolves.toBe(doc);
    expect(db.statements.take()).toEqual([]);
  });

  it('keeps unflushed changes, unless it is refreshed or the statement wrote them', async () => {
    await stored();
    const em = db.orm.em.fork();
    const doc = await em.findOneOrFail(Doc, { slug: 'a' });
    const row = await rowOf(em, 'a');
    doc.title = 'mine';
    doc.count = 9;
    expect(hydrate(em, meta, { ...row, title: 'theirs' }, undefined)).toBe(doc);
    expect(doc.title).toBe('mine');
    const written = (title: string, sentAt: number, writtenAt: bigint): void => {
      const time = { sentAt, writtenAt };
      hydrateWritten(em, meta, { ...row, title, at: null }, undefined, new Set(['title']), time);
      if (!showsNewer(doc, sentAt, writtenAt)) noteShown(doc, writtenAt);
    };
    const [early, late] = [nextMoment(), nextMoment()];
    written('theirs', late, 20n);
    expect([doc.title, doc.count, doc.at]).toEqual(['theirs', 9, null]);
    written('older, sent at the same time', early, 10n);
    expect(doc.title).toBe('theirs');
    written('newer, whatever the clock says', nextMoment(), 10n);
    expect(doc.title).toBe('newer, whatever the clock says');
    hydrateOver(em, meta, row, undefined);
    expect([doc.title, doc.count]).toEqual(['t', 1]);
    await em.flush();
  });
});

describe('a transaction', () => {
  it('knows when it is rolled back, and its EntityManager keeps what it made (isRolledBack)', async () => {
    const em = db.orm.em.fork();
    await em.begin();
    const transaction = em.getTransactionContext() as { isRolledBack: boolean };
    expect(transaction.isRolledBack).toBe(false);
    const doc = em.create(Doc, { slug: 'rolled back', title: 't' } as never);
    await em.flush();
    await em.rollback();
    expect(transaction.isRolledBack).toBe(true);
    expect(em.getUnitOfWork().getIdentityMap().getByEntity(doc)).toBe(doc);
  });
});

describe('contexts', () => {
  it('give younger EntityManagers greater ids', () => {
    const ids = [db.orm.em, db.orm.em.fork(), db.orm.em.fork().fork()].map(idOf);
    expect(ids).toEqual(ids.toSorted((left, right) => left - right));
    expect(new Set(ids).size).toBe(3);
  });

  it('tell the EntityManager of the transaction around a call, by name (TransactionContext)', async () => {
    const outer = db.orm.em.fork();
    await outer.transactional(async (inner) => {
      expect(TransactionContext.getEntityManager(outer.name)).toBe(inner);
      expect(idOf(inner)).toBeGreaterThan(idOf(outer));
      expect(resolveContext(inner as never, meta)).toBe(inner);
      expect(resolveContext(db.orm.em, meta)).toBe(inner);
      expect(() => resolveContext(outer, meta)).toThrow(/inner\.getRepository/);
    });
    expect(TransactionContext.getEntityManager(outer.name)).toBeUndefined();
  });

  it('apply filters without a query (applyFilters)', async () => {
    const em = db.orm.em.fork();
    const ownerMeta = db.orm.getMetadata().get(Owner) as unknown as Meta;
    // at once: with no filter enabled, the condition comes back as the very object that it was
    expect(isFiltered(em, ownerMeta, undefined)).toBe(false);
    expect(isFiltered(em, meta, false)).toBe(false);
    await expect(isFiltered(em, ownerMeta, { named: true })).resolves.toBe(true);
    await expect(isFiltered(em, meta, { named: true })).resolves.toBe(true);
    expect(db.statements.take()).toEqual([]);
  });

  it('know filters that are added later, and those that say nothing', async () => {
    const em = db.orm.em.fork();
    expect(isFiltered(em, meta, undefined)).toBe(false);
    em.addFilter({ name: 'empty', cond: {} });
    await expect(isFiltered(em, meta, undefined)).resolves.toBe(false);
    em.addFilter({ name: 'later', cond: async () => ({ id: 1 }) });
    await expect(isFiltered(em, meta, undefined)).resolves.toBe(true);
    em.addFilter({
      name: 'broken',
      cond: () => {
        throw new Error('no');
      },
    });
    await expect(isFiltered(em, meta, { later: false })).resolves.toBe(true);
  });
});

describe('a unit on the connection', () => {
  it('fires the transaction events of MikroORM (TransactionEventBroadcaster takes the EntityManager)', async () => {
    expect(TransactionEventBroadcaster.length).toBeGreaterThanOrEqual(1);
    const em = db.orm.em.fork();
    await inUnit(em, async () => {
      expect(em.isInTransaction()).toBe(true);
      await inUnit(em, async () => run(em, { sql: 'select 1', params: [] }));
    });
    expect(em.isInTransaction()).toBe(false);
    expect(db.statements.take().map((statement) => statement.split(' ')[0])).toEqual([
      'begin',
      'savepoint',
      'select',
      'release',
      'commit',
    ]);
    expect(transactions.events).toEqual([
      'before start',
      'after start',
      'before start',
      'after start savepoint',
      'after commit',
      'after commit',
    ]);
    transactions.events.length = 0;
    const failing = inUnit(em, async () => {
      throw new Error('undo');
    });
    await expect(failing).rejects.toThrow('undo');
    expect(transactions.events.at(-1)).toBe('after rollback');
    expect(em.isInTransaction()).toBe(false);
  });
});

describe('closing', () => {
  it('is noticed through the driver, which orm.close() closes', async () => {
    const closed: string[] = [];
    const own = await createTestOrm({ entities: [Owner] });
    onOrmClose(own.orm.em.fork(), async () => {
      closed.push('first');
    });
    onOrmClose(own.orm.em, async () => {
      closed.push('second');
    });
    expect(closed).toEqual([]);
    await own.orm.close();
    expect(closed.toSorted()).toEqual(['first', 'second']);
    await own.close();
  });
});
