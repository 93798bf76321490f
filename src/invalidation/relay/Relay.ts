import type { ResolvedRelay } from '../../config/relay-options.js';
import { ConfigurationError } from '../../errors.js';
import { publish } from '../../observability/channels.js';
import type { RelayRole, RelayStatus } from '../../observability/relay-status.js';
import type { ConnectDirectly } from '../../orm/direct-connection.js';
import { ChangeLog } from './ChangeLog.js';
import { Deliverer } from './Deliverer.js';
import { Failures } from './Failures.js';
import { LocalRegions } from './LocalRegions.js';
import { pause } from './pause.js';
import { RelaySession } from './RelaySession.js';
import type { WatchedTable } from './WatchedTable.js';

const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 5_000;

/** How long a delivery under way may take to end when the relay is closed. */
const CLOSING_MS = 1_000;

/** What a {@link Relay} is made of. */
export interface RelayParts {
  readonly options: ResolvedRelay;
  /** Schema of the log table. */
  readonly schema: string;
  connector(): Promise<ConnectDirectly>;
  /** The cached tables; asked again now and then, since entities may be discovered later. */
  tables(): readonly WatchedTable[];
}

/**
 * Brings changes that were made past MikroORM from the change log to the cache. It never throws into the application:
 * what fails is tried again, with growing pauses, and told by {@link status} and the channel `mikro-orm-plus:relay`.
 *
 * Every process that has one keeps one connection of its own, on which it listens. Of all processes, one is **active**:
 * the one that holds an advisory lock on that connection. It delivers (see `deliver`). The others **stand by**: they ask
 * for the lock once a second, and get it when the active one's session ends. A stand-by also looks after changes that
 * have been there for too long: because the active relay doesn't know their table (an older version of the application,
 * or another one over the same cache), hangs, or is gone without the server knowing. One helps at a time.
 *
 * Changes of tables that this process doesn't cache are left alone for those who do, and thrown away after a week.
 *
 * Regions in this process's own memory are followed by each process itself, see `LocalRegions`.
 */
export class Relay {
  readonly #parts: RelayParts;
  readonly #local: LocalRegions;
  readonly #deliverer: Deliverer;
  readonly #failures = new Failures();
  readonly #stop = new AbortController();
  /** Fulfilled once the first attempt to connect has succeeded or failed. */
  readonly #tried = Promise.withResolvers<void>();
  #tables: readonly WatchedTable[] = [];
  #role: RelayRole = 'disconnected';
  #session: RelaySession | undefined;
  #wake = new AbortController();
  #running: Promise<void> | undefined;
  #loops: Promise<unknown> = Promise.resolve();

  constructor(parts: RelayParts) {
    const { options, schema } = parts;
    const tables = (): readonly WatchedTable[] => this.#tables;
    const failures = this.#failures;
    const onRole = (role: RelayRole): void => this.#setRole(role);
    this.#parts = parts;
    this.#local = new LocalRegions({ tables, failures });
    this.#deliverer = new Deliverer({ ...options, schema, log: new ChangeLog(schema), tables, failures, onRole });
    this.#tried.promise.catch(() => undefined);
  }

  /**
   * Connects, if it hasn't yet, and goes on by itself.
   *
   * @returns when the first attempt is over; if it failed, it is repeated
   * @throws {ConfigurationError} when it can't ever work; the relay is then stopped
   */
  start(): Promise<void> {
    this.#running ??= this.#run().catch((error: Error) => {
      this.#failures.add('start', error);
      this.#setRole('stopped');
      this.#tried.reject(error);
    });
    return this.#tried.promise;
  }

  /** Ends the connection, so that another process takes over. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#session?.close();
    this.#wake.abort();
    const patience = new AbortController();
    await Promise.race([Promise.all([this.#running, this.#loops]), pause(CLOSING_MS, patience.signal, true)]);
    patience.abort();
    this.#setRole('stopped');
    this.#tried.resolve();
  }

  get status(): RelayStatus {
    const { delivered, backlog, lastDeliveryAt } = this.#deliverer;
    const lastError = this.#failures.last;
    return {
      role: this.#role,
      listening: this.#session !== undefined,
      delivered,
      ...(backlog === undefined ? {} : { backlog }),
      ...(lastDeliveryAt === undefined ? {} : { lastDeliveryAt }),
      ...(lastError === undefined ? {} : { lastError }),
    };
  }

  /** Whether what was committed until `maxStalenessMs` ago, wherever, is known to the regions in this process's memory. */
  isProven(maxStalenessMs: number): boolean {
    return this.#local.isProven(maxStalenessMs);
  }

  async #run(): Promise<void> {
    this.#tables = this.#parts.tables();
    const signal = this.#stop.signal;
    let connect: ConnectDirectly | undefined;
    for (let pauseMs = FIRST_RETRY_MS; !signal.aborted; pauseMs = Math.min(2 * pauseMs, LAST_RETRY_MS)) {
      try {
        connect ??= await this.#parts.connector();
        await this.#serve(connect);
        pauseMs = FIRST_RETRY_MS;
      } catch (error) {
        // one that comes later, after a change of the servers, may go by as it came
        if (error instanceof ConfigurationError && !this.#hasServed) throw error;
        this.#failures.add('connect', error as Error);
      }
      this.#tried.resolve();
      await pause(pauseMs, signal);
    }
  }

  #hasServed = false;

  /** Lives as long as one connection does. */
  async #serve(connect: ConnectDirectly): Promise<void> {
    const session = await RelaySession.open({
      connect,
      isNamedDirect: this.#parts.options.connection !== undefined,
      onChange: (payload) => this.#notified(payload),
    });
    if (this.#stop.signal.aborted) return session.close();
    this.#hasServed = true;
    this.#session = session;
    this.#failures.clear('connect');
    this.#local.open(session);
    this.#loops = Promise.all([this.#beat(session), this.#deliver(session)]);
    const reason = await session.ended;
    this.#session = undefined;
    this.#local.lose();
    this.#deliverer.lose();
    this.#wake.abort();
    if (this.#stop.signal.aborted) return;
    this.#failures.add('connect', reason);
    this.#setRole('disconnected');
  }

  #notified(payload: string): void {
    this.#local.take(payload);
    if (this.#deliverer.isActive) this.#wake.abort();
  }

  /** Proves the connection again and again, as long as it lasts. */
  async #beat(session: RelaySession): Promise<void> {
    while (!session.isOver) {
      try {
        await this.#local.beat(session);
      } catch (error) {
        // one that can't even answer this is of no use
        session.lose(error as Error);
      }
      await pause(this.#local.beatMs ?? this.#parts.options.pollInterval, this.#stop.signal);
    }
  }

  /** Delivers whenever it is told of a change, or the poll interval is over, as long as the connection lasts. */
  async #deliver(session: RelaySession): Promise<void> {
    while (!session.isOver) {
      // before anything is read: what is notified from here on is the next turn's
      const wake = (this.#wake = new AbortController());
      let pauseMs = this.#parts.options.pollInterval;
      try {
        this.#tables = this.#parts.tables();
        pauseMs = await this.#deliverer.turn(session);
        this.#failures.clear('deliver');
      } catch (error) {
        if (!session.isOver) this.#failures.add('deliver', error as Error);
      }
      this.#tried.resolve();
      // not before: who awaits the start must not end on the way
      session.unref();
      if (!session.isOver) await pause(pauseMs, wake.signal);
    }
  }

  #setRole(role: RelayRole): void {
    if (role === this.#role) return;
    const before = this.#role;
    this.#role = role;
    publish('relay', { kind: 'role', role, before });
  }
}
