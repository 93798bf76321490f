import { Collection, defineEntity, p, type InferEntity } from '@mikro-orm/postgresql';
import type { Client } from 'pg';
import { GetOrCreateRepo, NonAtomicRepo, withRepo, type CreationContext, type Values } from '../../src/index.js';
import { createTestOrm, type TestOrm } from '../harness/orm.js';
import { rivalClient } from './rival.js';
import { kinds } from './statements.js';

type Em = TestOrm['orm']['em'];

/** What the tests hand to the overrides as a virtual key. */
interface Family {
  children?: string[];
  /** Runs at the end of the override. */
  last?: (parent: object) => Promise<void> | void;
}

const Child = withRepo(
  defineEntity({
    name: 'Child',
    properties: { id: p.integer().primary(), parentName: p.string(), name: p.string() },
    uniques: [{ properties: ['parentName', 'name'] }],
  }),
  GetOrCreateRepo,
);

const properties = {
  id: p.integer().primary(),
  name: p.string().unique(),
  weight: p.integer().default(0),
};

async function makeChildren(em: Em, parent: object, { children = [], last }: Family): Promise<void> {
  for (const name of children) {
    await em.getRepository(Child).getOrCreate({ parentName: (parent as { name: string }).name, name });
  }
  await last?.(parent);
}

class ParentRepo<E extends object> extends GetOrCreateRepo<E> {
  protected override async createEntity(data: Values<E>, context: CreationContext): Promise<E> {
    const { family = {}, ...rest } = data as { family?: Family };
    const parent = await super.createEntity(rest, context);
    await makeChildren(context.em as Em, parent, family);
    return parent;
  }
}

class JoinedParentRepo<E extends object> extends NonAtomicRepo<E> {
  protected override async createEntity(data: Values<E>, context: CreationContext): Promise<E> {
    const { family = {}, ...rest } = data as { family?: Family };
    const parent = await super.createEntity(rest, context);
    await makeChildren(context.em as Em, parent, family);
    return parent;
  }
}

/** Children first: what a lost race must not leave behind. */
class ChildrenFirstRepo<E extends object> extends GetOrCreateRepo<E> {
  protected override async createEntity(data: Values<E>, context: CreationContext): Promise<E> {
    const { family = {}, ...rest } = data as { family?: Family };
    await makeChildren(context.em as Em, context.where, family);
    return super.createEntity(rest, context);
  }
}

const Parent = withRepo(defineEntity({ name: 'Parent', properties }), ParentRepo);
const JoinedParent = withRepo(defineEntity({ name: 'JoinedParent', properties }), JoinedParentRepo);
const ChildrenFirst = withRepo(defineEntity({ name: 'ChildrenFirst', properties }), ChildrenFirstRepo);

/** A tree that calls itself for what is below a node. */
const Node = withRepo(
  defineEntity({
    name: 'Node',
    properties: {
      id: p.integer().primary(),
      path: p.string().unique(),
      parent: () => p.manyToOne(Node).nullable(),
      nodes: () => p.oneToMany(Node).mappedBy('parent'),
    },
  }),
  class<E extends object> extends GetOrCreateRepo<E> {
    protected override async createEntity(data: Values<E>, context: CreationContext): Promise<E> {
      const { depth = 0, ...rest } = data as { depth?: number; path?: string };
      const node = await super.createEntity(rest as Values<E>, context);
      for (const name of depth > 0 ? ['a', 'b'] : []) {
        const where = { path: `${rest.path}/${name}`, parent: node };
        await this.getOrCreate(where as never, { depth: depth - 1 } as never);
      }
      return node;
    }
  },
);

const Plain = withRepo(defineEntity({ name: 'Plain', properties }), GetOrCreateRepo);

let db: TestOrm;
let rival: Client;

