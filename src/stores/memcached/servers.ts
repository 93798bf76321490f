import { ConfigurationError } from '../../errors.js';

/**
 * One connection to one memcached server, made and not connected yet. A `MemcacheNode` of the package `memcache` is one.
 */
export interface MemcachedConnection {
  connect(): Promise<void>;
  /** Closes the connection for good, at once. */
  disconnect(): Promise<void>;
  isConnected(): boolean;
  /**
   * Sends one command of memcached's text protocol, without its last line end, and resolves to the line that answers
   * it; with `isMultiline`, a `get`, to the values found; with `isStats`, `stats`, to an object of texts, which only
   * `doctor` asks for, on a connection of its own. Rejects with an error line. Commands are answered in order.
   */
  command(
    command: string,
    options?: { isMultiline?: boolean; requestedKeys?: string[]; isStats?: boolean },
  ): Promise<unknown>;
}

/** A memcached server, for those that a URL can't describe, such as one behind TLS. */
export interface MemcachedServerSource {
  /** Tells the servers of a store apart, and which keys live there: all processes must use the same. */
  readonly id: string;
  /** Makes a new connection; called again after one was lost. The store closes what it made. */
  connection(): MemcachedConnection | Promise<MemcachedConnection>;
}

const SCHEME = /^memcached:\/\//i;
const DEFAULT_PORT = 11_211;

/** No idle limit: the client's own would cut a connection that nobody happens to use. */
const NO_TIMEOUT = 2 ** 31 - 1;

/** The servers of `memcached://host:port,host:port`. Messages never show the URL: it may hold a password. */
export function parseServers(url: string): MemcachedServerSource[] {
  const servers = url.replace(SCHEME, '').replace(/\/$/, '').split(',').map(parseServer);
  if (!SCHEME.test(url) || new Set(servers.map(({ id }) => id)).size < servers.length) {
    throw new ConfigurationError(`The memcached:// URL of a store is wrong, or names a server twice. ${FORM}`);
  }
  return servers;
}

const FORM = 'It has the form memcached://host:port,host:port; the port is 11211 if it is left out.';

function parseServer(text: string): MemcachedServerSource {
  const url = URL.parse(`memcached://${text}`);
  const rest = url && url.username + url.password + url.pathname + url.search + url.hash;
  if (!url || url.hostname === '' || url.port === '0' || rest !== '') {
    throw new ConfigurationError(
      `The memcached:// URL of a store is wrong. ${FORM} For TLS, pass servers to MemcachedStore.`,
    );
  }
  const host = url.hostname.toLowerCase();
  const port = url.port === '' ? DEFAULT_PORT : Number(url.port);
  return {
    id: `${host}:${port}`,
    connection: async () => {
      const { MemcacheNode } = await importMemcache();
      return new MemcacheNode(host.replace(/^\[|\]$/g, ''), port, { timeout: NO_TIMEOUT });
    },
  };
}

/** `memcache` is an optional peer dependency, imported only here. */
async function importMemcache() {
  try {
    return await import('memcache');
  } catch (cause) {
    throw new ConfigurationError(
      'A memcached:// store needs the package `memcache`. Install it: npm install memcache',
      {
        cause,
      },
    );
  }
}

/**
 * The server that `name` lives on: the one with the highest score for it (rendezvous hashing), so that the order of
 * servers doesn't matter, and another server takes only its own share of the names.
 */
export function serverFor<T extends { readonly id: string }>(servers: readonly T[], name: string): T {
  let [best] = servers as [T, ...T[]];
  let bestScore = -1;
  if (servers.length > 1) {
    for (const server of servers) {
      const score = hash32(`${server.id} ${name}`);
      if (score > bestScore) {
        [best, bestScore] = [server, score];
      }
    }
  }
  return best;
}

/** FNV-1a, mixed once more: alone it leaves texts that end alike in the same order for all servers. */
function hash32(text: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at += 1) {
    hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
