import { defineEntity, p } from '@mikro-orm/postgresql';
import type { Client } from 'pg';
import { GetOrCreateRepo, withRepo } from '../../src/index.js';
import { connectTestOrm, createTestOrm, type TestOrm } from '../harness/orm.js';
import { rivalClient } from './rival.js';

const Tag = withRepo(
  defineEntity({
    name: 'Tag',
    properties: { id: p.integer().primary(), name: p.string().unique(), weight: p.integer().default(0) },
  }),
  GetOrCreateRepo,
);

/** Everything that a write, a lock or a failed insert would leave on the table. */
interface Traces {
  rows: { ctid: string; xmin: string; xmax: string; id: number }[];
  sequence: { last_value: string; is_called: boolean };
  counters: Record<'n_tup_ins' | 'n_tup_upd' | 'n_tup_del' | 'n_dead_tup' | 'n_tup_hot_upd', string>;
}

let db: TestOrm;
/** One connection only, so that its counters can be asked for without waiting. */
let single: TestOrm;
let rival: Client;

beforeAll(async () => {
  db = await createTestOrm({ entities: [Tag] });
  single = await connectTestOrm(db.url, { entities: [Tag], pool: { min: 0, max: 1 } });
  rival = await rivalClient(db.url);
  await rival.query(`insert into tag (name, weight) select 'row ' || n, n from generate_series(1, 20) n`);
});

async function traces(): Promise<Traces> {
  await single.orm.em.execute('select pg_stat_force_next_flush()');
  await rival.query('select pg_stat_force_next_flush()');
  const { rows } = await rival.query<Traces['rows'][number]>('select ctid, xmin, xmax, id from tag order by id');
  const sequence = await rival.query<Traces['sequence']>('select last_value, is_called from tag_id_seq');
  const counters = await rival.query<Traces['counters']>(
    `select n_tup_ins, n_tup_upd, n_tup_del, n_dead_tup, n_tup_hot_upd from pg_stat_user_tables where relname = 'tag'`,
  );
  return { rows, sequence: sequence.rows[0]!, counters: counters.rows[0]! };
}

const repository = () => single.orm.em.fork().getRepository(Tag);
const wheres = Array.from({ length: 20 }, (_value, index) => ({ name: `row ${index + 1}` }));

describe('an existing row', () => {
  it('is told apart from one that was written: the traces show an insert that lost', async () => {
    const before = await traces();
    await rival.query(`insert into tag (name) values ('row 1') on conflict do nothing`);
    expect(await traces()).not.toEqual(before);
  });

  it.each([
    ['getOrCreate', () => repository().getOrCreate({ name: 'row 1' }, { weight: 9 })],
    ['getOrCreate with refresh', () => repository().getOrCreate({ name: 'row 1' }, { weight: 9 }, { refresh: true })],
    ['getOrCreate by more than the key', () => repository().getOrCreate({ name: 'row 1', weight: 1 })],
    ['getOrCreateMany', () => repository().getOrCreateMany(wheres, { weight: 9 })],
  ])('is neither written nor locked, and burns no sequence value, by %s', async (_name, call) => {
    const before = await traces();
    await call();
    expect(await traces()).toEqual(before);
  });

  it('can be locked by others while the transaction of the caller is open', async () => {
    await db.orm.em.fork().transactional(async (em) => {
      await em.getRepository(Tag).getOrCreate({ name: 'row 1' });
      await em.getRepository(Tag).getOrCreateMany(wheres);
      await rival.query('begin');
      const { rowCount } = await rival.query('select * from tag for update nowait');
      expect(rowCount).toBe(20);
      await rival.query('rollback');
    });
  });

  it('burns no sequence value when it is updated', async () => {
    const before = await traces();
    await repository().updateOrCreate({ name: 'row 1' }, { weight: 5 });
    await repository().updateOrCreateMany(wheres.map((where, weight) => ({ where, values: { weight } })));
    expect((await traces()).sequence).toEqual(before.sequence);
  });
});
