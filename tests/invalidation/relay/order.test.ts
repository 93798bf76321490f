import { RedisStore, type LockEntry } from '../../../src/index.js';
import { Tag } from '../../cache/support/entities.js';
import { createTestOrm } from '../../harness/orm.js';
import { rawClient, testPrefix, testRedisUrl } from '../../harness/servers.js';
import { createChangeLog, watch } from './support/change-log.js';
import { startService, until } from './support/services.js';

const WRITERS = 4;
const CHANGES_EACH = 25;

/** Tells which rows' entries are removed, in order. */
class RecordingStore extends RedisStore {
  evicted: string[] = [];

  override async evictMany(entries: readonly LockEntry[]): Promise<void> {
    this.evicted.push(...entries.map(({ key }) => key));
    await super.evictMany(entries);
  }
}

test.each([1, 7, 1_000])(
  'changes of a row are delivered in the order of their commits, %i at a time',
  async (batchSize) => {
    await using database = await createTestOrm({ entities: [Tag] });
    const psql = await rawClient(database.url);
    await createChangeLog(psql);
    await watch(psql, 'tag', 'id');
    await psql.query(`insert into tag (id, name) values (1, 'moves'), (1000, 'other')`);
    const writers = await Promise.all(Array.from({ length: WRITERS }, () => rawClient(database.url)));
    // each change gives the row another key, so that the log tells which one it was
    await Promise.all(
      writers.map(async (writer, index) => {
        for (let change = 0; change < CHANGES_EACH; change += 1) {
          await writer.query('begin');
          // others get their numbers in the log while this one waits for the row, or with it for its commit
          if (index % 2 === 0) await writer.query(`update tag set weight = weight + 1 where name = 'other'`);
          await writer.query(`update tag set id = id + 1 where name = 'moves'`);
          await writer.query('commit');
        }
      }),
    );
    const ids = Array.from({ length: WRITERS * CHANGES_EACH }, (_, index) => index + 1);

    const store = new RecordingStore(testRedisUrl());
    const prefix = `${testPrefix()}order${batchSize}`;
    await using service = await startService(database.url, { entities: [Tag], prefix, store, relay: { batchSize } });
    await until(
      async () => (await psql.query('select from plus_change_log')).rowCount === 0,
      () => service.plus.relayStatus(),
    );
    const delivered = store.evicted.splice(0);
    for (const id of ids) await service.plus.evict(Tag, id);
    const expected = new Set(store.evicted);
    expect(expected.size).toBe(ids.length);
    expect(delivered.filter((key) => expected.has(key))).toEqual([...expected]);
    for (const client of [psql, ...writers]) await client.end();
  },
);
