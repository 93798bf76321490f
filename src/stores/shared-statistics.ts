import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { Statistics } from '../observability/statistics.js';
import type { RedisAccess } from './redis/redis-client.js';
import { literal, scan } from './redis/wire.js';

/** The counters of one process, as others can read them. */
export interface SharedStatistics {
  readonly host: string;
  readonly pid: number;
  /** When the process began to count, and when it published this: milliseconds of its own clock. */
  readonly since: number;
  readonly at: number;
  /** Milliseconds between two publications. */
  readonly interval: number;
  /** By class name of the entity. */
  readonly entities: Readonly<Record<string, Statistics>>;
  /** Failures of stores, which are no single entity's. */
  readonly stores: Statistics;
}

type Counters = Pick<SharedStatistics, 'entities' | 'stores'>;

/** Publications that may be missed before a process counts as gone. */
const LIVES = 3;

/**
 * Publishes the counters of this process in Redis, one `SET` per interval, for `mikro-orm-plus stats`. A failure is
 * nobody's concern: the next publication makes up for it.
 */
export class StatisticsPublisher {
  readonly #key: string;
  readonly #since = Date.now();
  readonly #timer: NodeJS.Timeout;
  #isUnderWay = false;

  constructor(
    readonly access: RedisAccess,
    prefix: string,
    readonly intervalMs: number,
    readonly counters: () => Counters,
  ) {
    this.#key = `${prefix}:stats:${randomUUID()}`;
    this.#timer = setInterval(() => void this.#publish(), intervalMs);
    this.#timer.unref();
    void this.#publish();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  async #publish(): Promise<void> {
    // a server that hangs gets one publication to answer, not one more per interval
    if (this.#isUnderWay) return;
    this.#isUnderWay = true;
    const { intervalMs: interval } = this;
    const publisher = { host: hostname(), pid: process.pid, since: this.#since, at: Date.now(), interval };
    const text = JSON.stringify({ ...publisher, ...this.counters() } satisfies SharedStatistics);
    try {
      await this.access.send('SET', [this.#key, text, 'PX', String(Math.ceil(interval * LIVES))]);
    } catch {
      // the next one tells the same and more
    } finally {
      this.#isUnderWay = false;
    }
  }
}

/** What the running processes have published below `prefix`, oldest process first. */
export async function readSharedStatistics(access: RedisAccess, prefix: string): Promise<SharedStatistics[]> {
  const found = await access.eachServer(async (client) => {
    const keys = new Set<string>();
    for await (const some of scan(client, `${literal(prefix)}:stats:*`)) for (const key of some) keys.add(key);
    return [...keys];
  });
  const texts = await Promise.all([...new Set(found.flat())].map((key) => access.send('GET', [key])));
  return texts
    .flatMap((text) => (typeof text === 'string' ? [parse(text)] : []))
    .filter((shared) => shared !== undefined)
    .toSorted((one, other) => one.since - other.since);
}

function parse(text: string): SharedStatistics | undefined {
  try {
    const shared = JSON.parse(text) as Partial<SharedStatistics> | null;
    return shared?.entities && shared.stores ? (shared as SharedStatistics) : undefined;
  } catch {
    return undefined;
  }
}
