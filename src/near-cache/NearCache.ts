import { LRUCache } from 'lru-cache';
import type { ChannelListener, InvalidationChannel } from './InvalidationChannel.js';

/** Part of `maxStaleness` within which the channel must have proven itself; the rest is for what takes time beside. */
const PROOF_SHARE = 0.9;

/** Invalidations to be remembered one by one, for reads under way; older reads put nothing. */
const REMEMBERED = 4_096;

/** The ticket of a read that may not put anything. */
const VOID = -1;

/** Options of a {@link NearCache}. All times are in milliseconds. */
export interface NearCacheOptions {
  /** What tells of changes in the store. It may serve several caches, and stays open when one is closed. */
  readonly channel: InvalidationChannel;
  /** Start of the keys whose changes are told, such as those of a region's rows. */
  readonly prefix: string;
  /** Entries kept; the least recently used go first. Default: 1 000. */
  readonly maxEntries?: number;
  /** Life of an entry here. It adds to the entry's life in the store. Default: 60 000. */
  readonly ttlMs?: number;
  /**
   * The longest that an entry may be served after it was removed or replaced in the store. Default: 1 000. Normally
   * it takes milliseconds; this is the bound when a connection is silently lost. It must be well above the server's round
   * trip, so not less than 100, and costs the server a small command four times in that time.
   */
  readonly maxStalenessMs?: number;
  /** Called with the number of keys whose change the store told of. Must not throw. */
  readonly onInvalidated?: (keys: number) => void;
  /** Called when everything was dropped: the channel was lost, the server emptied, or on request. Must not throw. */
  readonly onDroppedAll?: () => void;
}

const defaults = { maxEntries: 1_000, ttlMs: 60_000, maxStalenessMs: 1_000 };

/** A copy of an entry, which doesn't change; a new value comes as a new copy. */
export interface Copy<Decoded> {
  readonly text: string;
  /** What the caller made of the text, to be kept as long as the copy. Not to be changed by anybody afterwards. */
  decoded: Decoded | undefined;
}

/** What a read of the store needs to put its result, from {@link NearCache.begin}. */
export type Ticket = number & { readonly __ticket: never };

/**
 * Copies of a store's entries in this process, as text: what is made of one, no two hits share, unless it never changes.
 *
 * **Promise**: what `get` returns at a time t was the entry's value in the store at some time from t - maxStaleness on.
 *
 * Why it holds. Let P be the channel's proof: when the last heartbeat that came back was sent. Every change that the
 * store made before P is known here by the time that the heartbeat is back (see `TrackingLink`). `get` answers only if
 * t - P is within `maxStaleness`, by the clocks at that moment and not by a timer, which would be late in a process that
 * was blocked or stopped. Say an entry was read in the store at x and first changed after that at m. If m is P or later,
 * the entry was right at P, and P is late enough. If m is before P, then its invalidation was processed before `get`:
 * - after `put`, and removed the entry;
 * - or before `put`, when the value was overtaken on its way here by the invalidation on the other connection. The
 *   ticket was taken before the read was sent, so before x and m, and hence before the invalidation: it is void.
 *
 * All this needs the server to have followed the key since x. Tickets are valid only if the channel was proven when they
 * were taken; when it is lost, they become void and the entries go; and there is no proof after that until the
 * server follows the keys again. If the server stopped following them and nobody here has noticed yet (a half-open
 * connection), heartbeats don't come back, and P stays where it is.
 *
 * Keys outside of `prefix` may be put as well. Nobody tells of their changes: they are held for `ttl`, and fit only for
 * hints that are checked by other means.
 */
export class NearCache<Decoded = never> {
  readonly #channel: InvalidationChannel;
  readonly #prefix: string;
  readonly #freshMs: number;
  readonly #options: NearCacheOptions;
  readonly #listener: ChannelListener;
  readonly #entries: LRUCache<string, Copy<Decoded>>;
  /** Counts invalidations. A ticket is its value; a ticket below `#floor` is void. */
  #sequence = 0;
  #floor = 0;
  /** When keys were last invalidated, oldest first. */
  readonly #invalidated = new Map<string, number>();
  #isClosed = false;

  constructor(options: NearCacheOptions) {
    const { channel, prefix } = options;
    const maxStalenessMs = options.maxStalenessMs ?? defaults.maxStalenessMs;
    this.#channel = channel;
    this.#prefix = prefix;
    this.#options = options;
    this.#freshMs = maxStalenessMs * PROOF_SHARE;
    this.#entries = new LRUCache({
      max: options.maxEntries ?? defaults.maxEntries,
      ttl: options.ttlMs ?? defaults.ttlMs,
      // the time is read for every hit, not remembered by a timer
      ttlResolution: 0,
    });
    this.#listener = {
      prefix,
      maxStalenessMs,
      invalidate: (keys) => {
        this.drop(keys);
        options.onInvalidated?.(keys.length);
      },
      invalidateAll: () => this.dropAll(),
    };
    channel.attach(this.#listener);
  }

  /** Whether it may serve and take entries at this moment. */
  get isOn(): boolean {
    return !this.#isClosed && this.#channel.isProven(this.#prefix, this.#freshMs);
  }

  /** The most entries that it keeps. */
  get maxEntries(): number {
    return this.#entries.max;
  }

  /** Number of entries, including those that have expired and not been asked for since. */
  get size(): number {
    return this.#entries.size;
  }

  /** The text of an entry, if there is one and it may be served. */
  get(key: string): string | undefined {
    return this.copyOf(key)?.text;
  }

  /** An entry, if there is one and it may be served. */
  copyOf(key: string): Copy<Decoded> | undefined {
    return this.isOn ? this.#entries.get(key) : undefined;
  }

  /** To be called before a read of the store is sent. Opens the channel at the first call. */
  begin(): Ticket {
    if (!this.#isClosed) this.#channel.start();
    return (this.isOn ? this.#sequence : VOID) as Ticket;
  }

  /**
   * Keeps what a read found. Refused when the key was invalidated or dropped since the read's ticket was taken, or the
   * channel isn't to be believed.
   *
   * @returns whether it was kept
   */
  put(key: string, value: string, ticket: Ticket): boolean {
    if (ticket < this.#floor || (this.#invalidated.get(key) ?? 0) > ticket || !this.isOn) return false;
    this.#entries.set(key, { text: value, decoded: undefined });
    return true;
  }

  /**
   * Removes entries that this process has changed, without waiting for the channel. To be called once the store has
   * confirmed the change: before that, a read could still put the old value with a new ticket.
   */
  drop(keys: readonly string[]): void {
    this.#sequence += 1;
    for (const key of keys) {
      this.#entries.delete(key);
      // deleted first, so that it moves to the end
      this.#invalidated.delete(key);
      this.#invalidated.set(key, this.#sequence);
    }
    while (this.#invalidated.size > REMEMBERED) {
      const [oldest, sequence] = this.#invalidated.entries().next().value!;
      this.#invalidated.delete(oldest);
      // a read from before can't tell any more whether it was about this key
      this.#floor = Math.max(this.#floor, sequence);
    }
  }

  /** Removes all entries, and makes the tickets of reads under way void. */
  dropAll(): void {
    this.#sequence += 1;
    this.#floor = this.#sequence;
    this.#invalidated.clear();
    this.#entries.clear();
    this.#options.onDroppedAll?.();
  }

  /** Switches off for good. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#channel.detach(this.#listener);
    this.#entries.clear();
    this.#invalidated.clear();
  }
}
