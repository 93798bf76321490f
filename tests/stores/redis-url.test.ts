import { Cluster } from 'ioredis';
import { ConfigurationError } from '../../src/errors.js';
import { openStore } from '../../src/stores/open-store.js';
import { parseTopologyUrl } from '../../src/stores/redis/redis-url.js';
import { RedisClusterStore } from '../../src/stores/redis/RedisClusterStore.js';
import { RedisStore } from '../../src/stores/redis/RedisStore.js';

const nothing = { username: undefined, password: undefined, sentinelUsername: undefined, sentinelPassword: undefined };

describe('URLs of Redis Cluster and Sentinel', () => {
  it.each([
    [
      'redis+cluster://one:7000,two',
      {
        kind: 'cluster',
        tls: false,
        hosts: [
          { host: 'one', port: 7_000 },
          { host: 'two', port: 6_379 },
        ],
      },
    ],
    [
      'REDISS+CLUSTER://user:p%40ss%3A@[::1]:7000',
      { kind: 'cluster', tls: true, username: 'user', password: 'p@ss:', hosts: [{ host: '::1', port: 7_000 }] },
    ],
    [
      'redis+sentinel://:secret@one,two:26380/main?db=3&sentinelUsername=s&sentinelPassword=p%20w',
      {
        kind: 'sentinel',
        tls: false,
        password: 'secret',
        hosts: [
          { host: 'one', port: 26_379 },
          { host: 'two', port: 26_380 },
        ],
        masterName: 'main',
        db: 3,
        sentinelUsername: 's',
        sentinelPassword: 'p w',
      },
    ],
  ])('%s is understood', (url, parts) => {
    expect(parseTopologyUrl(url)).toEqual({ ...nothing, masterName: '', db: 0, ...parts });
  });

  it.each([
    ['redis+cluster://', "can't be parsed"],
    ['redis+cluster://one:port', 'a host that is none'],
    ['redis+cluster://one:70000', 'a host that is none'],
    ['redis+cluster://one,,two', 'a host that is none'],
    ['redis+cluster://one/3', 'no databases'],
    ['redis+cluster://one?db=3', 'no option|option "db"'],
    ['redis+cluster://user:p%ss@one', '%40'],
    ['redis+sentinel://one', 'names no primary'],
    ['redis+sentinel://one/main?role=slave', 'option "role"'],
    ['redis+sentinel://one/main?db=x', 'not a number'],
    ['redis+sentinel://user:secret@one:port/main', 'a host that is none'],
  ])('%s is refused, without showing a password', (url, problem) => {
    const open = () => openStore(url);
    expect(open).toThrow(ConfigurationError);
    expect(open).toThrow(new RegExp(problem));
    expect(open).toThrow(/^((?!secret).)*$/);
  });

  it('open the store for each kind, without connecting yet', async () => {
    const cluster = new Cluster([{ host: '127.0.0.1', port: 1 }], { lazyConnect: true });
    expect(openStore('redis+sentinel://127.0.0.1:1/main')).toBeInstanceOf(RedisStore);
    expect(openStore('rediss+cluster://127.0.0.1:1')).toBeInstanceOf(RedisClusterStore);
    expect(openStore(cluster)).toBeInstanceOf(RedisClusterStore);
    cluster.disconnect();
  });

  it('belong to one store each', async () => {
    expect(() => new RedisStore('redis+cluster://one')).toThrow('RedisClusterStore');
    expect(() => new RedisClusterStore('redis+sentinel://one/main')).toThrow('RedisStore');
    const prefixed = new Cluster([{ host: '127.0.0.1', port: 1 }], { lazyConnect: true, keyPrefix: 'app:' });
    expect(() => new RedisClusterStore(prefixed)).toThrow('keyPrefix');
    prefixed.disconnect();
  });
});
