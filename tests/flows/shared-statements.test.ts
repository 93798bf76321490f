import { UniqueConstraintViolationException } from '@mikro-orm/core';
import { defineEntity, p, type EntityManager } from '@mikro-orm/postgresql';
import fc from 'fast-check';
import type { Client } from 'pg';
import { GetOrCreateRepo, withRepo } from '../../src/index.js';
import { createTestOrm, type TestOrm } from '../harness/orm.js';
import { rivalClient, untilBlocked } from './rival.js';
import { givesTakenRows, kinds } from './statements.js';

const Tag = withRepo(
  defineEntity({
    name: 'Tag',
    properties: {
      id: p.integer().primary(),
      name: p.string().unique(),
      rank: p.integer().unique().nullable(),
      weight: p.integer().default(0),
      data: p.json<{ list: number[] }>().nullable(),
      seen: p.datetime().nullable(),
    },
    checks: [{ name: 'weight_check', expression: 'weight >= 0' }],
  }),
  GetOrCreateRepo,
);

let db: TestOrm;
let rival: Client;
let watcher: Client;

beforeAll(async () => {
  db = await createTestOrm({ entities: [Tag] });
  rival = await rivalClient(db.url);
  watcher = await rivalClient(db.url);
});
beforeEach(async () => {
  await rival.query('truncate tag');
  // rows are taken for new when the ones before were
  for (const name of ['known', 'known']) await repository().getOrCreate({ name });
  await rival.query('truncate tag');
  db.statements.take();
});

const repository = (em: EntityManager = db.orm.em.fork()) => em.getRepository(Tag);
const names = (count: number, start = 'n'): string[] => Array.from({ length: count }, (_, index) => start + index);
const insert = (name: string, data: object | null = null) =>
  rival.query('insert into tag (name, data) values ($1, $2)', [name, data]);
const rows = async (): Promise<unknown[]> =>
  (await rival.query('select name, weight from tag order by name collate "C"')).rows;

describe('lookups that are made in one turn of the event loop', () => {
  it.each([
    ['one EntityManager', true],
    ['an EntityManager each', false],
  ])('of existing rows are one select, on %s', async (_name, isOne) => {
    for (const name of names(20)) await insert(name);
    const shared = repository();
    const results = await Promise.all(names(20).map((name) => (isOne ? shared : repository()).getOrCreate({ name })));
    expect(results.map(([{ name }, created]) => [name, created])).toEqual(names(20).map((name) => [name, false]));
    expect(kinds(db.statements.take())).toEqual(['select']);
  });

  it.each([
    ['one EntityManager', true],
    ['an EntityManager each', false],
  ])('of new rows are one select and one insert, on %s', async (_name, isOne) => {
    const shared = repository();
    const results = await Promise.all(
      names(20).map((name, weight) => (isOne ? shared : repository()).getOrCreate({ name }, { weight })),
    );
    expect(results.map(([{ name, weight }, created]) => [name, weight, created])).toEqual(
      names(20).map((name, weight) => [name, weight, true]),
    );
    expect(kinds(db.statements.take())).toEqual(['select', 'insert']);
    await Promise.all(results.map(async ([tag]) => expect(tag.id).toBeGreaterThan(0)));
  });

  it('of one new key create it once, with one select, one insert and one more select for all who lost', async () => {
    const results = await Promise.all(
      names(30).map((_name, weight) => repository().getOrCreate({ name: 'x' }, { weight })),
    );
    const created = results.filter(([, isCreated]) => isCreated);
    expect(created).toHaveLength(1);
    expect(new Set(results.map(([{ id, weight }]) => `${id} ${weight}`)).size).toBe(1);
    expect(new Set(results.map(([tag]) => tag)).size).toBe(30);
    expect(kinds(db.statements.take())).toEqual(['select', 'insert', 'select']);
  });

  it('share no object that belongs to one of them', async () => {
    await insert('x', { list: [1] });
    const [[one], [other]] = await Promise.all([
      repository().getOrCreate({ name: 'x' }),
      repository().getOrCreate({ name: 'x' }),
    ]);
    one.data!.list.push(2);
    expect(other.data).toEqual({ list: [1] });
    expect(kinds(db.statements.take())).toEqual(['select']);
  });

  it('leave entities that a flush has nothing to write of', async () => {
    const ems = names(4).map(() => db.orm.em.fork());
    await Promise.all(
      ems.map((em, index) => repository(em).getOrCreate({ name: `n${index % 3}` }, { data: { list: [] } })),
    );
    db.statements.take();
    for (const em of ems) await em.flush();
    expect(db.statements.take()).toEqual([]);
  });
});

