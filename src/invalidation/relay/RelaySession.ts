import { ConfigurationError } from '../../errors.js';
import type { Row } from '../../orm/context.js';
import {
  destroyConnection,
  type ConnectDirectly,
  type DirectClient,
  type Notification,
} from '../../orm/direct-connection.js';
import { CHANGE_CHANNEL } from '../change-log.js';

/** The longest that a statement may take before its connection counts as lost. */
const STATEMENT_MS = 30_000;

/** The same for a heartbeat, which has nothing to wait for. */
const BEAT_MS = 5_000;

/** How long a connection may take to say good-bye. */
const GOODBYE_MS = 1_000;

/** Lets the server notice within some 20 s that this end is gone, so that another relay gets the lock. */
const KEEPALIVE = `select set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '3', false),
  set_config('tcp_keepalives_count', '3', false), set_config('statement_timeout', '${STATEMENT_MS}', false),
  set_config('lock_timeout', '${STATEMENT_MS}', false)`;

const BEAT = `select pg_backend_pid() as pid,
  exists (select from pg_listening_channels() as c (name) where c.name = '${CHANGE_CHANNEL}') as "isListening"`;

/** How a session is opened. */
export interface SessionOptions {
  readonly connect: ConnectDirectly;
  /** Whether the user says that the connection is a direct one. */
  readonly isNamedDirect: boolean;
  /** Called with the payload of each change that is notified. Must not throw. */
  readonly onChange: (payload: string) => void;
}

/**
 * One life of the relay's connection. It listens from its opening until {@link ended}, and everything that was notified
 * in between has been passed on, in order; or else it is over.
 */
export class RelaySession {
  /** Fulfilled, with the reason, once the connection is lost or closed. */
  readonly ended: Promise<Error>;
  readonly #client: DirectClient;
  readonly #end: (reason: Error) => void;
  #pid = 0;
  #isOver = false;
  /** Ends with the statement before: a client takes one at a time. */
  #idle: Promise<unknown> = Promise.resolve();

  private constructor({ connect, onChange }: SessionOptions) {
    const { promise, resolve } = Promise.withResolvers<Error>();
    this.ended = promise;
    this.#end = resolve;
    this.#client = connect();
    this.#client.on('notification', ({ channel, payload }: Notification) => {
      if (channel === CHANGE_CHANNEL && !this.#isOver) onChange(payload ?? '');
    });
    this.#client.on('error', (error) => this.lose(error));
    this.#client.on('end', () => this.lose(new Error('PostgreSQL closed the connection of the relay.')));
  }

  /**
   * Connects and listens.
   *
   * @throws {ConfigurationError} when a pooler stands in between
   */
  static async open(options: SessionOptions): Promise<RelaySession> {
    const session = new RelaySession(options);
    try {
      await session.#client.connect();
      await session.#requireSession(options);
      await session.query(KEEPALIVE);
      await session.query(`listen ${CHANGE_CHANNEL}`);
      await session.beat();
      return session;
    } catch (error) {
      session.lose(error as Error);
      throw error;
    }
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** From now on an application that has nothing else to do may end. */
  unref(): void {
    if (!this.#isOver) this.#client.unref();
  }

  /** Runs one statement, after those before it. If it isn't answered, the connection is over. */
  async query<R = Row>(text: string, values: unknown[] = [], limitMs = STATEMENT_MS): Promise<R[]> {
    const result = this.#idle.then(() => this.#send<R>(text, values, limitMs));
    this.#idle = result.catch(() => undefined);
    return result;
  }

  async #send<R>(text: string, values: unknown[], limitMs: number): Promise<R[]> {
    let isAnswered = false;
    const giveUp = (): void => {
      if (!isAnswered) this.lose(new Error(`PostgreSQL did not answer the relay within ${limitMs} ms.`));
    };
    // a process that was suspended first gets to read what has arrived
    const timer = setTimeout(() => setImmediate(giveUp), limitMs);
    timer.unref();
    try {
      const { rows } = await this.#client.query(text, values);
      return rows as R[];
    } finally {
      isAnswered = true;
      clearTimeout(timer);
    }
  }

  /**
   * Makes sure that the connection works and still listens. PostgreSQL sends a session what was notified before it says
   * that a statement is done: when this is back, every change that was committed before it was sent has been passed on.
   */
  async beat(): Promise<void> {
    const [row] = await this.query<{ pid: number; isListening: boolean }>(BEAT, [], BEAT_MS);
    if (row?.pid === this.#pid && row.isListening) return;
    const error = poolerError();
    this.lose(error);
    throw error;
  }

  /** Ends the connection, because of `reason`. */
  lose(reason: Error): void {
    if (this.#isOver) return;
    this.#isOver = true;
    destroyConnection(this.#client);
    this.#end(reason);
  }

  /** Ends the connection in an orderly way; the server gives its lock free. */
  async close(): Promise<void> {
    if (this.#isOver) return;
    this.#isOver = true;
    // a process that waits for this must not end before
    this.#client.ref();
    const timer = setTimeout(() => destroyConnection(this.#client), GOODBYE_MS);
    await this.#client.end().catch(() => undefined);
    clearTimeout(timer);
    this.#end(new Error('The relay was closed.'));
  }

  /** A pooler gives its clients process ids of its own. One that is named on purpose may still give whole sessions. */
  async #requireSession({ connect, isNamedDirect }: SessionOptions): Promise<void> {
    this.#pid = await pidOf(this.#client);
    if (this.#pid === this.#client.processID) return;
    if (!isNamedDirect || (await isShared(connect, this.#pid))) throw poolerError();
  }
}

async function pidOf(client: DirectClient): Promise<number> {
  const { rows } = await client.query('select pg_backend_pid() as pid');
  return rows[0]!.pid as number;
}

/** Whether a server process that already has a client takes another one: then it is nobody's own. */
async function isShared(connect: ConnectDirectly, pid: number): Promise<boolean> {
  const other = connect();
  other.on('error', () => undefined);
  try {
    await other.connect();
    return (await pidOf(other)) === pid;
  } finally {
    await other.end().catch(() => undefined);
  }
}

function poolerError(): ConfigurationError {
  return new ConfigurationError(
    'A pooler stands between the relay and PostgreSQL, so that it has no session in which to listen and to hold its ' +
      "lock: name a direct connection in the option 'relay.connection' of PlusSubscriber.",
  );
}
