import { Redis } from 'ioredis';
import { Client } from 'pg';
import { postgresCounter, redisCounter, startCountingProxy } from '../../bench/src/load/counting-proxy.js';
import { testDatabaseUrl, testPrefix, testRedisUrl } from '../harness/servers.js';

test('statements to PostgreSQL are counted, prepared or not', async () => {
  await using proxy = await startCountingProxy(await testDatabaseUrl());
  const client = new Client(proxy.url);
  await client.connect();
  proxy.take();
  await client.query('select 1');
  await client.query('select $1::int', [1]);
  await client.query({ name: 'named', text: 'select $1::int', values: [1] });
  await client.query({ name: 'named', text: 'select $1::int', values: [2] });
  expect(proxy.take()).toEqual({ requests: 4, roundTrips: 4 });
  expect(proxy.take()).toEqual({ requests: 0, roundTrips: 0 });
  await client.end();
});

test('commands to Redis are counted, and a pipeline is one round trip', async () => {
  await using proxy = await startCountingProxy(testRedisUrl());
  const redis = new Redis(proxy.url);
  await redis.ping();
  proxy.take();
  await redis.get(`${testPrefix()}a`);
  expect(proxy.take()).toEqual({ requests: 1, roundTrips: 1 });
  await redis.pipeline().get(`${testPrefix()}a`).get(`${testPrefix()}b`).exec();
  expect(proxy.take()).toEqual({ requests: 2, roundTrips: 1 });
  redis.disconnect();
});

describe('requests that arrive in pieces', () => {
  const byteByByte = (counter: (chunk: Buffer) => number, bytes: Buffer): number =>
    [...bytes].reduce((sum, byte) => sum + counter(Buffer.from([byte])), 0);

  it('are counted once, of PostgreSQL', () => {
    const startUp = Buffer.from([0, 0, 0, 8, 0, 3, 0, 0]);
    const tls = Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]);
    const query = Buffer.from([0x51, 0, 0, 0, 6, 0x51, 0]);
    const counter = postgresCounter();
    expect(byteByByte(counter, Buffer.concat([tls, startUp, query, query]))).toBe(2);
  });

  it('are counted once, of Redis', () => {
    const get = Buffer.from('*2\r\n$3\r\nGET\r\n$4\r\n*\r\n$\r\n');
    expect(byteByByte(redisCounter(), Buffer.concat([get, get]))).toBe(2);
  });
});