describe('a lookup', () => {
  it('never joins a statement that was sent before it began', async () => {
    await insert('x');
    await rival.query('begin');
    await rival.query('lock table tag in access exclusive mode');
    const first = repository().getOrCreate({ name: 'x' });
    await untilBlocked(watcher, 1);
    const second = repository().getOrCreate({ name: 'x' });
    await untilBlocked(watcher, 2);
    await rival.query('commit');
    await Promise.all([first, second]);
    expect(kinds(db.statements.take())).toEqual(['select', 'select']);
  });

  it('that the server refuses fails alone', async () => {
    await insert('a');
    const [known, refused, fresh] = await Promise.allSettled([
      repository().getOrCreate({ name: 'a', rank: null }),
      repository().getOrCreate({ rank: 2 ** 40, name: 'b' }),
      repository().getOrCreate({ name: 'c', rank: 5 }),
    ]);
    expect(known).toMatchObject({ status: 'fulfilled', value: [{ name: 'a' }, false] });
    expect(refused).toMatchObject({ status: 'rejected', reason: { code: '22003' } });
    expect(fresh).toMatchObject({ status: 'fulfilled', value: [{ name: 'c' }, true] });
  });

  it.each([
    ['breaks a constraint', { weight: -1 }, { code: '23514' }],
    ['has a value out of range', { weight: 2 ** 40 }, { code: '22003' }],
  ])('whose new row %s fails alone', async (_name, defaults, reason) => {
    const results = await Promise.allSettled([
      repository().getOrCreate({ name: 'a' }, { weight: 1 }),
      repository().getOrCreate({ name: 'b' }, defaults),
      repository().getOrCreate({ name: 'c' }, { weight: 3 }),
    ]);
    expect(results).toMatchObject([{ value: [{}, true] }, { reason }, { value: [{}, true] }]);
    await expect(rows()).resolves.toEqual([
      { name: 'a', weight: 1 },
      { name: 'c', weight: 3 },
    ]);
  });

  it.each([
    ['can’t be written out', { weight: 1, seen: new Date(Number.NaN) }],
    ['no server can read', { weight: '\0' as never, seen: new Date(0) }],
  ])('with a value that %s fails alone', async (_name, bad) => {
    const good = { weight: 1, seen: new Date(0) };
    const results = await Promise.allSettled(
      [good, bad, good].map((values, index) => repository().getOrCreate({ name: `n${index}` }, values)),
    );
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(await rows()).toEqual(['n0', 'n2'].map((name) => ({ name, weight: 1 })));
  });

  it('whose new row conflicts in another key with that of another fails alone, with its own exception', async () => {
    const results = await Promise.allSettled(
      ['a', 'b', 'c'].map((name) => repository().getOrCreate({ name }, { rank: name === 'c' ? 2 : 1 })),
    );
    const failed = results.filter(({ status }) => status === 'rejected');
    expect(failed).toHaveLength(1);
    expect(failed[0]).toMatchObject({ reason: expect.any(UniqueConstraintViolationException) as unknown });
    expect(results[2]).toMatchObject({ value: [{ name: 'c' }, true] });
  });

  it('waits for a key that another transaction has inserted, and nobody else waits with it', async () => {
    await rival.query('begin');
    await insert('m');
    const held = repository().getOrCreate({ name: 'm' }, { weight: 2 });
    // in one turn with it, before and after it in the order of inserts
    const free = await Promise.all(['a', 'z'].map((name) => repository().getOrCreate({ name })));
    expect(free.map(([, created]) => created)).toEqual([true, true]);
    await untilBlocked(watcher, 1);
    await rival.query('rollback');
    await expect(held).resolves.toMatchObject([{ weight: 2 }, true]);
  });

  it('in a transaction shares nothing with those outside', async () => {
    const undone = db.orm.em.fork().transactional(async (em) => {
      await Promise.all(names(3, 'in').map((name) => repository(em).getOrCreate({ name })));
      throw new Error('undone');
    });
    const outside = Promise.all(names(3, 'out').map((name) => repository().getOrCreate({ name })));
    await expect(undone).rejects.toThrow('undone');
    await outside;
    await expect(rows()).resolves.toEqual(names(3, 'out').map((name) => ({ name, weight: 0 })));
  });

  it('that can be aborted has a statement of its own', async () => {
    await insert('a');
    const controller = new AbortController();
    const results = Promise.allSettled([
      repository().getOrCreate({ name: 'a' }, {}, { signal: controller.signal }),
      repository().getOrCreate({ name: 'a' }),
    ]);
    controller.abort(new Error('enough'));
    expect(await results).toMatchObject([{ status: 'rejected' }, { value: [{ name: 'a' }, false] }]);
  });
});

