import { circuitBreaker, CircuitState, ConsecutiveBreaker, handleWhen, type CircuitBreakerPolicy } from 'cockatiel';
import { ConfigurationError, StoreError } from '../errors.js';
import { publish } from '../observability/channels.js';
import type { CacheStore, FillEntry, LockEntry, ReadOptions, ReadResult, ReleaseEntry } from './CacheStore.js';
import { gather } from './gather.js';
import { readEach } from './read-each.js';
import { within } from './within.js';

/** How often a store that failed is asked whether it is back. Nobody's call waits for that. */
const RETRY_MS = 250;

/** Removing a whole region looks at every key of the store: neither a read nor a commit waits for it. */
const CLEAR_MS = 60_000;

/** Entries to be remembered one by one; beyond that their whole regions are removed when the store is back. */
const REMEMBERED = 10_000;

/** Remembered entries that are told at a time, so that a time limit that fits a commit fits them. */
const CHUNK = 500;

/** What a {@link GuardedStore} is told about its store. */
export interface GuardedStoreOptions {
  /** Time limit of one operation in milliseconds. */
  readonly timeoutMs: number;
  /** Whether the store was opened for this use, and so is to be closed after it. */
  readonly owned: boolean;
  readonly onFailure: () => void;
  /** Told when the circuit has opened, with the failure that opened it, and when it has closed. */
  readonly onCircuit?: (isOpen: boolean, cause?: StoreFailure) => void;
}

/** What failed. */
export interface StoreFailure {
  readonly operation: string;
  readonly error: unknown;
}

/**
 * A store that may be slow or down. Every operation has a time limit; the first failure opens a circuit, and from then
 * on nobody waits: reads are misses, and writes that the store missed are remembered and kept out of this process's
 * reads. A probe in the background tells them to the store when it is back, and closes the circuit.
 */
export class GuardedStore {
  readonly alias: string;
  readonly #store: CacheStore;
  readonly #options: GuardedStoreOptions;
  readonly #owed = new Map<string, LockEntry>();
  /** With a token each, so that what is owed anew while a region is being removed stays owed. */
  readonly #owedRegions = new Map<string, symbol>();
  readonly #circuit = newCircuit();
  #retry: NodeJS.Timeout | undefined;
  #closed = false;
  /** What the circuit channel was told last. */
  #isToldOpen = false;

  /** Reads by their lease, gathered where they take a round trip. */
  readonly #reads = new Map<number | undefined, (keys: readonly string[]) => Promise<readonly ReadResult[]>>();
  readonly #fill: (entries: readonly FillEntry[]) => Promise<readonly boolean[]>;

  constructor(alias: string, store: CacheStore, options: GuardedStoreOptions) {
    this.alias = alias;
    this.#store = store;
    this.#options = options;
    this.#fill = this.#gathered((entries) => this.#send('fill', () => this.#store.fillMany(entries)));
  }

  get store(): CacheStore {
    return this.#store;
  }

