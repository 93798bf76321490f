import { jest } from '@jest/globals';
import { Redis } from 'ioredis';
import { setTimeout as delay } from 'node:timers/promises';
import { createRedisClient } from '../../src/stores/redis/redis-client.js';
import { testRedisUrl } from '../harness/servers.js';

/** A client, and the connection of ioredis inside. */
async function open() {
  const connect = jest.spyOn(Redis.prototype, 'connect');
  const client = await createRedisClient(testRedisUrl());
  const first = client.call('PING', []).catch((error: Error) => error.message);
  const redis = connect.mock.contexts[0] as Redis;
  connect.mockRestore();
  return { client, redis, first };
}

describe('a client made for a URL', () => {
  it('connects anew when ioredis has given up for good, as when it is told of a failover while it connects', async () => {
    const { client, redis, first } = await open();
    expect(redis.status).toBe('connecting');
    // what its detector of failovers does
    redis.disconnect(true);
    expect(await first).toBe('Connection is closed.');
    expect(redis.status).toBe('end');
    while ((await client.call('PING', []).catch(() => undefined)) !== 'PONG') await delay(20);
    client.disconnect();
  });

  it('stays closed once it was closed', async () => {
    const { client, redis, first } = await open();
    expect(await first).toBe('PONG');
    client.disconnect();
    await delay(300);
    expect(redis.status).toBe('end');
    await expect(client.call('PING', [])).rejects.toThrow('Connection is closed.');
  });
});
