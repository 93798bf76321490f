import { Tag } from '../cache/support/entities.js';
import { startCluster } from '../cache/support/cluster.js';
import { until } from '../harness/until.js';
import { publish } from '../../src/observability/channels.js';
import type { RelayRole } from '../../src/observability/relay-status.js';
import { startRecorder } from './recorder.js';

const entity = { 'mikro_orm_plus.entity': 'Tag' };
const result = (name: string): object => ({ ...entity, 'mikro_orm_plus.result': name });

describe('metrics', () => {
  it('count lookups by who answered them, and agree with statistics()', async () => {
    await using recorder = startRecorder();
    await using cluster = await startCluster('memory', { entities: [Tag] });
    const [one] = cluster.services;
    const em = one.em();
    await em.getRepository(Tag).getOrCreate({ name: 'a' });
    await em.getRepository(Tag).getOrCreate({ name: 'a' });
    await one.em().getRepository(Tag).getOrCreate({ name: 'a' });
    await one.em().getRepository(Tag).getOrCreate({ name: 'a' }, {}, { refresh: true });
    await one.em().getRepository(Tag).updateOrCreate({ name: 'a' }, { weight: 1 });

    const ways = ['created', 'identity_map', 'store', 'database', 'updated'];
    const lookups = await recorder.points('mikro_orm_plus.lookups');
    expect(lookups).toEqual(ways.map((way) => ({ attributes: result(way), value: 1 })));
    const durations = await recorder.points('mikro_orm_plus.lookup.duration');
    expect(durations.map(({ attributes }) => attributes)).toEqual(ways.map(result));
    for (const { value } of durations) {
      expect(value).toMatchObject({ count: 1, min: expect.any(Number) as number });
      expect((value as { sum: number }).sum).toBeGreaterThan(0);
      expect((value as { sum: number }).sum).toBeLessThan(60);
    }
    const { fills, softLocks, evictions } = one.plus.statistics(Tag);
    await expect(recorder.points('mikro_orm_plus.cache.fills')).resolves.toEqual([
      { attributes: entity, value: fills },
    ]);
    await expect(recorder.points('mikro_orm_plus.cache.soft_locks')).resolves.toEqual([
      { attributes: entity, value: softLocks },
    ]);
    expect(evictions).toBe(0);
    await expect(recorder.points('mikro_orm_plus.cache.evictions')).resolves.toEqual([]);
    await expect(recorder.points('mikro_orm_plus.transactions')).resolves.toEqual([
      { attributes: { 'mikro_orm_plus.outcome': 'committed', 'mikro_orm_plus.released': true }, value: 1 },
    ]);
  });

  it('count lost races, refused fills and evictions', async () => {
    await using recorder = startRecorder();
    await using cluster = await startCluster('memory', { entities: [Tag] });
    const [one, other] = cluster.services;
    const weight = async (): Promise<number> => {
      await other.em().getRepository(Tag).getOrCreate({ name: 'raced' });
      return 1;
    };
    await one.em().getRepository(Tag).getOrCreate({ name: 'raced' }, { weight });
    await expect(recorder.points('mikro_orm_plus.races_lost')).resolves.toEqual([{ attributes: entity, value: 1 }]);

    await one.em().getRepository(Tag).evict({ name: 'raced' });
    const filling = one.store.pauseNext('fillMany');
    const reading = one.em().getRepository(Tag).getOrCreate({ name: 'raced' });
    await filling.reached;
    await other.em().getRepository(Tag).evict({ name: 'raced' });
    filling.open();
    await reading;
    await expect(recorder.points('mikro_orm_plus.cache.refused_fills')).resolves.toEqual([
      { attributes: entity, value: 1 },
    ]);
    await expect(recorder.points('mikro_orm_plus.cache.evictions')).resolves.toEqual([
      { attributes: entity, value: 2 },
    ]);
  });

  it('tell of a store that fails, and when it is back', async () => {
    await using recorder = startRecorder();
    await using cluster = await startCluster('memory', { entities: [Tag] });
    const [one] = cluster.services;
    const circuits = (): Promise<unknown> => recorder.points('mikro_orm_plus.store.open_circuits');
    const attributes = { 'mikro_orm_plus.store': 'default' };
    await expect(circuits()).resolves.toEqual([]);
    one.store.fail();
    await one.em().getRepository(Tag).getOrCreate({ name: 'a' });
    await expect(circuits()).resolves.toEqual([{ attributes, value: 1 }]);
    await expect(recorder.points('mikro_orm_plus.store.failures')).resolves.toEqual([
      { attributes: { ...attributes, 'db.operation.name': 'read', 'error.type': 'Error' }, value: 1 },
    ]);
    one.store.heal();
    await until(async () => JSON.stringify(await circuits()) === JSON.stringify([{ attributes, value: 0 }]));
  });

  it("tell a relay's deliveries, failures, role and backlog", async () => {
    let role: RelayRole = 'standby';
    await using recorder = startRecorder({ relayStatus: () => ({ role, backlog: 7 }) });
    await expect(recorder.points('mikro_orm_plus.relay.active')).resolves.toEqual([{ attributes: {}, value: 0 }]);
    await expect(recorder.points('mikro_orm_plus.relay.backlog')).resolves.toEqual([]);
    role = 'active';
    publish('relay', { kind: 'role', role, before: 'standby' });
    publish('relay', { kind: 'delivery', changes: 3, lag: 1_500 });
    publish('relay', { kind: 'failure', operation: 'listen', error: new TypeError('secret') });
    const points = async (name: string): Promise<unknown> =>
      (await recorder.points(`mikro_orm_plus.relay.${name}`)).map(({ attributes, value }) => [attributes, value]);
    await expect(points('active')).resolves.toEqual([[{}, 1]]);
    await expect(points('backlog')).resolves.toEqual([[{}, 7]]);
    await expect(points('changes')).resolves.toEqual([[{}, 3]]);
    await expect(points('lag')).resolves.toMatchObject([[{}, { count: 1, sum: 1.5 }]]);
    await expect(points('failures')).resolves.toEqual([
      [{ 'db.operation.name': 'listen', 'error.type': 'TypeError' }, 1],
    ]);
  });

  it('end with the recording', async () => {
    await using recorder = startRecorder();
    await using cluster = await startCluster('memory', { entities: [Tag] });
    const [one] = cluster.services;
    await one.em().getRepository(Tag).getOrCreate({ name: 'a' });
    recorder.stop();
    recorder.stop();
    await one.em().getRepository(Tag).getOrCreate({ name: 'b' });
    const lookups = await recorder.points('mikro_orm_plus.lookups');
    expect(lookups).toEqual([{ attributes: result('created'), value: 1 }]);
    expect(recorder.spans.getFinishedSpans()).toHaveLength(1);
  });
});
