import { randomUUID } from 'node:crypto';
import { ConfigurationError } from '../../errors.js';
import { sequenceKey } from '../limits.js';
import {
  encodeEntry,
  expirySeconds,
  generationName,
  itemName,
  levelsOf,
  liveEntry,
  pathOf,
  stampOf,
  type Entry,
} from './entry.js';
import { Server } from './Server.js';
import { parseServers, serverFor, type MemcachedServerSource } from './servers.js';
import type { Change, Found, NewItem, Session } from './Session.js';

/** What is known of a key. */
export interface Read {
  /** `undefined` if the server had no room for a generation: then nothing can be stored under the key. */
  readonly stamp: string | undefined;
  readonly entry: Entry | undefined;
  /** Whether there is no item at all, not even a dead one. */
  readonly isAbsent: boolean;
}

/** The items of all servers: entries, by the keys of the store, and generations. */
export class Items {
  readonly #servers: readonly Server[];

  constructor(source: string | readonly MemcachedServerSource[]) {
    const servers = typeof source === 'string' ? parseServers(source) : source;
    if (servers.length === 0 || new Set(servers.map(({ id }) => id)).size < servers.length) {
      throw new ConfigurationError('A memcached store needs at least one server, and each one once.');
    }
    this.#servers = servers.map((server) => new Server(server));
  }

  /** Generations and entries are asked for at once: one that another moves meanwhile makes the entry dead, or it overlaps. */
  async read(keys: readonly string[]): Promise<Map<string, Read>> {
    const [stamps, texts] = await Promise.all([this.stamps(keys), this.#get(keys.map(itemName))]);
    return new Map(
      keys.map((key) => {
        const stamp = stamps.get(key);
        const text = texts.get(itemName(key));
        return [key, { stamp, entry: liveEntry(text, stamp), isAbsent: text === undefined }];
      }),
    );
  }

  /** The present stamps of keys. Generations that are missing are made anew. */
  async stamps(keys: readonly string[]): Promise<Map<string, string | undefined>> {
    const pathByKey = new Map(keys.map((key) => [key, pathOf(key)]));
    const paths = [...new Set(pathByKey.values())];
    const generations = await this.#generations([...new Set(paths.flatMap(levelsOf))]);
    const stampByPath = new Map(
      paths.map((path) => {
        const own = levelsOf(path).map((level) => generations.get(level));
        return [path, own.every((each) => each !== undefined) ? stampOf(own) : undefined];
      }),
    );
    return new Map(keys.map((key) => [key, stampByPath.get(pathByKey.get(key)!)]));
  }

  /** The present nonces of regions' sequences; a region without one is left out. */
  async sequences(regions: Iterable<string>): Promise<Map<string, string>> {
    const keys = new Map(Array.from(new Set(regions), (region) => [sequenceKey(region), region]));
    const found = await this.read([...keys.keys()]);
    const nonces = new Map<string, string>();
    for (const [key, { entry }] of found) {
      if (entry?.kind === 'sequence') {
        nonces.set(keys.get(key)!, entry.content);
      }
    }
    return nonces;
  }

  /** Entries as they are now, so that they can be changed. Where there is none, what `claims` has for the key is stored first. */
  async find(keys: readonly string[], claims?: (key: string) => Omit<NewItem, 'name'>): Promise<Map<string, Found>> {
    const keyByName = new Map(keys.map((key) => [itemName(key), key]));
    const found = await this.#onServers([...keyByName.keys()], (session, names) =>
      session.find(names, claims && ((name) => claims(keyByName.get(name)!))),
    );
    return new Map(found.map((each) => [keyByName.get(each.name)!, each]));
  }

  /** Stores entries where there is nothing. Returns the keys of those that were stored. */
  async add(entries: ReadonlyMap<string, Omit<NewItem, 'name'>>): Promise<Set<string>> {
    const keyByName = new Map(Array.from(entries.keys(), (key) => [itemName(key), key]));
    const added = await this.#onServers([...keyByName.keys()], (session, names) =>
      session.addMany(names.map((name) => ({ name, ...entries.get(keyByName.get(name)!)! }))),
    );
    return new Set(added.map((name) => keyByName.get(name)!));
  }

  /** Makes those of the changes whose item is as it was found. Returns them. */
  async change(changes: readonly Change[]): Promise<Set<Change>> {
    const bySession = Map.groupBy(changes, ({ found }) => found.session);
    const made = await Promise.all(Array.from(bySession, ([session, own]) => session.changeMany(own)));
    return new Set(made.flat());
  }

  /** Removes entries, whatever they are. */
  async remove(keys: readonly string[]): Promise<void> {
    await this.#delete(new Set(keys.map(itemName)));
  }

  /** Makes everything below a level unreachable. */
  async removeBelow(level: string): Promise<void> {
    await this.#delete([generationName(level)]);
  }

  async ping(): Promise<void> {
    await Promise.all(this.#servers.map(async (server) => (await server.session()).ping()));
  }

  get servers(): readonly Server[] {
    return this.#servers;
  }

  async end(): Promise<void> {
    await Promise.all(this.#servers.map((server) => server.end()));
  }

  async #generations(levels: readonly string[]): Promise<Map<string, string>> {
    const names = new Map(levels.map((level) => [generationName(level), level]));
    const found = await this.#get([...names.keys()]);
    const missing = [...names.keys()].filter((name) => !found.has(name));
    if (missing.length > 0) {
      // Without an expiry: the server drops what is not used. Somebody else's may be first; so they are read again.
      await this.#onServers(missing, (session, own) =>
        session.addMany(own.map((name) => ({ name, text: randomUUID(), seconds: 0 }))),
      );
      (await this.#get(missing)).forEach((text, name) => found.set(name, text));
    }
    return new Map(Array.from(found, ([name, text]) => [names.get(name)!, text]));
  }

  async #get(names: readonly string[]): Promise<Map<string, string>> {
    const found = await this.#onServers([...new Set(names)], (session, own) => session.getMany(own));
    return new Map(found);
  }

  async #delete(names: Iterable<string>): Promise<void> {
    await this.#onServers([...names], (session, own) => session.deleteMany(own));
  }

  /** Lets each server do its share of `names`, all at once. */
  async #onServers<T>(
    names: readonly string[],
    work: (session: Session, names: readonly string[]) => Promise<readonly T[]>,
  ): Promise<T[]> {
    const shares = Map.groupBy(names, (name) => serverFor(this.#servers, name));
    const results = await Promise.all(Array.from(shares, async ([server, own]) => work(await server.session(), own)));
    return results.flat();
  }
}

/** An entry that begins now, as something to store. */
export function newItem(entry: Omit<Entry, 'endsAt'>, ms: number): Omit<NewItem, 'name'> {
  return { text: encodeEntry({ ...entry, endsAt: Date.now() + ms }), seconds: expirySeconds(ms) };
}
