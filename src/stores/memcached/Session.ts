import type { MemcachedConnection } from './servers.js';

/** A connection that has not answered for this long is cut: what waits for it fails, and the next use connects anew. */
const REPLY_MS = 2_000;

/** Most keys in one `get`. */
const GET_SIZE = 100;

/** Stands for the server's two ways to say that it has no room for an item. */
const NO_ROOM = 'NO_ROOM';

/** An item to store. */
export interface NewItem {
  readonly name: string;
  readonly text: string;
  /** As memcached takes it. 0: no end. */
  readonly seconds: number;
}

/** An item as it was found, and what it takes to change exactly that. */
export interface Found {
  readonly name: string;
  /** Where it was found: a unique number means nothing after a restart of the server, and that ends the session. */
  readonly session: Session;
  /** The server's number for this state of the item; no other state has it. `undefined`: there is no item. */
  readonly unique: string | undefined;
  /** As it was in that state or in a later one, in which case a change is not made. */
  readonly text: string | undefined;
}

/** A change of one item. */
export interface Change {
  readonly found: Found;
  /** What to store; `undefined` removes the item. */
  readonly to: Omit<NewItem, 'name'> | undefined;
}

/**
 * One connection to a server, from its beginning to its end; it is never opened again, so that replies to what was sent
 * before can't be taken for others. The server carries out commands in the order in which they are sent.
 */
export class Session {
  readonly #connection: MemcachedConnection;

  constructor(connection: MemcachedConnection) {
    this.#connection = connection;
  }

  get isOpen(): boolean {
    return this.#connection.isConnected();
  }

  async connect(): Promise<void> {
    await this.#answered(this.#connection.connect());
  }

  end(): void {
    void this.#connection.disconnect();
  }

  /** Rejects unless the server answers, and knows the meta commands (memcached 1.6). */
  async ping(): Promise<void> {
    await this.#answered(this.#connection.command('mn'));
  }

  /** What the server says of itself; nothing when the connection can't ask. */
  async stats(): Promise<Readonly<Record<string, string>>> {
    const reply = await this.#answered(this.#connection.command('stats', { isStats: true }));
    return typeof reply === 'object' && reply !== null ? (reply as Record<string, string>) : {};
  }

  /** Returns names and texts of the items that exist. */
  async getMany(names: readonly string[]): Promise<[name: string, text: string][]> {
    const parts: Promise<unknown>[] = [];
    for (let at = 0; at < names.length; at += GET_SIZE) {
      const requestedKeys = names.slice(at, at + GET_SIZE);
      parts.push(this.#connection.command(`get ${requestedKeys.join(' ')}`, { isMultiline: true, requestedKeys }));
    }
    const replies = (await this.#answered(Promise.all(parts))) as { foundKeys: string[]; values?: string[] }[];
    return replies.flatMap(({ foundKeys, values }) => foundKeys.map((name, at) => [name, values![at]!]));
  }

  /**
   * Reads items so that they can be changed. Where there is none, what `claims` has for the name is stored first. The
   * unique numbers are asked for before the texts, so that a text is never older than its number.
   */
  async find(names: readonly string[], claims?: (name: string) => Omit<NewItem, 'name'>): Promise<Found[]> {
    const [, replies, texts] = await Promise.all([
      claims && this.addMany(names.map((name) => ({ name, ...claims(name) }))),
      this.#sendAll(names.map((name) => `mg ${name} c`)),
      this.getMany(names),
    ]);
    const textByName = new Map(texts);
    return names.map((name, at) => {
      const unique = /^HD c(\d+)$/.exec(replies[at]!)?.[1];
      return { name, session: this, unique, text: unique === undefined ? undefined : textByName.get(name) };
    });
  }

  /** Stores items where there are none. Returns the names of those that were stored. */
  async addMany(items: readonly NewItem[]): Promise<string[]> {
    const replies = await this.#sendAll(items.map((item) => storing('add', item)));
    return items.map(({ name }) => name).filter((_, at) => replies[at] === 'STORED');
  }

  /** Changes items that are still as they were found. Returns the changes that were made. */
  async changeMany(changes: readonly Change[]): Promise<Change[]> {
    const replies = await this.#sendAll(
      changes.map(({ found: { name, unique }, to }) => {
        if (to === undefined) {
          // No item has the number 0.
          return `md ${name} C${unique ?? 0}`;
        }
        return unique === undefined ? storing('add', { name, ...to }) : storing('cas', { name, ...to }, ` ${unique}`);
      }),
    );
    // The server keeps what it could not replace: a lease, most likely, which nobody needs any more.
    const failed = changes.filter(({ found }, at) => replies[at] === NO_ROOM && found.unique !== undefined);
    await this.#sendAll(failed.map(({ found }) => `md ${found.name} C${found.unique}`));
    return changes.filter((_, at) => ['STORED', 'HD'].includes(replies[at]!));
  }

  async deleteMany(names: readonly string[]): Promise<never[]> {
    await this.#sendAll(names.map((name) => `delete ${name}`));
    return [];
  }

  #sendAll(commands: readonly string[]): Promise<string[]> {
    return this.#answered(Promise.all(commands.map((command) => this.#send(command))));
  }

  /** What the server has no room for is not stored; that is no failure. */
  async #send(command: string): Promise<string> {
    try {
      return String(await this.#connection.command(command));
    } catch (error) {
      if (error instanceof Error && /^SERVER_ERROR (object too large|out of memory)/.test(error.message)) {
        return NO_ROOM;
      }
      throw error;
    }
  }

  /** Ends the session at any other error: it isn't sure any more that the next reply belongs to the next command. */
  async #answered<T>(replies: Promise<T>): Promise<T> {
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      late.reject(new Error(`A memcached server did not answer for ${REPLY_MS} ms.`));
    }, REPLY_MS);
    try {
      return await Promise.race([replies, late.promise]);
    } catch (error) {
      this.end();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }
}

function storing(command: 'add' | 'cas', { name, text, seconds }: NewItem, unique = ''): string {
  return `${command} ${name} 0 ${seconds} ${Buffer.byteLength(text)}${unique}\r\n${text}`;
}