beforeAll(async () => {
  db = await createTestOrm({ entities: [Child, Parent, JoinedParent, ChildrenFirst, Node, Plain] });
  rival = await rivalClient(db.url);
});
beforeEach(async () => {
  await rival.query('truncate child, parent, joined_parent, children_first, node, plain');
  db.statements.take();
});

const family = (value: Family) => ({ family: value }) as never;

async function namesIn(table: string): Promise<string[]> {
  const { rows } = await rival.query<{ name: string }>(`select name from ${table} order by name`);
  return rows.map(({ name }) => name);
}

class Undo extends Error {}
const fail = () => {
  throw new Undo();
};

describe('an overridden createEntity of an atomic class', () => {
  it('takes virtual keys out of the defaults, and makes parent and children one transaction', async () => {
    const em = db.orm.em.fork();
    const [parent, created] = await em
      .getRepository(Parent)
      .getOrCreate({ name: 'p' }, family({ children: ['x', 'y'] }));
    expect([parent.name, created]).toEqual(['p', true]);
    expect(kinds(db.statements.take())).toEqual([
      'select',
      'begin',
      'insert',
      'select',
      'insert',
      'select',
      'insert',
      'commit',
    ]);
    await expect(namesIn('child')).resolves.toEqual(['x', 'y']);
    await em.flush();
    expect(db.statements.take()).toEqual([]);
  });

  it('does not run for an existing row, nor are its defaults evaluated', async () => {
    await rival.query(`insert into parent (name) values ('p')`);
    const em = db.orm.em.fork();
    const [, created] = await em
      .getRepository(Parent)
      .getOrCreate({ name: 'p' }, family({ children: ['x'], last: fail }));
    expect(created).toBe(false);
    await expect(namesIn('child')).resolves.toEqual([]);
  });

  it('undoes everything when it fails after super.createEntity, and leaves the EntityManager usable', async () => {
    const em = db.orm.em.fork();
    const repository = em.getRepository(Parent);
    const failing = repository.getOrCreate({ name: 'p' }, family({ children: ['x'], last: fail }));
    await expect(failing).rejects.toThrow(Undo);
    expect(kinds(db.statements.take()).at(-1)).toBe('rollback');
    await expect(namesIn('parent')).resolves.toEqual([]);
    await expect(namesIn('child')).resolves.toEqual([]);
    await em.flush();
    expect(db.statements.take()).toEqual([]);
    await expect(repository.getOrCreate({ name: 'p' }, family({ children: ['x'] }))).resolves.toMatchObject([{}, true]);
    await expect(namesIn('child')).resolves.toEqual(['x']);
  });

  it('undoes its savepoint only, inside a transaction of the caller, which goes on and commits', async () => {
    const em = db.orm.em.fork();
    await em.transactional(async (inner) => {
      const pending = inner.create(Plain, { name: 'pending' });
      const failing = inner.getRepository(Parent).getOrCreate({ name: 'p' }, family({ children: ['x'], last: fail }));
      await expect(failing).rejects.toThrow(Undo);
      await inner.getRepository(Parent).getOrCreate({ name: 'q' }, family({ children: ['y'] }));
      expect(inner.getUnitOfWork().getPersistStack().has(pending)).toBe(true);
    });
    await expect(namesIn('parent')).resolves.toEqual(['q']);
    await expect(namesIn('child')).resolves.toEqual(['y']);
    await expect(namesIn('plain')).resolves.toEqual(['pending']);
  });

  it.each([
    ['outside a transaction', (work: (em: Em) => Promise<unknown>) => work(db.orm.em.fork())],
    ['inside a transaction', (work: (em: Em) => Promise<unknown>) => db.orm.em.fork().transactional(work)],
  ])('leaves no children of a lost race, %s', async (_place, within) => {
    await within(async (em) => {
      const last = async () => {
        await rival.query(`insert into children_first (name, weight) values ('p', 77) on conflict do nothing`);
      };
      const results = await em
        .getRepository(ChildrenFirst)
        .getOrCreate({ name: 'p' }, family({ children: ['x'], last }));
      expect(results).toMatchObject([{ name: 'p', weight: 77 }, false]);
      await expect(em.getRepository(Child).getOrCreate({ parentName: 'p', name: 'x' })).resolves.toMatchObject([
        {},
        true,
      ]);
    });
    await expect(namesIn('child')).resolves.toEqual(['x']);
  });

  it('creates a tree by calling its own repository, inside em.transactional and with a fork', async () => {
    const count = async () => (await rival.query('select 1 from node')).rowCount;
    const tree = { depth: 2 } as never;
    await db.orm.em.fork().transactional(async (em) => {
      const [root, created] = await em.getRepository(Node).getOrCreate({ path: '' }, tree);
      expect([root.path, created]).toEqual(['', true]);
    });
    expect(await count()).toBe(7);
    const em = db.orm.em.fork();
    await em.getRepository(Node).getOrCreate({ path: 'other' }, tree);
    expect(await count()).toBe(14);
    const leaf = await db.orm.em.fork().findOneOrFail(Node, { path: 'other/a/b' }, { populate: ['parent'] });
    expect(leaf.parent?.path).toBe('other/a');
    db.statements.take();
    await em.flush();
    expect(db.statements.take()).toEqual([]);
  });

  it('serves updateOrCreate for a new row, and not for an existing one', async () => {
    const update = (weight: number) =>
      db.orm.em
        .fork()
        .getRepository(Parent)
        .updateOrCreate({ name: 'p' }, { weight }, { createDefaults: family({ children: ['x'] }) });
    await expect(update(1)).resolves.toMatchObject([{ weight: 0 }, true]);
    await expect(namesIn('child')).resolves.toEqual(['x']);
    await expect(update(2)).resolves.toMatchObject([{ weight: 2 }, false]);
  });

  it('serves each new row of a batch, all of them or none', async () => {
    const repository = () => db.orm.em.fork().getRepository(Parent);
    const failing = repository().getOrCreateMany([{ name: 'a' }, { name: 'b' }], ({ name }) =>
      family({ children: [name as string], ...(name === 'b' ? { last: fail } : {}) }),
    );
    await expect(failing).rejects.toThrow(Undo);
    await expect(namesIn('parent')).resolves.toEqual([]);
    await expect(namesIn('child')).resolves.toEqual([]);
    const results = await repository().getOrCreateMany([{ name: 'b' }, { name: 'a' }], ({ name }) =>
      family({ children: [name as string] }),
    );
    expect(results.map(([{ name }, created]) => [name, created])).toEqual([
      ['b', true],
      ['a', true],
    ]);
    await expect(namesIn('child')).resolves.toEqual(['a', 'b']);
  });
});

