import { setTimeout as sleep } from 'node:timers/promises';
import { InvalidationChannel } from '../../src/near-cache/InvalidationChannel.js';
import { NearCache } from '../../src/near-cache/NearCache.js';
import { RedisStore } from '../../src/stores/redis/RedisStore.js';
import { TcpProxy } from '../harness/tcp-proxy.js';

/** What keeps the process from its exit. */
const open = (): string =>
  process
    .getActiveResourcesInfo()
    .filter((kind) => /TCPSocket|Connect|Timeout|GetAddrInfo/.test(kind))
    .toSorted()
    .join();

const url = process.argv[2]!;
const proxy = await TcpProxy.start(url);
const broken = await TcpProxy.start(url);
const store = new RedisStore(url);
await store.ping();
await sleep(10);
const before = open();

const channels: InvalidationChannel[] = [];
for (const source of [url, proxy.through(url), broken.through(url), 'redis://127.0.0.1:1']) {
  const channel = new InvalidationChannel({ store, source, prefix: 'plus' });
  channels.push(channel);
  const cache = new NearCache({ channel, prefix: 'plus:tag:o:' });
  cache.begin();
  while (!cache.isOn && !source.endsWith(':1')) await sleep(10);
}
proxy.set({ kind: 'stranded' });
broken.set({ kind: 'cut' });
await sleep(100);

for (const channel of channels) channel.close();
for (const each of [proxy, broken]) each.reset();
for (let wait = 0; wait < 500 && open() !== before; wait += 1) await sleep(1);
process.stdout.write(open() === before ? 'nothing is left open\n' : `${open()} instead of ${before}\n`);
await store.close();
await proxy[Symbol.asyncDispose]();
await broken[Symbol.asyncDispose]();
