import type { EntityManager } from '@mikro-orm/postgresql';
import { ConfigurationError } from '../errors.js';
import type { Row } from './context.js';

/** What the server sends to a connection that listens. */
export interface Notification {
  readonly channel: string;
  readonly payload?: string | undefined;
}

/** The part of a `pg` client that this library uses on a connection of its own. */
export interface DirectClient {
  /** The server process that the client was told it talks to; a pooler makes one up. */
  readonly processID: number | null;
  connect(): Promise<unknown>;
  query(text: string, values?: unknown[]): Promise<{ rows: Row[] }>;
  end(): Promise<void>;
  /** Whether the connection keeps the process alive. */
  ref(): void;
  unref(): void;
  on(event: 'notification', listener: (notification: Notification) => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  on(event: 'end', listener: () => void): unknown;
}

/** Makes clients that aren't connected yet. */
export type ConnectDirectly = () => DirectClient;

/** MikroORM's pool, as far as it says how its clients are made. */
interface PoolLike {
  readonly Client: new (config: object) => DirectClient;
  readonly options: object & { readonly password?: unknown; readonly types?: unknown; readonly ssl?: unknown };
}

const settings = { application_name: 'mikro-orm-plus relay', keepAlive: true, connectionTimeoutMillis: 5_000 };

/**
 * A way to open connections outside of MikroORM's pool, with the pool's own client class and settings, so that values
 * arrive as the driver gives them. The pool isn't asked again later: MikroORM would open it anew after its close.
 *
 * @param url of another way to the same database, past a pooler; TLS settings are the pool's unless it has some
 * @throws {ConfigurationError} when the driver has no pool of `pg` clients, such as PGlite
 */
export async function directConnector(em: EntityManager, url?: string): Promise<ConnectDirectly> {
  const pool: unknown = await em.getConnection('write').getNativeClient();
  if (!isPool(pool)) throw noPoolError();
  const { Client, options } = pool;
  const { types, ssl } = options;
  const config =
    url === undefined
      ? // pg hides the password from copies
        { ...options, ...settings, password: options.password }
      : {
          ...(types === undefined ? {} : { types }),
          ...(ssl === undefined ? {} : { ssl }),
          ...settings,
          connectionString: url,
        };
  return () => new Client({ ...config });
}

/** Cuts a client's connection at once, whether its peer is still there or not. */
export function destroyConnection(client: DirectClient): void {
  (client as unknown as { connection?: { stream?: { destroy(): void } } }).connection?.stream?.destroy();
}

function isPool(pool: unknown): pool is PoolLike {
  return (
    typeof pool === 'object' &&
    pool !== null &&
    'Client' in pool &&
    typeof pool.Client === 'function' &&
    'options' in pool
  );
}

function noPoolError(): ConfigurationError {
  return new ConfigurationError(
    "The relay needs a connection of its own, which this driver can't open (PGlite has but one): leave out the option " +
      "'relay' of PlusSubscriber. Within one process the cache needs no relay for what goes through MikroORM.",
  );
}
