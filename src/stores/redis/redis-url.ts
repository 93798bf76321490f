import { ConfigurationError } from '../../errors.js';

/** What a URL of Redis Cluster or Sentinel says. Such a URL names several hosts, which `URL` can't parse. */
export interface TopologyUrl {
  readonly kind: 'cluster' | 'sentinel';
  readonly tls: boolean;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly hosts: readonly { readonly host: string; readonly port: number }[];
  /** Of Sentinel: the name of the primary, the number of the database, the account at the sentinels themselves. */
  readonly masterName: string;
  readonly db: number;
  readonly sentinelUsername: string | undefined;
  readonly sentinelPassword: string | undefined;
}

const FORMS = {
  cluster: 'redis+cluster://[user:password@]host:port,host:port,…',
  sentinel: 'redis+sentinel://[user:password@]host:port,host:port,…/masterName[?db=0]',
};
const DEFAULT_PORTS = { cluster: 6_379, sentinel: 26_379 };
const SENTINEL_OPTIONS = ['db', 'sentinelUsername', 'sentinelPassword'];

/** Whether a URL is for {@link parseTopologyUrl}; if so, what for. */
export function topologyOf(url: string): TopologyUrl['kind'] | undefined {
  return /^rediss?\+(cluster|sentinel):/i.exec(url)?.[1]?.toLowerCase() as TopologyUrl['kind'] | undefined;
}

/** Parses a URL of Redis Cluster or Sentinel. Messages never show it: it may hold a password. */
export function parseTopologyUrl(url: string): TopologyUrl {
  const kind = topologyOf(url) ?? 'cluster';
  const refuse = (problem: string): never => {
    throw new ConfigurationError(`The URL of a Redis ${kind} store ${problem}. It has the form ${FORMS[kind]}.`);
  };
  const parts = /^(rediss?)\+\w+:\/\/(?:([^@/?#]*)@)?([^@/?#]+)(?:\/([^/?#]*))?(?:\?([^#]*))?$/i.exec(url);
  if (!parts) {
    return refuse("can't be parsed");
  }
  const [, scheme = '', account, hosts = '', path = '', query = ''] = parts;
  const decode = (text: string): string => {
    try {
      return decodeURIComponent(text);
    } catch {
      return refuse('has a % that is not part of an escape such as %40');
    }
  };
  const options = new URLSearchParams(query);
  const known = kind === 'sentinel' ? SENTINEL_OPTIONS : [];
  const unknown = [...options.keys()].find((name) => !known.includes(name));
  if (unknown !== undefined) {
    refuse(`has an option "${unknown}", which doesn't exist`);
  }
  if (kind === 'sentinel' ? path === '' : path !== '') {
    refuse(kind === 'sentinel' ? 'names no primary' : 'has a path, but a cluster has no databases to choose from');
  }
  const db = options.get('db') ?? '0';
  if (!/^\d+$/.test(db)) {
    refuse('has a db that is not a number');
  }
  const [, username, password] = /^([^:]*)(?::(.*))?$/s.exec(account ?? '') ?? [];
  return {
    kind,
    tls: scheme.toLowerCase() === 'rediss',
    username: username ? decode(username) : undefined,
    password: password ? decode(password) : undefined,
    hosts: hosts.split(',').map((text) => parseHost(text, DEFAULT_PORTS[kind]) ?? refuse('has a host that is none')),
    masterName: decode(path),
    db: Number(db),
    sentinelUsername: options.get('sentinelUsername') ?? undefined,
    sentinelPassword: options.get('sentinelPassword') ?? undefined,
  };
}

function parseHost(text: string, defaultPort: number): { host: string; port: number } | undefined {
  const [, v6, name, digits] = /^(?:\[([\da-f:.]+)\]|([^:[\]\s]+))(?::(\d+))?$/i.exec(text) ?? [];
  const host = v6 ?? name;
  const port = digits === undefined ? defaultPort : Number(digits);
  return host !== undefined && port > 0 && port < 65_536 ? { host, port } : undefined;
}