  /** As the store's `readMany`; all misses when the store doesn't answer, or isn't to be believed for an entry. */
  async readMany(entries: readonly LockEntry[], options?: ReadOptions): Promise<readonly ReadResult[]> {
    const asked = this.#bypassesNone() ? entries : entries.filter((entry) => !this.isBypassed(entry));
    if (asked.length === 0) return entries.map(() => ({ kind: 'miss' }));
    const keys = asked.map(({ key }) => key);
    let results: readonly ReadResult[];
    try {
      results = await this.#reader(options?.leaseMs)(keys);
    } catch (error) {
      if (error instanceof ConfigurationError) throw error;
      return entries.map(() => ({ kind: 'miss' }));
    }
    if (asked === entries && this.#bypassesNone()) return results;
    const byKey = new Map(asked.map(({ key }, index) => [key, results[index]!]));
    // asked again: a write of this process may have failed to reach the store while the read was under way
    return entries.map((entry) =>
      this.isBypassed(entry) ? { kind: 'miss' } : (byKey.get(entry.key) ?? { kind: 'miss' }),
    );
  }

  /** As the store's `guard`; `undefined` when the store doesn't answer. */
  async guard(region: string, guardMs: number): Promise<string | undefined> {
    return this.#try(() => this.#send('guard', () => this.#store.guard(region, { guardMs })));
  }

  /** As the store's `fillMany`; refusals when the store doesn't answer. */
  async fillMany(entries: readonly FillEntry[]): Promise<boolean[]> {
    const results = await this.#try(() => this.#fill(entries));
    return results ? [...results] : entries.map(() => false);
  }

  /**
   * Puts soft locks on entries.
   *
   * @throws {StoreError} when the store doesn't confirm it
   */
  lockMany(entries: readonly LockEntry[], holder: string, lockMs: number): Promise<void> {
    return this.#confirm('lock', () => this.#store.lockMany(entries, holder, lockMs));
  }

  /**
   * Takes soft locks back; entries that the store could not be told of are remembered. A store that confirmed the locks is
   * told even if something else has failed in between: if it was emptied meanwhile, others may hold the old row.
   *
   * @returns whether the store was told
   */
  releaseMany(entries: readonly ReleaseEntry[], holder: string, isLocked = false): Promise<boolean> {
    return this.#orOwe('release', entries, () => this.#store.releaseMany(entries, holder), isLocked);
  }

  /** Removes entries; those that the store could not be told of are remembered. Returns whether it was told. */
  evictMany(entries: readonly LockEntry[]): Promise<boolean> {
    return this.#orOwe('evict', entries, () => this.#store.evictMany(entries));
  }

  /**
   * Removes all entries of a region.
   *
   * @throws {StoreError} when the store doesn't confirm it; the region is bypassed until it does
   */
  async clear(region: string): Promise<void> {
    try {
      await this.#confirm('clear', () => this.#store.clear(`${region}:`), CLEAR_MS);
    } catch (error) {
      this.#owedRegions.set(region, Symbol('owed'));
      this.#scheduleRetry();
      throw error;
    }
  }

  /** Keeps entries out of this process's reads until the store has been told to remove them. */
  owe(entries: readonly LockEntry[]): void {
    for (const entry of entries) this.#owed.set(entry.key, entry);
    if (this.#owed.size > REMEMBERED) {
      for (const { region } of this.#owed.values()) this.#owedRegions.set(region, Symbol('owed'));
      this.#owed.clear();
    }
    this.#scheduleRetry();
  }

  async ping(): Promise<void> {
    await this.#confirm('ping', () => this.#store.ping());
  }

  /** Closes a store that was opened here; one that was handed in stays its maker's to close. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#retry);
    // the last chance to tell what other processes would go on reading
    if (this.#owed.size > 0) await this.#payOwed().catch(() => undefined);
    if (this.#options.owned) await this.#store.close();
    this.#tellCircuit(false);
  }

  /** Whether an entry is kept out of this process's reads, since the store could not be told of a change. */
  isBypassed({ key, region }: LockEntry): boolean {
    return !this.#bypassesNone() && (this.#owed.has(key) || this.#owedRegions.has(region));
  }

  #bypassesNone(): boolean {
    return this.#owed.size === 0 && this.#owedRegions.size === 0;
  }

  #reader(leaseMs: number | undefined): (keys: readonly string[]) => Promise<readonly ReadResult[]> {
    let read = this.#reads.get(leaseMs);
    if (!read) {
      const options = leaseMs === undefined ? {} : { leaseMs };
      read = this.#gathered((keys) => this.#send('read', () => readEach(this.#store, keys, options)));
      this.#reads.set(leaseMs, read);
    }
    return read;
  }

