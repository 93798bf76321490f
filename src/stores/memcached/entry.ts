import { createHash } from 'node:crypto';

/**
 * What a memcached item of ours holds: `kind`, `endsAt`, `stamp` and `content`, as text.
 *
 * memcached counts in seconds, so an item says in milliseconds when it ends, by the clock of who wrote it; the server
 * removes it a second or two after that. Clocks that differ make an item end early, never late by more than that.
 *
 * memcached can't list its keys, so `clear` removes nothing: it makes items unreachable. For each prefix of a key that
 * ends in a colon there is a generation, a random text in an item of its own. An item's stamp is a hash of the
 * generations of its key's prefixes, and an item whose stamp is not that of the present generations is dead. A
 * generation that is lost gets a new random text, so nothing from before can come back.
 */
export interface Entry {
  readonly kind: 'value' | 'lease' | 'sequence';
  /** Milliseconds since 1970. */
  readonly endsAt: number;
  readonly stamp: string;
  /** The value, the token of the lease, or the sequence's nonce. */
  readonly content: string;
}

const LETTERS = { value: 'v', lease: 'r', sequence: 's' } as const;
const KINDS = { v: 'value', r: 'lease', s: 'sequence' } as const;
const HEADER = /^([vrs])(\d{1,15}):([\w-]{22}):/;

export function encodeEntry({ kind, endsAt, stamp, content }: Entry): string {
  return `${LETTERS[kind]}${endsAt}:${stamp}:${content}`;
}

/** The entry in an item, or `undefined` if it is dead: over, of another generation, or not ours. */
export function liveEntry(text: string | undefined, stamp: string | undefined): Entry | undefined {
  const header = text && HEADER.exec(text);
  if (!header || header[3] !== stamp || Number(header[2]) <= Date.now()) {
    return undefined;
  }
  const kind = KINDS[header[1] as keyof typeof KINDS];
  return { kind, endsAt: Number(header[2]), stamp: header[3]!, content: text.slice(header[0].length) };
}

/** A key of this many parts or fewer can be cleared part by part; what is deeper is cleared with its parent. */
const MAX_LEVELS = 8;

/** The longest prefix of `key` that has a generation; empty if it has no colon. */
export function pathOf(key: string): string {
  let end = 0;
  for (let level = 0; level < MAX_LEVELS; level += 1) {
    const colon = key.indexOf(':', end);
    if (colon === -1) {
      break;
    }
    end = colon + 1;
  }
  return key.slice(0, end);
}

/** `a:b:` has the levels `a:` and `a:b:`. */
export function levelsOf(path: string): string[] {
  return Array.from(path.matchAll(/:/g), ({ index }) => path.slice(0, index + 1));
}

/** Short for the generations of a key's levels. */
export function stampOf(generations: readonly string[]): string {
  return createHash('sha256').update(generations.join('\n')).digest('base64url').slice(0, 22);
}

/** Plain names are kept, for people who look into the server; they don't look like a hash or a generation. */
const PLAIN = /^[!-"$-?A-~][!-~]{0,199}$/;

/** The name of a key in memcached, which takes 250 bytes without spaces and control characters. */
export function itemName(key: string): string {
  return PLAIN.test(key) ? key : `#${createHash('sha256').update(key).digest('base64url')}`;
}

/** The name of a level's generation; no key has it. */
export function generationName(level: string): string {
  return `@${itemName(level)}`;
}

const MAX_RELATIVE_S = 30 * 24 * 60 * 60;
/** memcached reads its times as signed 32-bit numbers. */
const MAX_TIME_S = 2 ** 31 - 1;

/**
 * The expiry to give the server for a life of `ms`. Its seconds begin anywhere within one of ours, so one is added. More
 * than 30 days would be taken for a time of day, and so is sent as one.
 */
export function expirySeconds(ms: number): number {
  const seconds = Math.ceil(ms / 1_000) + 1;
  return seconds <= MAX_RELATIVE_S ? seconds : Math.min(Math.ceil(Date.now() / 1_000) + seconds, MAX_TIME_S);
}
