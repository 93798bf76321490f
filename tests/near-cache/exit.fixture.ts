import { setTimeout as sleep } from 'node:timers/promises';
import { InvalidationChannel } from '../../src/near-cache/InvalidationChannel.js';
import { NearCache } from '../../src/near-cache/NearCache.js';
import { RedisStore } from '../../src/stores/redis/RedisStore.js';
import { TcpProxy } from '../harness/tcp-proxy.js';

const url = process.argv[2]!;
const proxy = await TcpProxy.start(url);
const store = new RedisStore(url);
const channels: InvalidationChannel[] = [];

const broken = await TcpProxy.start(url);
for (const source of [url, proxy.through(url), broken.through(url), 'redis://127.0.0.1:1']) {
  const channel = new InvalidationChannel({ store, source, prefix: 'plus' });
  channels.push(channel);
  const cache = new NearCache({ channel, prefix: 'plus:tag:o:' });
  cache.begin();
  for (let wait = 0; wait < 500 && !cache.isOn && !source.endsWith(':1'); wait += 1) await sleep(10);
}
proxy.set({ kind: 'stranded' });
broken.set({ kind: 'cut' });
await sleep(100);

for (const channel of channels) channel.close();
await store.close();
await proxy[Symbol.asyncDispose]();
await broken[Symbol.asyncDispose]();
process.stdout.write('closed\n');