  /** Operations of callers at one time become one; in this process's memory there is no round trip to be saved. */
  #gathered<Item, Result>(
    send: (items: readonly Item[]) => Promise<readonly Result[]>,
  ): (items: readonly Item[]) => Promise<readonly Result[]> {
    // what one region's options make impossible is no other's business
    return this.#store.capabilities.shared ? gather(send, (error) => error instanceof ConfigurationError) : send;
  }

  async #try<T>(send: () => Promise<T>): Promise<T | undefined> {
    try {
      return await send();
    } catch (error) {
      if (error instanceof ConfigurationError) throw error;
      return undefined;
    }
  }

  async #orOwe(
    operation: string,
    entries: readonly LockEntry[],
    send: () => Promise<void>,
    evenIfDown = false,
  ): Promise<boolean> {
    if (entries.length === 0) return true;
    try {
      await this.#send(operation, send, this.#options.timeoutMs, evenIfDown);
      return true;
    } catch {
      this.owe(entries.map(({ key, region }) => ({ key, region })));
      return false;
    }
  }

  async #confirm(operation: string, send: () => Promise<void>, limitMs?: number): Promise<void> {
    try {
      await this.#send(operation, send, limitMs);
    } catch (error) {
      if (error instanceof ConfigurationError) throw error;
      throw new StoreError(
        `The store '${this.alias}' did not confirm '${operation}': is it reachable, and fast enough?`,
        {
          cause: error,
        },
      );
    }
  }

  /** An open circuit is for the probe to close: a caller neither tries it nor waits for its outcome. */
  async #send<T>(
    operation: string,
    send: () => Promise<T>,
    limitMs = this.#options.timeoutMs,
    evenIfDown = false,
  ): Promise<T> {
    const isDown = this.#isDown;
    if (isDown && !evenIfDown) throw new Error('The store has failed before, and has not answered since.');
    try {
      return await within(limitMs, send);
    } catch (error) {
      if (error instanceof ConfigurationError) throw error;
      // success has nothing to tell the circuit, as the first failure opens it
      if (!isDown && !this.#isDown) await this.#circuit.execute(() => Promise.reject(error as Error)).catch(() => {});
      this.#scheduleRetry();
      this.#options.onFailure();
      publish('store', { store: this.alias, operation, error });
      this.#tellCircuit(this.#isDown, { operation, error });
      throw error;
    }
  }

  get #isDown(): boolean {
    return this.#circuit.state !== CircuitState.Closed;
  }

  #tellCircuit(isOpen: boolean, cause?: StoreFailure): void {
    if (isOpen === this.#isToldOpen || (this.#closed && isOpen)) return;
    this.#isToldOpen = isOpen;
    publish('circuit', { store: this.alias, state: isOpen ? 'open' : 'closed' });
    this.#options.onCircuit?.(isOpen, cause);
  }

  #scheduleRetry(): void {
    if (this.#retry || this.#closed) return;
    this.#retry = setTimeout(() => void this.#recover(), RETRY_MS);
    this.#retry.unref();
  }

  /** The probe: tells what is owed, and so closes the circuit. */
  async #recover(): Promise<void> {
    try {
      await this.#circuit.execute(() =>
        this.#owed.size > 0 ? this.#payOwed() : within(this.#options.timeoutMs, () => this.#store.ping()),
      );
      for (const [region, token] of this.#owedRegions) {
        await this.#circuit.execute(() => within(CLEAR_MS, () => this.#store.clear(`${region}:`)));
        if (this.#owedRegions.get(region) === token) this.#owedRegions.delete(region);
      }
    } catch {
      // the circuit knows
    }
    this.#retry = undefined;
    this.#tellCircuit(this.#isDown);
    if (this.#isDown || this.#owed.size > 0 || this.#owedRegions.size > 0) this.#scheduleRetry();
  }

  async #payOwed(): Promise<void> {
    const owed = [...this.#owed.values()];
    for (let start = 0; start < owed.length; start += CHUNK) {
      const chunk = owed.slice(start, start + CHUNK);
      await within(this.#options.timeoutMs, () => this.#store.evictMany(chunk));
      // what was owed anew meanwhile stays owed
      for (const entry of chunk) if (this.#owed.get(entry.key) === entry) this.#owed.delete(entry.key);
    }
  }
}

/** The first failure opens it. It may be probed at any time: the pace is the probe's, and no clock's that can be set back. */
function newCircuit(): CircuitBreakerPolicy {
  return circuitBreaker(
    handleWhen((error) => !(error instanceof ConfigurationError)),
    { breaker: new ConsecutiveBreaker(1), halfOpenAfter: Number.NEGATIVE_INFINITY },
  );
}
