import type { Redis } from 'ioredis';
import type { CacheStore, FillEntry } from '../../src/stores/CacheStore.js';
import { sequenceKey } from '../../src/stores/limits.js';
import { MemoryStore } from '../../src/stores/MemoryStore.js';
import { RedisStore } from '../../src/stores/redis/RedisStore.js';
import type { Loss } from './state-table.js';

/** One tick of the explored clock: so long that the time which a test really takes makes no difference. */
export const TICK_MS = 1_000_000;

type Explored = Pick<CacheStore, 'readMany' | 'guard' | 'fillMany' | 'lockMany' | 'releaseMany' | 'evictMany'>;

/** A real store with one entry, whose time passes, and which loses things, when it is told to. */
export interface Bench {
  readonly store: Explored;
  readonly region: string;
  readonly key: string;
  /** Less than 0: the clock is set back. */
  passTicks(count: number): Promise<void>;
  lose(loss: Loss): Promise<void>;
  /** Leaves nothing behind; nothing may be under way. */
  dispose(): Promise<void>;
}

const readClock = performance.now.bind(performance);

/** A memory store in use by one bench at a time, its clock, and how many it has served. */
interface Clocked {
  readonly store: MemoryStore;
  now: number;
  uses: number;
}

/** Making or emptying a memory store takes longer than a whole way through a scenario. */
const idle: Clocked[] = [];

/** The memory store does all its work before it returns its promise, so the clock is turned for just that long. */
export function memoryBench(): Bench {
  // One entry fits in: reading another one pushes the value or the lease out, as a full store does.
  const clocked = idle.pop() ?? { store: new MemoryStore({ maxEntries: 1 }), now: 0, uses: 0 };
  const { store } = clocked;
  const region = `tag${(clocked.uses += 1)}`;
  // long enough for whatever the last bench left to have ended
  clocked.now += 1_000 * TICK_MS;
  const at =
    <A extends unknown[], R>(work: (...args: A) => R) =>
    (...args: A): R => {
      performance.now = () => clocked.now;
      try {
        return work(...args);
      } finally {
        performance.now = readClock;
      }
    };
  const lose: Record<Loss, () => Promise<unknown>> = {
    row: () => store.readMany(['other'], { leaseMs: TICK_MS }),
    entry: () => Promise.reject(new Error('a memory store never loses a lock alone')),
    sequence: () => store.clear(sequenceKey(region)),
    everything: () => store.close(),
  };
  return {
    region,
    key: `${region}:1`,
    store: {
      readMany: at((...args) => store.readMany(...args)),
      guard: at((...args) => store.guard(...args)),
      fillMany: at((...args) => store.fillMany(...args)),
      lockMany: at((...args) => store.lockMany(...args)),
      releaseMany: at((...args) => store.releaseMany(...args)),
      evictMany: at((...args) => store.evictMany(...args)),
    },
    passTicks: async (count) => void (clocked.now += count * TICK_MS),
    lose: at(async (loss: Loss) => void (await lose[loss]())),
    dispose: async () => void idle.push(clocked),
  };
}

/**
 * The scripts on a real server. Its clock can't be moved, so the ends of everything are: a tick brings them nearer
 * by {@link TICK_MS}.
 */
export function redisBench(client: Redis, prefix: string): Bench {
  const store = new RedisStore(client);
  const region = `${prefix}tag`;
  const key = `${region}:1`;
  const sequence = sequenceKey(region);
  let ticks = 0;
  const shift = (permit: FillEntry['permit']): FillEntry['permit'] => {
    if (permit.kind === 'lease') return permit;
    const [, taken, guard, end] = /^(-?\d+)\|(.+):(\d+)$/.exec(permit.sequence)!;
    const moved = Math.max(0, Number(end) - (ticks - Number(taken)) * TICK_MS);
    return { ...permit, sequence: `${guard}:${moved}` };
  };
  const lose: Record<Loss, () => Promise<unknown>> = {
    row: async () => ((await client.get(key))?.startsWith('w') ? 0 : client.del(key)),
    entry: () => client.del(key),
    sequence: () => client.del(sequence),
    everything: () => client.del(key, sequence),
  };
  return {
    region,
    key,
    store: {
      readMany: (...args) => store.readMany(...args),
      guard: async (...args) => `${ticks}|${await store.guard(...args)}`,
      fillMany: (entries) => store.fillMany(entries.map((entry) => ({ ...entry, permit: shift(entry.permit) }))),
      lockMany: (...args) => store.lockMany(...args),
      releaseMany: (...args) => store.releaseMany(...args),
      evictMany: (...args) => store.evictMany(...args),
    },
    passTicks: async (count) => {
      ticks += count;
      await client.eval(PASS_TIME, 1, key, count * TICK_MS);
    },
    lose: async (loss) => void (await lose[loss]()),
    dispose: async () => void (await client.del(key, sequence)),
  };
}

/** Values live for ever here, as far as an exploration is concerned. */
const PASS_TIME = `
local entry = redis.call('GET', KEYS[1])
if not entry or string.sub(entry, 1, 1) == 'v' then return end
local left = redis.call('PTTL', KEYS[1]) - ARGV[1]
if string.sub(entry, 1, 1) == 'w' then
  local lock = cjson.decode(string.sub(entry, 2))
  for holder, ends in pairs(lock.holders) do lock.holders[holder] = ends - ARGV[1] end
  entry = 'w' .. cjson.encode(lock)
end
if left <= 0 then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], entry, 'PX', left) end
`;
