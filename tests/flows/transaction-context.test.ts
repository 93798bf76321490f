import { defineEntity, p, RequestContext } from '@mikro-orm/postgresql';
import type { Client } from 'pg';
import {
  GetOrCreateRepo,
  NonAtomicRepo,
  TransactionContextError,
  withRepo,
  type CreationContext,
  type Values,
} from '../../src/index.js';
import { createTestOrm, type TestOrm } from '../harness/orm.js';
import { rivalClient } from './rival.js';
import { kinds } from './statements.js';

const properties = { id: p.integer().primary(), name: p.string().unique(), weight: p.integer().default(0) };
const Tag = withRepo(defineEntity({ name: 'Tag', properties }), GetOrCreateRepo);
const Joined = withRepo(defineEntity({ name: 'Joined', properties }), NonAtomicRepo);

/** Creates through an override, in a unit of its own. */
class MadeRepo<E extends object> extends GetOrCreateRepo<E> {
  protected override async createEntity(data: Values<E>, context: CreationContext): Promise<E> {
    return super.createEntity(data, context);
  }
}

const Made = withRepo(defineEntity({ name: 'Made', tableName: 'made', properties }), MadeRepo);

type Em = TestOrm['orm']['em'];

let db: TestOrm;
let rival: Client;

beforeAll(async () => {
  db = await createTestOrm({ entities: [Tag, Joined, Made], allowGlobalContext: true });
  rival = await rivalClient(db.url);
});

class Undo extends Error {}

/** Names of the rows that are left after `work` ran in a transaction that was rolled back. */
async function leftAfterRollback(outer: Em, work: (inner: Em) => Promise<void>): Promise<string[]> {
  await rival.query('truncate tag, joined');
  db.statements.take();
  const transaction = outer.transactional(async (inner) => {
    await work(inner);
    throw new Undo();
  });
  await expect(transaction).rejects.toThrow(Undo);
  const { rows } = await rival.query<{ name: string }>(
    'select name from tag union all select name from joined order by 1',
  );
  return rows.map(({ name }) => name);
}

async function inRequest<R>(work: (em: Em) => Promise<R>): Promise<R> {
  return RequestContext.create(db.orm.em, () => work(RequestContext.getEntityManager() as Em));
}

describe('a repository of an outer fork, used inside its transaction', () => {
  it.each([
    ['atomic', (em: Em) => em.getRepository(Tag)],
    ['non-atomic', (em: Em) => em.getRepository(Joined)],
  ])('is refused with the remedy, and nothing is sent (%s)', async (_class, repositoryOf) => {
    const outer = db.orm.em.fork();
    const repository = repositoryOf(outer);
    const left = await leftAfterRollback(outer, async () => {
      db.statements.take();
      for (const call of [
        () => repository.getOrCreate({ name: 'a' }),
        () => repository.getOrCreateMany([{ name: 'a' }]),
        () => repository.updateOrCreate({ name: 'a' }, {}),
      ]) {
        const error = await call().catch((reason: unknown) => reason);
        expect(error).toBeInstanceOf(TransactionContextError);
        expect(String(error)).toMatch(/inner\.getRepository\((Tag|Joined)\)/);
      }
      expect(db.statements.take()).toEqual([]);
    });
    expect(left).toEqual([]);
  });

  it('works again after the transaction, and before it', async () => {
    const outer = db.orm.em.fork();
    await outer.getRepository(Tag).getOrCreate({ name: 'before' });
    await outer.transactional((inner) => inner.getRepository(Tag).getOrCreate({ name: 'inside' }));
    await expect(outer.getRepository(Tag).getOrCreate({ name: 'inside' })).resolves.toMatchObject([{}, false]);
  });
});

describe('a repository of the EntityManager around a savepoint', () => {
  it('is refused inside it: it would keep what the savepoint undoes', async () => {
    await rival.query('truncate tag');
    await db.orm.em.fork().transactional(async (middle) => {
      await middle.transactional(async (inner) => {
        await expect(middle.getRepository(Tag).getOrCreate({ name: 'a' })).rejects.toThrow(TransactionContextError);
        await expect(inner.getRepository(Tag).getOrCreate({ name: 'a' })).resolves.toMatchObject([{}, true]);
      });
      await expect(middle.getRepository(Tag).getOrCreate({ name: 'a' })).resolves.toMatchObject([{}, false]);
    });
  });
});