describe('calls that share statements', () => {
  /** At most 1 statement for an existing row, 2 for a new one, 3 for a lost race; who fails pays for what it made fail. */
  const budgets = { existing: 1, created: 2, lost: 3, failed: 3 };

  it('stay within the sum of their budgets when one row makes the server refuse the insert', async () => {
    await insert('known');
    const results = await Promise.allSettled([
      repository().getOrCreate({ name: 'known' }),
      repository().getOrCreate({ name: 'a' }),
      repository().getOrCreate({ name: 'b' }, { weight: -1 }),
    ]);
    expect(results).toMatchObject([{ value: [{}, false] }, { value: [{}, true] }, { reason: { code: '23514' } }]);
    const sent = kinds(db.statements.take());
    expect(sent).toEqual(['select', 'insert', 'insert', 'insert']);
    expect(sent.length).toBeLessThanOrEqual(budgets.existing + budgets.created + budgets.failed);
  });

  it.each([
    ['commits', 'commit', false, budgets.lost],
    ['rolls back', 'rollback', true, budgets.created],
  ])('stay within it when one waits for a transaction that %s', async (_name, end, isCreated, budget) => {
    await rival.query('begin');
    await insert('m');
    const held = repository().getOrCreate({ name: 'm' }, { weight: 2 });
    await repository().getOrCreate({ name: 'a' });
    await untilBlocked(watcher, 1);
    await rival.query(end);
    await expect(held).resolves.toMatchObject([{}, isCreated]);
    const sent = kinds(db.statements.take());
    const rest = isCreated || (await givesTakenRows(db.orm.em)) ? [] : ['select'];
    expect(sent).toEqual(['select', 'insert', 'insert', 'insert', ...rest]);
    expect(sent.length).toBeLessThanOrEqual(budget + budgets.created);
  });

  it('share no insert when each has sent a select of its own, and could not pay for a refusal', async () => {
    const go = Promise.withResolvers<number>();
    const calls = [];
    for (const name of ['a', 'b']) {
      const selected = Promise.withResolvers<void>();
      const weight = (): Promise<number> => {
        selected.resolve();
        return go.promise;
      };
      calls.push(repository().getOrCreate({ name }, { weight }));
      await selected.promise;
    }
    expect(kinds(db.statements.take())).toEqual(['select', 'select']);
    go.resolve(3);
    await expect(Promise.all(calls)).resolves.toMatchObject([
      [{ weight: 3 }, true],
      [{ weight: 3 }, true],
    ]);
    expect(kinds(db.statements.take())).toEqual(['insert', 'insert']);
  });

  it('fail together when they want one key, and its transaction outlasts the time that the server gives them', async () => {
    const slow = await createTestOrm({ entities: [Tag], driverOptions: { lock_timeout: 300 } });
    const other = await rivalClient(slow.url);
    await other.query('begin');
    await other.query(`insert into tag (name) values ('x')`);
    const em = (): EntityManager => slow.orm.em.fork();
    slow.statements.take();
    const results = await Promise.allSettled(names(3).map(() => repository(em()).getOrCreate({ name: 'x' })));
    expect(results.map((result) => result.status)).toEqual(['rejected', 'rejected', 'rejected']);
    expect(kinds(slow.statements.take())).toEqual(['select', 'insert']);
    await other.query('rollback');
  });
});

describe('any lookups at one time', () => {
  const call = fc.record({
    name: fc.constantFrom('a', 'b', 'c', 'd', 'e'),
    weight: fc.integer({ min: -1, max: 3 }),
    em: fc.nat({ max: 2 }),
    isLate: fc.boolean(),
  });

  it('have the results of lookups one after another', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(call, { maxLength: 12 }), fc.subarray(['a', 'b', 'c']), async (calls, existing) => {
        await rival.query('truncate tag');
        for (const name of existing) await insert(name);
        const ems = [0, 1, 2].map(() => db.orm.em.fork());
        const results = await Promise.allSettled(
          calls.map(async ({ name, weight, em, isLate }) => {
            if (isLate) await new Promise((resolve) => setImmediate(resolve));
            return repository(ems[em]).getOrCreate({ name }, { weight });
          }),
        );
        const stored = new Map(
          ((await rows()) as { name: string; weight: number }[]).map((row) => [row.name, row.weight]),
        );
        for (const name of new Set(calls.map((made) => made.name))) {
          const own = calls.flatMap((made, index) =>
            made.name === name ? [{ ...made, result: results[index]! }] : [],
          );
          const found = own.flatMap(({ result }) => (result.status === 'fulfilled' ? [result.value] : []));
          const created = own.filter(({ result }) => result.status === 'fulfilled' && result.value[1]);
          // a row that the constraint refuses is the only thing that fails
          for (const { weight, result } of own) if (result.status === 'rejected') expect(weight).toBe(-1);
          expect(created).toHaveLength(existing.includes(name) || found.length === 0 ? 0 : 1);
          if (found.length === 0) expect(stored.has(name)).toBe(false);
          else expect(stored.get(name)).toBe(created[0]?.weight ?? 0);
          for (const [tag] of found) expect(tag.weight).toBe(stored.get(name));
        }
      }),
      { numRuns: 40 },
    );
  });
});
