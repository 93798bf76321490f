import type { MemcachedServerSource } from './servers.js';
import { Session } from './Session.js';

/** A server, and the session with it. */
export class Server {
  readonly id: string;
  readonly #source: MemcachedServerSource;
  #session: Session | undefined;
  #connecting: Promise<Session> | undefined;

  constructor(source: MemcachedServerSource) {
    this.id = source.id;
    this.#source = source;
  }

  /** The session that is open, or a new one. */
  async session(): Promise<Session> {
    if (this.#session?.isOpen) {
      return this.#session;
    }
    this.#connecting ??= this.#connect().finally(() => (this.#connecting = undefined));
    return this.#connecting;
  }

  /** What the server says of itself, asked in a session of its own. */
  async stats(): Promise<Readonly<Record<string, string>>> {
    const session = new Session(await this.#source.connection());
    try {
      await session.connect();
      await session.ping();
      return await session.stats();
    } finally {
      session.end();
    }
  }

  /** Ends the session that is open, and the one that is being opened. */
  async end(): Promise<void> {
    this.#session?.end();
    const session = await this.#connecting?.catch(() => undefined);
    session?.end();
  }

  async #connect(): Promise<Session> {
    const session = new Session(await this.#source.connection());
    await session.connect();
    this.#session = session;
    return session;
  }
}
