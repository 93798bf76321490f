import { setTimeout as sleep } from 'node:timers/promises';
import { InvalidationChannel } from '../../src/near-cache/InvalidationChannel.js';
import { NearCache } from '../../src/near-cache/NearCache.js';
import { RedisStore } from '../../src/stores/redis/RedisStore.js';
import { defineWorker } from '../harness/worker.js';

const LONG = 60_000;

export interface Setup {
  url: string;
  /** Where the readers' channels go, by process. */
  channelUrls: string[];
  writers: number;
  keys: number;
  maxStalenessMs: number;
}

/** What a process did: `${key}:${version}` -> a moment of the machine's steady clock, in milliseconds. */
export interface Output {
  /** When the store had confirmed that the version is over. */
  ended: Map<string, number>;
  /** When the version was last served from the near cache. */
  served: Map<string, number>;
  hits: number;
  reads: number;
  dropped: number;
  refused: number;
}

/** The same in all processes of a machine. */
const nowMs = () => Number(process.hrtime.bigint()) / 1e6;

const keyOf = (index: number) => `plus:count:o:${index}`;
const region = 'plus:count';

export default defineWorker(async (setup: Setup, index) => {
  const store = new RedisStore(setup.url);
  const output: Output = { ended: new Map(), served: new Map(), hits: 0, reads: 0, dropped: 0, refused: 0 };
  const any = (count: number) => Math.floor(Math.random() * count);

  /** Each writer counts up its own keys, on the two ways that there are. */
  async function write(versions: Map<number, number>): Promise<void> {
    const id = any(setup.keys) * setup.writers + index;
    const key = keyOf(id);
    const version = versions.get(id) ?? 0;
    const value = String(version + 1);
    if (Math.random() < 0.5) {
      await store.evictMany([{ key, region }]);
      output.ended.set(`${id}:${version}`, nowMs());
      const [found] = await store.readMany([key], { leaseMs: LONG });
      if (found?.kind === 'leased') {
        await store.fillMany([{ key, value, ttlMs: LONG, permit: { kind: 'lease', token: found.token } }]);
      }
    } else {
      const holder = `writer ${index}`;
      await store.lockMany([{ key, region }], holder, LONG);
      output.ended.set(`${id}:${version}`, nowMs());
      await store.releaseMany([{ key, region, value, ttlMs: LONG }], holder);
    }
    versions.set(id, version + 1);
  }

  async function read(cache: NearCache): Promise<void> {
    const id = any(setup.keys * setup.writers);
    const key = keyOf(id);
    output.reads += 1;
    const time = nowMs();
    const near = cache.get(key);
    if (near !== undefined) {
      output.hits += 1;
      output.served.set(`${id}:${near}`, time);
      return;
    }
    const ticket = cache.begin();
    const [result] = await store.readMany([key]);
    if (result?.kind === 'hit' && !cache.put(key, result.value, ticket)) output.refused += 1;
  }

  const isWriter = index < setup.writers;
  let channel: InvalidationChannel | undefined;
  let step: () => Promise<void>;
  if (isWriter) {
    const versions = new Map<number, number>();
    step = async () => {
      await write(versions);
      await sleep(any(8));
    };
  } else {
    const source = setup.channelUrls[index - setup.writers]!;
    channel = new InvalidationChannel({ store, source, prefix: 'plus' });
    const cache = new NearCache({
      channel,
      prefix: 'plus:count:o:',
      maxStalenessMs: setup.maxStalenessMs,
      onDroppedAll: () => (output.dropped += 1),
    });
    step = async () => {
      for (let times = 0; times < 5; times += 1) await read(cache);
      await sleep(1);
    };
  }

  return {
    async round(durationMs: number): Promise<Output> {
      const end = nowMs() + durationMs;
      // a command that a fault broke is no concern of this test
      while (nowMs() < end) await step().catch(() => sleep(10));
      return output;
    },
    async close() {
      channel?.close();
      await store.close();
    },
  };
});