describe('a repository that sees the transaction', () => {
  const cases: [name: string, run: (work: (outer: Em, ofCall: (inner: Em) => Em) => Promise<void>) => Promise<void>][] =
    [
      ['of the inner EntityManager', (work) => work(db.orm.em.fork(), (inner) => inner)],
      ['of the global EntityManager', (work) => work(db.orm.em, () => db.orm.em)],
      ['of a request context', (work) => inRequest((em) => work(em, () => em))],
      ['of the global EntityManager in a request context', (work) => inRequest(() => work(db.orm.em, () => db.orm.em))],
      [
        'of a fork with useContext',
        async (work) => {
          const em = db.orm.em.fork({ useContext: true });
          await work(em, () => em);
        },
      ],
      [
        'of a fork that keeps the transaction',
        (work) => work(db.orm.em.fork(), (inner) => inner.fork({ keepTransactionContext: true })),
      ],
    ];

  it.each(cases)('%s runs in it', async (_name, run) => {
    await run(async (outer, ofCall) => {
      const left = await leftAfterRollback(outer, async (inner) => {
        const em = ofCall(inner);
        await em.getRepository(Tag).getOrCreate({ name: 'a' });
        await em.getRepository(Tag).updateOrCreate({ name: 'b' }, { weight: 1 });
        await em.getRepository(Joined).getOrCreate({ name: 'c' });
      });
      expect(left).toEqual([]);
      expect(kinds(db.statements.take()).filter((kind) => kind === 'begin')).toHaveLength(1);
    });
  });

  it('of an EntityManager with begin and commit runs in it', async () => {
    await rival.query('truncate tag');
    const em = db.orm.em.fork();
    await em.begin();
    await em.getRepository(Tag).getOrCreate({ name: 'a' });
    await em.rollback();
    expect((await rival.query('select 1 from tag')).rowCount).toBe(0);
  });

  it.each<[string, typeof Tag, (em: Em) => Promise<unknown>]>([
    ['getOrCreate', Tag, (em) => em.getRepository(Tag).getOrCreate({ name: 'a' })],
    ['updateOrCreate', Tag, (em) => em.getRepository(Tag).updateOrCreate({ name: 'a' }, { weight: 1 })],
    ['a unit', Made as unknown as typeof Tag, (em) => em.getRepository(Made).getOrCreate({ name: 'a' })],
  ])('of an EntityManager that is rolled back knows nothing of what %s created', async (_call, entity, create) => {
    await rival.query('truncate tag');
    const em = db.orm.em.fork();
    await em.begin();
    await create(em);
    await em.rollback();
    const [again, created] = await em.getRepository(entity).getOrCreate({ name: 'a' });
    expect(created).toBe(true);
    await expect(db.orm.em.fork().findOne(entity, again.id)).resolves.toMatchObject({ name: 'a' });
    db.statements.take();
    await em.flush();
    expect(db.statements.take()).toEqual([]);
  });

  it('of the inner EntityManager works in nested transactions', async () => {
    const outer = db.orm.em.fork();
    await rival.query('truncate tag');
    await outer.transactional(async (inner) => {
      const undone = inner.transactional(async (nested) => {
        await nested.getRepository(Tag).getOrCreate({ name: 'undone' });
        throw new Undo();
      });
      await expect(undone).rejects.toThrow(Undo);
      await expect(inner.getRepository(Tag).getOrCreate({ name: 'undone' })).resolves.toMatchObject([{}, true]);
      await inner.transactional((nested) => nested.getRepository(Tag).getOrCreate({ name: 'kept' }));
    });
    const { rows } = await rival.query('select name from tag order by name');
    expect(rows).toEqual([{ name: 'kept' }, { name: 'undone' }]);
  });
});

describe('a repository that stays outside on purpose', () => {
  it('of a fork made inside the transaction survives its rollback', async () => {
    const left = await leftAfterRollback(db.orm.em.fork(), async (inner) => {
      await inner.getRepository(Tag).getOrCreate({ name: 'inside' });
      await inner.fork().getRepository(Tag).getOrCreate({ name: 'outside' });
      await db.orm.em.fork().getRepository(Tag).getOrCreate({ name: 'elsewhere' });
    });
    expect(left).toEqual(['elsewhere', 'outside']);
  });

  it('of a fork inside a nested transaction does too', async () => {
    const left = await leftAfterRollback(db.orm.em.fork(), (inner) =>
      inner.transactional(async (nested) => {
        await nested.fork().getRepository(Tag).getOrCreate({ name: 'outside' });
      }),
    );
    expect(left).toEqual(['outside']);
  });
});