describe('an overridden createEntity of a non-atomic class', () => {
  it('never opens a transaction or savepoint, so what it did before an error stays', async () => {
    const run = (em: Em) =>
      em.getRepository(JoinedParent).getOrCreate({ name: 'p' }, family({ children: ['x'], last: fail }));
    await expect(run(db.orm.em.fork())).rejects.toThrow(Undo);
    expect(kinds(db.statements.take())).toEqual(['select', 'insert', 'select', 'insert']);
    await expect(namesIn('joined_parent')).resolves.toEqual(['p']);
    await rival.query('truncate joined_parent, child');

    await expect(db.orm.em.fork().transactional(run)).rejects.toThrow(Undo);
    expect(kinds(db.statements.take())).toEqual(['begin', 'select', 'insert', 'select', 'insert', 'rollback']);
    await expect(namesIn('joined_parent')).resolves.toEqual([]);
  });
});

describe('many calls at once on one EntityManager', () => {
  const names = Array.from({ length: 64 }, (_value, index) => `n${index % 32}`);
  const places: [string, (work: (em: Em) => Promise<void>) => Promise<void>][] = [
    ['outside a transaction', (work) => work(db.orm.em.fork())],
    ['inside a transaction', (work) => db.orm.em.fork().transactional(work)],
  ];

  function expectOnce(results: [InferEntity<typeof Plain>, boolean][]): void {
    const byName = Map.groupBy(results, ([{ name }]) => name);
    expect(byName.size).toBe(32);
    for (const same of byName.values()) {
      expect(new Set(same.map(([entity]) => entity)).size).toBe(1);
      expect(same.filter(([, created]) => created)).toHaveLength(1);
    }
  }

  it.each(places)('get or create each row once, %s', async (_place, within) => {
    await within(async (em) => {
      expectOnce(await Promise.all(names.map((name) => em.getRepository(Plain).getOrCreate({ name }))));
    });
    expect(await namesIn('plain')).toHaveLength(32);
  });

  it.each(places)('update or create each row once, %s', async (_place, within) => {
    await within(async (em) => {
      const calls = names.map((name, weight) => em.getRepository(Plain).updateOrCreate({ name }, { weight }));
      const results = await Promise.all(calls);
      expect(new Set(results.map(([entity]) => entity)).size).toBe(32);
      expect(results.filter(([, created]) => created)).toHaveLength(32);
    });
    expect(await namesIn('plain')).toHaveLength(32);
  });

  it.each(places)(
    'show what the database holds at the end, whichever answer comes last, %s',
    async (_place, within) => {
      await within(async (em) => {
        const repo = em.getRepository(Plain);
        for (let round = 0; round < 20; round++) {
          const name = `shown ${round}`;
          const calls = Array.from({ length: 30 }, (_value, weight) =>
            weight % 3 === 0 ? repo.getOrCreate({ name }) : repo.updateOrCreate({ name }, { weight }),
          );
          const [[plain]] = (await Promise.all(calls)) as [[InferEntity<typeof Plain>, boolean]];
          const fork = em.fork({ keepTransactionContext: true });
          const { weight } = await fork.findOneOrFail(Plain, { name });
          expect(plain.weight).toBe(weight);
        }
      });
    },
  );

  it.each(places)('run an overridden createEntity once for each row, %s', async (_place, within) => {
    await within(async (em) => {
      const calls = names.map((name) => em.getRepository(Parent).getOrCreate({ name }, family({ children: [name] })));
      expectOnce(await Promise.all(calls));
    });
    expect(await namesIn('parent')).toHaveLength(32);
    expect(await namesIn('child')).toHaveLength(32);
  });

  it.each(places)('keep what others did when one override fails, %s', async (_place, within) => {
    await within(async (em) => {
      const calls = names.map((name, index): Promise<unknown> => {
        if (index % 2 === 0) return em.getRepository(Plain).getOrCreate({ name });
        const defaults = index % 4 === 1 ? family({ children: [name], last: fail }) : {};
        return em.getRepository(Parent).getOrCreate({ name }, defaults);
      });
      const results = await Promise.allSettled(calls);
      expect(results.filter(({ status }) => status === 'rejected').length).toBeGreaterThan(0);
      const others = results.filter((_result, index) => index % 4 !== 1);
      expect(others.every(({ status }) => status === 'fulfilled')).toBe(true);
    });
    const even = names.filter((_name, index) => index % 2 === 0);
    expect(await namesIn('plain')).toEqual([...new Set(even)].toSorted());
    const parents = names.filter((_name, index) => index % 4 === 3);
    expect(await namesIn('parent')).toEqual([...new Set(parents)].toSorted());
    await expect(namesIn('child')).resolves.toEqual([]);
  });
});

it('leaves the collections of a created node initialized and empty', async () => {
  const [node] = await db.orm.em.fork().getRepository(Node).getOrCreate({ path: 'x' });
  expect(node.nodes).toBeInstanceOf(Collection);
  expect(node.nodes.isInitialized()).toBe(true);
  expect(node.nodes.getItems()).toEqual([]);
});
