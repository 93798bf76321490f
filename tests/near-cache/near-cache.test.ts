import { jest } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ChannelListener, InvalidationChannel } from '../../src/near-cache/InvalidationChannel.js';
import { NearCache, type NearCacheOptions } from '../../src/near-cache/NearCache.js';

/** A channel that says what the test wants. */
class ScriptedChannel {
  isProven = jest.fn((_prefix: string, _withinMs: number) => true);
  start = jest.fn();
  readonly listeners = new Set<ChannelListener>();
  attach = (listener: ChannelListener) => this.listeners.add(listener);
  detach = (listener: ChannelListener) => this.listeners.delete(listener);

  invalidate(...keys: string[]): void {
    for (const listener of this.listeners) listener.invalidate(keys);
  }

  invalidateAll(): void {
    for (const listener of this.listeners) listener.invalidateAll();
  }
}

let channel: ScriptedChannel;

function makeCache(options: Partial<NearCacheOptions> = {}): NearCache {
  return new NearCache({ channel: channel as unknown as InvalidationChannel, prefix: 'tag:', ...options });
}

function put(cache: NearCache, key: string, value = `value of ${key}`): boolean {
  return cache.put(key, value, cache.begin());
}

beforeEach(() => {
  channel = new ScriptedChannel();
});

describe('what is kept', () => {
  it('is served until it is invalidated, dropped, or everything is', () => {
    const cache = makeCache();
    for (const key of ['tag:1', 'tag:2', 'tag:3', 'tag:4']) expect(put(cache, key)).toBe(true);
    expect(cache.get('tag:1')).toBe('value of tag:1');
    channel.invalidate('tag:1', 'tag:unknown');
    cache.drop(['tag:2']);
    expect(['tag:1', 'tag:2', 'tag:3'].map((key) => cache.get(key))).toEqual([undefined, undefined, 'value of tag:3']);
    channel.invalidateAll();
    expect(cache.get('tag:3')).toBeUndefined();
    expect(put(cache, 'tag:3')).toBe(true);
    cache.dropAll();
    expect(cache.size).toBe(0);
  });

  it('is bounded, and the least recently used goes first', () => {
    const cache = makeCache({ maxEntries: 3 });
    for (const key of ['a', 'b', 'c']) put(cache, key);
    cache.get('a');
    put(cache, 'd');
    expect(['a', 'b', 'c', 'd'].filter((key) => cache.get(key) !== undefined)).toEqual(['a', 'c', 'd']);
    const usual = makeCache();
    for (let index = 0; index < 2_000; index += 1) put(usual, String(index));
    expect(usual.size).toBe(1_000);
  });

  it('ends with its ttl, also in a process that does not get to its timers', async () => {
    const ttlMs = 1_500;
    const cache = makeCache({ ttlMs });
    put(cache, 'a');
    expect(cache.get('a')).toBeDefined();
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ttlMs + 20);
    expect(cache.get('a')).toBeUndefined();
    put(cache, 'a');
    await sleep(ttlMs + 20);
    expect(cache.get('a')).toBeUndefined();
  });
});

describe('a ticket', () => {
  it('is void for a key that was invalidated or dropped since, and for no other', () => {
    const cache = makeCache();
    channel.invalidate('tag:1');
    const ticket = cache.begin();
    channel.invalidate('tag:2');
    cache.drop(['tag:3']);
    const later = cache.begin();
    const keys = ['tag:1', 'tag:2', 'tag:3', 'tag:4'];
    expect(keys.map((key) => cache.put(key, 'old', ticket))).toEqual([true, false, false, true]);
    expect(keys.map((key) => cache.put(key, 'new', later))).toEqual([true, true, true, true]);
  });

  it('is void for every key once everything was dropped', () => {
    const cache = makeCache();
    const ticket = cache.begin();
    channel.invalidateAll();
    expect(cache.put('tag:1', 'old', ticket)).toBe(false);
    expect(put(cache, 'tag:1')).toBe(true);
  });

  it('is void, if taken or used while the channel proves nothing', () => {
    const cache = makeCache();
    const early = cache.begin();
    channel.isProven.mockReturnValue(false);
    expect(cache.put('tag:1', 'value', early)).toBe(false);
    const ticket = cache.begin();
    channel.isProven.mockReturnValue(true);
    expect(cache.put('tag:1', 'value', ticket)).toBe(false);
    expect(cache.put('tag:1', 'value', early)).toBe(true);
  });

  it('is void when more was invalidated since than is remembered', () => {
    const cache = makeCache();
    const ticket = cache.begin();
    channel.invalidate('tag:1');
    for (let index = 0; index < 5_000; index += 1) channel.invalidate(`tag:other:${index}`);
    expect(cache.put('tag:1', 'old', ticket)).toBe(false);
    expect(cache.put('tag:2', 'old', ticket)).toBe(false);
    expect(put(cache, 'tag:1')).toBe(true);
  });
});

describe('the channel', () => {
  it('is started by the first read, and asked at every hit whether it is fresh enough, with a margin', () => {
    const cache = makeCache({ maxStalenessMs: 500 });
    expect(channel.start).not.toHaveBeenCalled();
    put(cache, 'tag:1');
    expect(channel.start).toHaveBeenCalled();
    channel.isProven.mockImplementation((prefix, withinMs) => prefix === 'tag:' && withinMs === 450);
    expect(cache.get('tag:1')).toBeDefined();
    channel.isProven.mockReturnValue(false);
    expect(cache.isOn).toBe(false);
    expect(cache.get('tag:1')).toBeUndefined();
  });

  it('is left when the cache is closed, which then holds and takes nothing', () => {
    const cache = makeCache();
    put(cache, 'tag:1');
    const ticket = cache.begin();
    cache.close();
    cache.close();
    expect(channel.listeners.size).toBe(0);
    expect(cache.isOn).toBe(false);
    expect(cache.get('tag:1')).toBeUndefined();
    expect(cache.put('tag:1', 'value', ticket)).toBe(false);
    expect(put(cache, 'tag:1')).toBe(false);
    expect(cache.size).toBe(0);
  });

  it("has its invalidations counted, but not the process's own", () => {
    const onInvalidated = jest.fn();
    const onDroppedAll = jest.fn();
    const cache = makeCache({ onInvalidated, onDroppedAll });
    channel.invalidate('tag:1', 'tag:2');
    cache.drop(['tag:3']);
    channel.invalidateAll();
    expect(onInvalidated.mock.calls).toEqual([[2]]);
    expect(onDroppedAll).toHaveBeenCalledTimes(1);
  });
});
