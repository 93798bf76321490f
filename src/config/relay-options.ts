import { ConfigurationError } from '../errors.js';
import { refuseUnknown, requireMilliseconds } from './region-options.js';

/** Options of the relay, which removes rows from the cache that were changed past MikroORM. */
export interface RelayOptions {
  /**
   * URL of a direct connection to the same database (`postgresql://…`). Set it when the ORM's own goes through a pooler,
   * such as PgBouncer in transaction mode: the relay listens and holds a lock, which takes a session. Default: the
   * ORM's own settings.
   */
  connection?: string;
  /**
   * How often the log is looked at without being told of a change, in milliseconds, from 10. Notifications normally
   * make it a matter of milliseconds; this is what remains when one is lost. Default: 5 000.
   */
  pollInterval?: number;
  /** Most rows of the log that are read at a time, 1 to 10 000; each names up to 1 000 changed rows. Default: 1 000. */
  batchSize?: number;
  /** Schema of the log table. Default: the ORM's default schema. Must be the one that the triggers write to. */
  schema?: string;
}

/** Options of the relay with nothing left open. */
export interface ResolvedRelay {
  readonly connection: string | undefined;
  readonly pollInterval: number;
  readonly batchSize: number;
  readonly schema: string | undefined;
}

const OWNER = 'relay of PlusSubscriber';
const MAX_BATCH = 10_000;
const SHORTEST_POLL_MS = 10;

const relayDefaults: ResolvedRelay = {
  connection: undefined,
  pollInterval: 5_000,
  batchSize: 1_000,
  schema: undefined,
};

/**
 * @returns `undefined` when there is to be no relay
 * @throws {ConfigurationError} for an unknown option or a value that can't work; its message never shows the URL
 */
export function resolveRelay(options: boolean | RelayOptions | undefined): ResolvedRelay | undefined {
  if (options === undefined || options === false) return undefined;
  if (options === true) return relayDefaults;
  if (typeof options !== 'object' || options === null) {
    throw new ConfigurationError(`${OWNER}: must be true, false or an object of options.`);
  }
  refuseUnknown(OWNER, options, new Set(Object.keys(relayDefaults)));
  const { connection, pollInterval, batchSize, schema } = options;
  const relay: ResolvedRelay = {
    connection,
    schema,
    pollInterval: pollInterval ?? relayDefaults.pollInterval,
    batchSize: batchSize ?? relayDefaults.batchSize,
  };
  requireMilliseconds(OWNER, 'pollInterval', relay.pollInterval);
  if (relay.pollInterval < SHORTEST_POLL_MS) {
    throw new ConfigurationError(`${OWNER}: pollInterval must be at least ${SHORTEST_POLL_MS} ms.`);
  }
  if (!Number.isInteger(relay.batchSize) || relay.batchSize < 1 || relay.batchSize > MAX_BATCH) {
    throw new ConfigurationError(`${OWNER}: batchSize must be a whole number from 1 to ${MAX_BATCH}.`);
  }
  if (schema !== undefined && (typeof schema !== 'string' || schema === '')) {
    throw new ConfigurationError(`${OWNER}: schema must be the name of a schema.`);
  }
  if (connection !== undefined && !isPostgresUrl(connection)) {
    throw new ConfigurationError(`${OWNER}: connection must be a URL that starts with postgresql:// or postgres://.`);
  }
  return Object.freeze(relay);
}

function isPostgresUrl(text: unknown): boolean {
  return typeof text === 'string' && ['postgres:', 'postgresql:'].includes(URL.parse(text)?.protocol ?? '');
}
