/*
 * What the triggers write and the relay reads. The triggers of a table live in its owner's migrations, so names and
 * shapes here are a format: whoever changes what a trigger does raises TRIGGER_VERSION.
 */

/** Name of the table that holds the changes which no relay has delivered yet. */
export const CHANGE_LOG_TABLE = 'plus_change_log';

/** The channel on which every logged change is notified. */
export const CHANGE_CHANNEL = 'plus_change';

/**
 * Part of the triggers' names: a host that compares names alone then sees a new version as a change.
 *
 * @public
 */
export const TRIGGER_VERSION = 3;

/** The most keys that one row of the log holds. */
export const MAX_LOGGED_KEYS = 1_000;

/**
 * The most keys that one statement logs; a larger one says that any row may have changed, so that the memory which its
 * trigger takes has a limit.
 */
export const MAX_STATEMENT_KEYS = 1_000_000;

/** Keys of at least so many bytes are left out of a notification: PostgreSQL allows 8 000, and names are beside them. */
export const MAX_NOTIFIED_BYTES = 7_000;

/** What a cached table is watched for. INSERT isn't: that a row doesn't exist is never cached. */
export const WATCHED_EVENTS = ['update', 'delete', 'truncate'] as const;

export type WatchedEvent = (typeof WATCHED_EVENTS)[number];

/**
 * A primary key as the database had it before the change, by column.
 *
 * @public
 */
export type ChangedKey = Readonly<Record<string, unknown>>;

/**
 * What a notification on {@link CHANGE_CHANNEL} says.
 *
 * @public
 */
export interface ChangeNotification {
  readonly schema: string;
  readonly table: string;
  /** `undefined`: any row of the table may have changed. Numbers beyond 2^53 are not exact here, unlike in the log. */
  readonly keys: readonly ChangedKey[] | undefined;
}

/** The name of a watching trigger: `plus_v3_update`. */
export function triggerName(event: WatchedEvent, version: number = TRIGGER_VERSION): string {
  return `plus_v${version}_${event}`;
}

/**
 * The version in a trigger's name; `undefined` when it is none of the library's.
 *
 * @public
 */
export function triggerVersion(name: string): number | undefined {
  const version = /^plus_v(\d+)_(?:update|delete|truncate)$/.exec(name)?.[1];
  return version === undefined ? undefined : Number(version);
}

/**
 * What a notification says; `undefined` when the payload is none of the triggers': anybody may notify the channel.
 *
 * @public
 */
export function parseNotification(payload: string): ChangeNotification | undefined {
  try {
    const { s: schema, t: table, k: keys } = JSON.parse(payload) as Record<string, unknown>;
    if (typeof schema !== 'string' || typeof table !== 'string') return undefined;
    return { schema, table, keys: Array.isArray(keys) ? (keys as ChangedKey[]) : undefined };
  } catch {
    return undefined;
  }
}
