import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import type { CacheStore } from '../stores/CacheStore.js';
import { trackingConnection, type ConnectRedis } from './connections.js';
import { now, type Moment } from './moment.js';

/** Where a server sends invalidations for a connection that speaks RESP2. */
const INVALIDATIONS = '__redis__:invalidate';

/** How long both connections and the start of tracking may take together. */
const OPEN_MS = 3_000;

/** Life of a heartbeat's key in the store. */
const BEAT_KEY_MS = 100;

/** A heartbeat that isn't back after so many intervals was lost with its connection. */
const MISSED_BEATS = 4;

/** What a link tells, and asks, the one who opened it. */
export interface LinkHost {
  /** Prefixes of the keys to follow, asked for when the link opens. */
  prefixes(): readonly string[];
  /** Time between heartbeats in milliseconds, asked for after each. */
  beatMs(): number;
  /** Keys that changed. */
  invalidated(keys: readonly string[]): void;
  /** The server was emptied. */
  flushed(): void;
  /** {@link TrackingLink.proof} was renewed. */
  proven(): void;
  /** The link is over, once: it failed to open, a connection was lost, or the server fell silent. Not after `close`. */
  lost(reason: Error): void;
}

/**
 * One life of the pair of connections that client-side caching takes with RESP2: the `tracker` turns tracking on and
 * the server sends the invalidations to the `subscriber`. With BCAST, they are those of all keys with given prefixes,
 * whoever reads or writes them, on whichever connection.
 *
 * The order of opening is: subscribe, track, heartbeat. Only the heartbeat's return shows that all of it works.
 *
 * **Heartbeat.** The store itself changes a key that no beat had before, and that key's invalidation comes back the way
 * that all come. The server sends invalidations in the order of the changes, on one connection: once a beat is
 * back, every invalidation of a change from before the beat was *sent* has been processed here. That moment is the
 * link's {@link proof}. Going out by the store's own connection, a beat also shows that values are read on the server
 * whose changes are followed, which after a failover may be two.
 *
 * Only one beat is under way at a time, and its key is new, so that nothing that is said about an older beat's key (it
 * expires, too) can stand in for it.
 *
 * (Within one turn of its event loop the server sends them by prefix instead, so that a change may come right behind a
 * beat that was sent after it. Both are of the same turn, some milliseconds, for which `NearCache` leaves a margin.)
 */
export class TrackingLink {
  readonly #host: LinkHost;
  readonly #store: CacheStore;
  readonly #subscriber: Redis;
  readonly #tracker: Redis;
  readonly #beatPrefix: string;
  readonly #asked = new Set<string>();
  readonly #tracked = new Set<string>();
  #redirect: string | undefined;
  #beats = 0;
  #beat: { readonly key: string; readonly sent: Moment } | undefined;
  #missed = 0;
  #proof: Moment | undefined;
  #timer: NodeJS.Timeout;
  #lastError: Error | undefined;
  #isOver = false;

  /**
   * @param store the one whose entries are followed
   * @param beatPrefix start of the heartbeat's keys
   */
  constructor(connect: ConnectRedis, store: CacheStore, beatPrefix: string, host: LinkHost) {
    this.#host = host;
    this.#store = store;
    this.#beatPrefix = `${beatPrefix}${randomUUID()}:`;
    this.#subscriber = connect(trackingConnection);
    this.#tracker = connect(trackingConnection);
    for (const connection of [this.#subscriber, this.#tracker]) {
      connection.on('error', (error: Error) => (this.#lastError = error));
      connection.on('close', () => this.#lose(new Error('A connection for client-side caching was closed.')));
    }
    this.#timer = setTimeout(() => this.#lose(new Error('Client-side caching took too long to start.')), OPEN_MS);
    this.#timer.unref();
    this.#open().catch((error: Error) => this.#lose(error));
  }

  /** When the last heartbeat that came back was sent: all that changed before is known here. */
  get proof(): Moment | undefined {
    return this.#proof;
  }

  /** Whether the server has confirmed to follow the keys with a prefix. */
  tracks(prefix: string): boolean {
    return this.#tracked.has(prefix);
  }

  /** Follows more keys. */
  track(prefixes: readonly string[]): void {
    // before: they are among those that the host names when the link opens
    if (this.#redirect !== undefined) this.#track(prefixes).catch((error: Error) => this.#lose(error));
  }

  close(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#proof = undefined;
    for (const connection of [this.#subscriber, this.#tracker]) {
      // of a closed connection it would wait for the close, and keep the process from its exit
      if (connection.status !== 'close' && connection.status !== 'end') connection.disconnect();
      // and for a peer that may be gone
      connection.stream?.destroy();
    }
  }

  async #open(): Promise<void> {
    await Promise.all([this.#subscriber.connect(), this.#tracker.connect()]);
    const id = await this.#subscriber.call('CLIENT', ['ID']);
    // its type says Buffer; invalidations come as an array of keys, or null
    this.#subscriber.on('messageBuffer', (channel: Buffer, keys: unknown) => {
      if (channel.toString() === INVALIDATIONS) this.#receive(keys as readonly Buffer[] | null);
    });
    await this.#subscriber.subscribe(INVALIDATIONS);
    this.#redirect = String(id);
    await this.#track([this.#beatPrefix, ...this.#host.prefixes()]);
    if (this.#isOver) return;
    clearTimeout(this.#timer);
    this.#tick();
  }

  async #track(prefixes: readonly string[]): Promise<void> {
    // a server refuses a prefix that it already follows for this connection
    const fresh = prefixes.filter((prefix) => !this.#asked.has(prefix));
    if (fresh.length === 0) return;
    for (const prefix of fresh) this.#asked.add(prefix);
    const named = fresh.flatMap((prefix) => ['PREFIX', prefix]);
    await this.#tracker.call('CLIENT', ['TRACKING', 'ON', 'REDIRECT', this.#redirect!, 'BCAST', ...named]);
    for (const prefix of fresh) this.#tracked.add(prefix);
  }

  #receive(keys: readonly Buffer[] | null): void {
    if (this.#isOver) return;
    if (keys === null) return this.#host.flushed();
    const others: string[] = [];
    for (const bytes of keys) {
      const key = bytes.toString();
      if (key === this.#beat?.key) this.#beatIsBack(this.#beat.sent);
      else if (!key.startsWith(this.#beatPrefix)) others.push(key);
    }
    if (others.length > 0) this.#host.invalidated(others);
  }

  #beatIsBack(sent: Moment): void {
    this.#beat = undefined;
    this.#missed = 0;
    this.#proof = sent;
    this.#host.proven();
  }

  /** Missed intervals are counted, not measured: a process that was stopped first gets to read what has arrived. */
  #tick(): void {
    if (this.#beat === undefined) this.#sendBeat();
    else this.#missed += 1;
    if (this.#missed >= MISSED_BEATS) {
      return this.#lose(new Error('The server of a near cache stopped answering.'));
    }
    this.#timer = setTimeout(() => this.#tick(), this.#host.beatMs());
    this.#timer.unref();
  }

  #sendBeat(): void {
    this.#beats += 1;
    const key = `${this.#beatPrefix}${this.#beats}`;
    this.#beat = { key, sent: now() };
    // a lease is the one change that a store makes for a key of which it knows nothing
    this.#store.readMany([key], { leaseMs: BEAT_KEY_MS }).catch((error: Error) => this.#lose(error));
  }

  #lose(reason: Error): void {
    if (this.#isOver) return;
    this.close();
    this.#host.lost(this.#lastError ?? reason);
  }
}
