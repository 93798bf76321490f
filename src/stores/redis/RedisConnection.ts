import { setTimeout as delay } from 'node:timers/promises';
import type { Disconnect, RedisClientLike } from './redis-client.js';
import type { RedisScript } from './scripts.js';

/** How long `close` waits for commands under way, such as the release of a lock. */
const CLOSE_MS = 1_000;

/** A client that was handed in, or one that is made at the first use and closed in the end. */
export class RedisConnection<Client extends RedisClientLike> {
  readonly #source: Client | (() => Promise<Client & Disconnect>);
  #owned: Promise<Client & Disconnect> | undefined;
  /** The client, once there is one. */
  #ready: Client | undefined;
  /** What has no reply yet. */
  readonly #underWay = new Set<Promise<unknown>>();
  #closed = false;

  constructor(source: Client | (() => Promise<Client & Disconnect>)) {
    this.#source = source;
    if (typeof source !== 'function') this.#ready = source;
  }

  /** Lets `close` wait for what `work` does with the client. */
  use<T>(work: (client: Client) => Promise<T>): Promise<T> {
    if (this.#closed) {
      return Promise.reject(new Error('The Redis store is closed.'));
    }
    const result = this.#ready ? invoke(work, this.#ready) : this.#client().then(work);
    const end = (): unknown => this.#underWay.delete(result);
    this.#underWay.add(result);
    result.then(end, end);
    return result;
  }

  run(script: RedisScript, keys: readonly string[], args: readonly string[]): Promise<unknown> {
    const rest = [String(keys.length), ...keys, ...args];
    return this.use((client) =>
      client.call('EVALSHA', [script.sha1, ...rest]).catch((error: unknown) => {
        // The server has just started, or forgot its scripts. Nothing was executed, so sending it again is safe.
        if (error instanceof Error && error.message.startsWith('NOSCRIPT')) {
          return client.call('EVAL', [script.source, ...rest]);
        }
        throw error;
      }),
    );
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#owned !== undefined) {
      await Promise.race([Promise.allSettled(this.#underWay), delay(CLOSE_MS, undefined, { ref: false })]);
      // A client that could not be made needs no closing.
      const client = await this.#owned.catch(() => undefined);
      client?.disconnect();
    }
  }

  async #client(): Promise<Client> {
    if (typeof this.#source !== 'function') {
      return this.#source;
    }
    this.#owned ??= this.#source();
    this.#ready = await this.#owned;
    return this.#ready;
  }
}

/** What `work` throws at once becomes a rejection too. */
function invoke<Client, T>(work: (client: Client) => Promise<T>, client: Client): Promise<T> {
  try {
    return work(client);
  } catch (error) {
    return Promise.reject(error instanceof Error ? error : new Error(String(error)));
  }
}
