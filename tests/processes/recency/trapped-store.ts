import { Redis, type RedisOptions } from 'ioredis';
import {
  RedisStore,
  type CacheStore,
  type FillEntry,
  type LockEntry,
  type ReadOptions,
  type ReadResult,
  type ReleaseEntry,
} from '../../../src/index.js';
import type { Broken, FaultPoint, StoreOperation } from './protocol.js';

/** Where a worker's faults happen, and what is noted for the trace. */
export interface Traps {
  reach(point: FaultPoint): Promise<void>;
  note(operation: string, keys: readonly string[], outcome: string): void;
  /** An entry's value told which row it is of. */
  learn(key: string, row: string): void;
}

/** The Redis store with a fault point before and after every operation; broken on purpose if asked. */
export class TrappedStore implements CacheStore {
  readonly #store: RedisStore;
  readonly #url: string;
  readonly #traps: Traps;
  readonly #broken: Broken | undefined;
  readonly #learned = new Set<string>();

  constructor(url: string, traps: Traps, broken: Broken | undefined) {
    this.#store = new RedisStore(url);
    this.#url = url;
    this.#traps = traps;
    this.#broken = broken;
  }

  /** Makes the connections that a near cache needs. */
  duplicate(options: RedisOptions): Redis {
    const connection = new Redis(this.#url, options);
    return this.#broken === 'deaf' ? deafen(connection) : connection;
  }

  get capabilities(): CacheStore['capabilities'] {
    return this.#store.capabilities;
  }

  readMany(keys: readonly string[], options?: ReadOptions): Promise<ReadResult[]> {
    return this.#run(
      'readMany',
      keys,
      () => this.#store.readMany(keys, options),
      (results) => {
        results.forEach((result, index) => this.#learn(keys[index]!, result.kind === 'hit' ? result.value : undefined));
        return results.every(({ kind }) => kind === 'hit') ? undefined : results.map(({ kind }) => kind).join();
      },
    );
  }

  guard(region: string, options?: { guardMs?: number }): Promise<string> {
    return this.#run(
      'guard',
      [],
      () => this.#store.guard(region, options),
      (guard) => guard.slice(0, 8),
    );
  }

  fillMany(entries: readonly FillEntry[]): Promise<boolean[]> {
    const fill = async (): Promise<boolean[]> => {
      if (this.#broken !== 'no-leases') return this.#store.fillMany(entries);
      // a fresh guard for what was read before it: as if the cache simply put what it had read
      const fresh = entries.map(async (entry): Promise<FillEntry> => {
        const region = entry.permit.kind === 'guard' ? entry.permit.region : 'unguarded';
        return { ...entry, permit: { kind: 'guard', region, sequence: await this.#store.guard(region) } };
      });
      return this.#store.fillMany(await Promise.all(fresh));
    };
    for (const { key, value } of entries) this.#learn(key, value);
    return this.#run('fillMany', keysOf(entries), fill, (written) =>
      entries.map(({ permit }, index) => `${permit.kind} ${written[index] ? 'stored' : 'refused'}`).join(),
    );
  }

  lockMany(entries: readonly LockEntry[], holder: string, lockMs: number): Promise<void> {
    const lock = async (): Promise<void> => {
      if (this.#broken !== 'no-locks') await this.#store.lockMany(entries, holder, lockMs);
    };
    return this.#run('lockMany', keysOf(entries), lock, () => short(holder));
  }

  releaseMany(entries: readonly ReleaseEntry[], holder: string): Promise<void> {
    const release = async (): Promise<void> => {
      if (this.#broken !== 'no-locks') await this.#store.releaseMany(entries, holder);
    };
    const withValues = entries.some(({ value }) => value !== undefined) ? ' with values' : '';
    return this.#run('releaseMany', keysOf(entries), release, () => `${short(holder)}${withValues}`);
  }

  evictMany(entries: readonly LockEntry[]): Promise<void> {
    return this.#run(
      'evictMany',
      keysOf(entries),
      () => this.#store.evictMany(entries),
      () => 'done',
    );
  }

  clear(prefix: string): Promise<void> {
    return this.#store.clear(prefix);
  }

  ping(): Promise<void> {
    return this.#store.ping();
  }

  close(): Promise<void> {
    return this.#store.close();
  }

  #learn(key: string, value: string | undefined): void {
    const row = value && /row-\d+/.exec(value);
    if (!row || this.#learned.has(key)) return;
    this.#learned.add(key);
    this.#traps.learn(short(key), row[0]);
  }

  async #run<T>(
    operation: StoreOperation,
    keys: readonly string[],
    work: () => Promise<T>,
    outcomeOf: (result: T) => string | undefined,
  ): Promise<T> {
    await this.#traps.reach(`${operation}:before`);
    try {
      const result = await work();
      const outcome = outcomeOf(result);
      if (outcome !== undefined) this.#traps.note(operation, keys.map(short), outcome);
      await this.#traps.reach(`${operation}:after`);
      return result;
    } catch (error) {
      this.#traps.note(operation, keys.map(short), `failed: ${String(error)}`);
      throw error;
    }
  }
}

/** Of all invalidations only the heartbeat's come through. */
function deafen(connection: Redis): Redis {
  const emit = connection.emit.bind(connection);
  return Object.assign(connection, {
    emit: (name: string, ...args: unknown[]) => {
      const keys = args[1];
      if (name !== 'messageBuffer' || !Array.isArray(keys)) return emit(name, ...args);
      return emit(
        name,
        args[0],
        keys.filter((key) => String(key).includes(':near-cache:')),
      );
    },
  });
}

function keysOf(entries: readonly { readonly key: string }[]): string[] {
  return entries.map(({ key }) => key);
}

/** Enough of a key (with its kind) or of a holder to tell it from the others in a trace. */
function short(text: string): string {
  const start = text.indexOf(':', text.indexOf(':') + 1) + 1;
  return text.slice(start, start + 8);
}
