import { existsSync } from 'node:fs';
import { Redis } from 'ioredis';
import { isAlive } from './is-alive.js';
import {
  createDatabase,
  dropDatabase,
  rawClient,
  startServers,
  testDatabaseUrl,
  testPrefix,
  testRedisUrl,
  testRun,
} from './servers.js';

describe('the servers of a test run', () => {
  it('include PostgreSQL', async () => {
    const client = await rawClient(await testDatabaseUrl());
    try {
      await expect(client.query('select 1 as one')).resolves.toMatchObject({ rows: [{ one: 1 }] });
    } finally {
      await client.end();
    }
  });

  it('include Redis', async () => {
    const redis = new Redis(testRedisUrl());
    try {
      const key = `${testPrefix()}greeting`;
      await redis.set(key, 'hello');
      await expect(redis.get(key)).resolves.toBe('hello');
    } finally {
      redis.disconnect();
    }
  });

  it('give every call its own database, and one of them to the test file', async () => {
    const [first, second] = [await createDatabase('shop'), await createDatabase('shop')];
    expect(new Set([first, second, await testDatabaseUrl()]).size).toBe(3);
    await expect(testDatabaseUrl()).resolves.toBe(await testDatabaseUrl());

    const [a, b] = [await rawClient(first), await rawClient(second)];
    try {
      await a.query('create table only_here (id int)');
      const { rows } = await b.query(`select to_regclass('only_here') as found`);
      expect(rows).toEqual([{ found: null }]);
    } finally {
      await a.end();
      await b.end();
    }
    await dropDatabase(first);
    await expect(rawClient(first)).rejects.toThrow('does not exist');
  });

  it('never drop a database that is not theirs', async () => {
    await expect(dropDatabase(testRun().postgresUrl)).rejects.toThrow('is not a database of this test run');
  });
});

describe('servers of its own', () => {
  it('are a PostgreSQL 18 that is fast and as visible as in production, and a Redis without persistence', async () => {
    await using servers = await startServers({ postgres: true, redis: true });
    const client = await rawClient(servers.postgres!.url);
    try {
      const { rows } = await client.query(
        `select current_setting('server_version_num')::int / 10000 as major, current_setting('fsync') as fsync,
                current_setting('synchronous_commit') as commit, current_setting('max_connections') as connections`,
      );
      expect(rows).toEqual([{ major: 18, fsync: 'off', commit: 'on', connections: '300' }]);
    } finally {
      await client.end();
    }
    const redis = new Redis(servers.redis!.url);
    try {
      await expect(redis.config('GET', 'save')).resolves.toEqual(['save', '']);
      await expect(redis.config('GET', 'appendonly')).resolves.toEqual(['appendonly', 'no']);
    } finally {
      redis.disconnect();
    }
  });

  it('are gone when they are no longer needed, with everything they wrote', async () => {
    const servers = await startServers({ postgres: true, redis: true });
    const pids = [servers.keeperPid, servers.postgres!.pid, servers.redis!.pid];
    expect(pids.filter(isAlive)).toEqual(pids);
    expect(existsSync(servers.folder)).toBe(true);

    await servers.stop();
    expect(pids.filter(isAlive)).toEqual([]);
    expect(existsSync(servers.folder)).toBe(false);
  });
});
