import { ConfigurationError } from '../errors.js';
import type { CacheStore } from '../stores/CacheStore.js';
import { connector, type ConnectRedis, type TrackingSource } from './connections.js';
import { ageOf } from './moment.js';
import { TrackingLink } from './TrackingLink.js';

const FIRST_RETRY_MS = 25;
const LAST_RETRY_MS = 1_000;

/** Heartbeats per `maxStaleness`. */
const BEATS = 4;
const SHORTEST_BEAT_MS = 10;
/** Time between heartbeats while nobody listens. */
const IDLE_BEAT_MS = 1_000;

/** One who wants to know what changes below a prefix. */
export interface ChannelListener {
  /** Start of its keys. No listener's prefix may be the start of another's, but two may have the same. */
  readonly prefix: string;
  /** How often the channel proves itself: four times in so many milliseconds, or more. */
  readonly maxStalenessMs: number;
  /** Keys with the prefix that changed, or may have. */
  invalidate(keys: readonly string[]): void;
  /** Anything may have changed. */
  invalidateAll(): void;
}

/** What an {@link InvalidationChannel} is made of. */
export interface InvalidationChannelOptions {
  /** The store whose entries are followed. Its own connection carries the heartbeat. */
  readonly store: CacheStore;
  /** What the store was opened from, for two more connections to its server. */
  readonly source: TrackingSource;
  /** Start of every key of the library's; the heartbeat's own keys are below `<prefix>:near-cache:`. */
  readonly prefix: string;
  /** Called with the reason when the channel is lost or can't be opened; once until it works again. Must not throw. */
  readonly onLost?: (reason: Error) => void;
}

/**
 * Tells near caches of one Redis server (6.2 or later, or Valkey) which entries have changed, whoever changed
 * them, by the server's client-side caching (`CLIENT TRACKING`). It opens two connections of its own at its first use,
 * and opens them again, with growing pauses of up to a second, until it is closed.
 *
 * As soon as either connection is lost, or the store fails a heartbeat, every listener is told that anything may have
 * changed, and the channel proves nothing until both are back and tracking is on again. See {@link TrackingLink} for
 * what a proof is.
 *
 * A user of the server with restricted rights needs, beside what the store needs, `+client|id +client|tracking
 * +subscribe` and the channel `&__redis__:invalidate`.
 */
export class InvalidationChannel {
  readonly #connector: () => Promise<ConnectRedis>;
  readonly #options: InvalidationChannelOptions;
  readonly #listeners = new Map<string, Set<ChannelListener>>();
  #beatMs = IDLE_BEAT_MS;
  #link: TrackingLink | undefined;
  #retry: NodeJS.Timeout | undefined;
  #failures = 0;
  #isStarted = false;
  #isClosed = false;

  /**
   * Connects nothing yet.
   *
   * @throws {ConfigurationError} when the source can't be followed, such as a client of Redis Cluster
   */
  constructor(options: InvalidationChannelOptions) {
    this.#connector = connector(options.source);
    this.#options = options;
  }

  /** @throws {ConfigurationError} when another listener's prefix overlaps, which Redis doesn't allow */
  attach(listener: ChannelListener): void {
    const { prefix } = listener;
    const rival = [...this.#listeners.keys()].find((other) => prefix !== other && overlap(prefix, other));
    if (prefix === '' || rival !== undefined) {
      throw new ConfigurationError(
        `A near cache can't have the prefix '${prefix}': it overlaps with '${rival ?? ''}'.`,
      );
    }
    const same = this.#listeners.get(prefix) ?? new Set();
    this.#listeners.set(prefix, same.add(listener));
    this.#measureBeat();
    this.#link?.track([prefix]);
  }

  /** The server goes on following the prefix until the connections are made anew. */
  detach(listener: ChannelListener): void {
    const same = this.#listeners.get(listener.prefix);
    same?.delete(listener);
    if (same?.size === 0) this.#listeners.delete(listener.prefix);
    this.#measureBeat();
  }

  /** Connects, if it hasn't yet. */
  start(): void {
    if (this.#isStarted || this.#isClosed) return;
    this.#isStarted = true;
    this.#open().catch((error: Error) => this.#lost(error));
  }

  /** Whether everything that changed below `prefix` until `withinMs` milliseconds ago is known here. */
  isProven(prefix: string, withinMs: number): boolean {
    const proof = this.#link?.proof;
    return proof !== undefined && ageOf(proof) <= withinMs && this.#link!.tracks(prefix);
  }

  /** Closes both connections at once, for good. May be called twice. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#retry);
    this.#link?.close();
    this.#link = undefined;
    this.#invalidateAll();
  }

  async #open(): Promise<void> {
    const connect = await this.#connector();
    if (this.#isClosed) return;
    const { store, prefix } = this.#options;
    this.#link = new TrackingLink(connect, store, `${prefix}:near-cache:`, {
      prefixes: () => [...this.#listeners.keys()],
      beatMs: () => this.#beatMs,
      invalidated: (keys) => this.#invalidate(keys),
      flushed: () => this.#invalidateAll(),
      proven: () => (this.#failures = 0),
      lost: (reason) => this.#lost(reason),
    });
  }

  #invalidate(keys: readonly string[]): void {
    for (const [prefix, listeners] of this.#listeners) {
      const own = keys.filter((key) => key.startsWith(prefix));
      if (own.length > 0) for (const listener of listeners) listener.invalidate(own);
    }
  }

  #invalidateAll(): void {
    for (const listeners of this.#listeners.values()) for (const listener of listeners) listener.invalidateAll();
  }

  #lost(reason: Error): void {
    this.#link = undefined;
    if (this.#isClosed) return;
    const isNews = this.#failures === 0;
    // a link that never proved anything had nothing kept by it
    if (isNews) this.#invalidateAll();
    const pause = Math.min(FIRST_RETRY_MS * 2 ** this.#failures, LAST_RETRY_MS);
    this.#failures += 1;
    // spread: after a restart of the server, not every process comes at the same instant
    this.#retry = setTimeout(
      () => void this.#open().catch((error: Error) => this.#lost(error)),
      pause * (0.5 + Math.random() / 2),
    );
    this.#retry.unref();
    if (isNews) this.#options.onLost?.(reason);
  }

  #measureBeat(): void {
    const all = [...this.#listeners.values()].flatMap((listeners) => [...listeners]);
    const shortest = Math.min(BEATS * IDLE_BEAT_MS, ...all.map(({ maxStalenessMs }) => maxStalenessMs));
    this.#beatMs = Math.max(SHORTEST_BEAT_MS, shortest / BEATS);
  }
}

function overlap(one: string, other: string): boolean {
  return one.startsWith(other) || other.startsWith(one);
}
