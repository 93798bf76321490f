import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { CacheStore, FillEntry } from '../../../src/stores/CacheStore.js';

const LEASE_MS = 10_000;
const LOCK_MS = 30_000;
const TTL_MS = 60_000;

/** What a load has seen so far. */
export interface LoadReport {
  reads: number;
  hits: number;
  fills: number;
  commits: number;
  /** Hits that were older than what had been acknowledged before their read began. */
  stale: string[];
  /** What the store rejected, as text. */
  errors: string[];
}

/**
 * Readers and writers over a database that is a map of versions, by the protocol of the contract: a writer locks, commits,
 * releases, and only then is its commit acknowledged; a reader that misses selects, dawdles, and fills under its lease or
 * guard. A writer that can't lock doesn't commit; one that can't release tries until it can.
 */
export class Load {
  readonly report: LoadReport = { reads: 0, hits: 0, fills: 0, commits: 0, stale: [], errors: [] };
  readonly #database = new Map<string, number>();
  readonly #acknowledged = new Map<string, number>();
  /** Row locks: the end of the last transaction that writes the row. */
  readonly #rows = new Map<string, Promise<void>>();
  readonly #workers: Promise<void>[] = [];
  #running = true;

  constructor(
    readonly stores: readonly CacheStore[],
    readonly keys: readonly string[],
    readonly region: string,
  ) {
    for (const store of stores) {
      for (let worker = 0; worker < 4; worker += 1) {
        this.#workers.push(this.#work(() => this.#read(store)));
      }
      this.#workers.push(
        this.#work(() => this.#write(store)),
        this.#work(() => this.#write(store)),
      );
    }
  }

  /** Waits until so many more hits, fills and commits went through: the load is healthy. */
  async progress(count = 100): Promise<void> {
    const { hits, fills, commits } = this.report;
    const deadline = performance.now() + 20_000;
    while (
      this.report.hits < hits + count ||
      this.report.fills < fills + count / 10 ||
      this.report.commits < commits + count / 10
    ) {
      if (performance.now() > deadline) {
        throw new Error(
          `The load stands still: ${JSON.stringify({ ...this.report, errors: this.report.errors.slice(-5) })}`,
        );
      }
      await sleep(10);
    }
  }

  async stop(): Promise<LoadReport> {
    this.#running = false;
    await Promise.all(this.#workers);
    return this.report;
  }

  async #work(step: () => Promise<void>): Promise<void> {
    while (this.#running) {
      try {
        await step();
      } catch (error) {
        this.report.errors.push(String(error));
      }
      await sleep(randomInt(3));
    }
  }

  async #read(store: CacheStore): Promise<void> {
    const key = this.keys[randomInt(this.keys.length)]!;
    const guarded = randomInt(3) === 0;
    const atLeast = this.#acknowledged.get(key) ?? 0;
    const permit: FillEntry['permit'] | undefined = guarded
      ? { kind: 'guard', region: this.region, sequence: await store.guard(this.region, { guardMs: LEASE_MS }) }
      : undefined;
    const [found] = await store.readMany([key], guarded ? {} : { leaseMs: LEASE_MS });
    this.report.reads += 1;
    if (found!.kind === 'hit') {
      this.report.hits += 1;
      if (Number(found!.value) < atLeast) this.report.stale.push(`${key}: ${found!.value} after ${atLeast}`);
      return;
    }
    const version = this.#database.get(key) ?? 0;
    await sleep(randomInt(8));
    const granted = found!.kind === 'leased' ? { kind: 'lease' as const, token: found!.token } : permit;
    if (granted) {
      const fill = { key, value: String(version), ttlMs: TTL_MS, permit: granted };
      const [written] = await store.fillMany([fill]);
      if (written) this.report.fills += 1;
    }
  }

  async #write(store: CacheStore): Promise<void> {
    await sleep(randomInt(20));
    const key = this.keys[randomInt(this.keys.length)]!;
    const entry = { key, region: this.region };
    const holder = String(randomInt(2 ** 47));
    const before = this.#rows.get(key);
    let free = (): void => {};
    this.#rows.set(key, new Promise((resolve) => (free = resolve)));
    await before;
    let version: number | undefined;
    try {
      await store.lockMany([entry], holder, LOCK_MS);
      await sleep(randomInt(4));
      version = (this.#database.get(key) ?? 0) + 1;
      this.#database.set(key, version);
      this.report.commits += 1;
    } catch (error) {
      this.report.errors.push(String(error));
    } finally {
      free();
    }
    await sleep(randomInt(4));
    const value = version !== undefined && randomInt(2) === 0 ? { value: String(version), ttlMs: TTL_MS } : {};
    for (let attempt = 1; attempt <= 100; attempt += 1) {
      try {
        await store.releaseMany([{ ...entry, ...(attempt === 1 && value) }], holder);
        break;
      } catch (error) {
        this.report.errors.push(String(error));
        await sleep(50);
      }
    }
    if (version !== undefined) this.#acknowledged.set(key, Math.max(version, this.#acknowledged.get(key) ?? 0));
  }
}
