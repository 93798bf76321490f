/** Lives of leases, guards and soft locks, in ticks of the explored clock. As in the library, a lock outlasts a guard. */
export const TICKS = { lease: 1, guard: 1, lock: 2 } as const;

type Entry =
  | { state: 'absent' }
  | { state: 'leased'; by: string; end: number }
  | { state: 'locked'; holders: Map<string, number>; writer: string | undefined }
  | { state: 'value'; version: number };

/** What a read of the entry finds. */
export type Found = { kind: 'hit'; version: number } | { kind: 'leased' } | { kind: 'miss' };

/** What a store may lose by itself. `row`: the value or lease of the entry, `entry`: also its soft locks. */
export type Loss = 'row' | 'entry' | 'sequence' | 'everything';

/**
 * The state table of `CacheStore.ts` for one entry, with processes in the place of tokens and nonces. The explorer
 * compares the store with it at every step, and tells by it which states it has seen: a real store can't be asked.
 */
export class StateTable {
  now = 0;
  #entry: Entry = { state: 'absent' };
  #sequence: number | undefined;
  #sequences = 0;
  readonly #guards = new Map<string, { sequence: number; end: number }>();

  read(who: string): Found {
    const entry = this.#current();
    if (entry.state === 'value') return { kind: 'hit', version: entry.version };
    if (entry.state !== 'absent') return { kind: 'miss' };
    this.#entry = { state: 'leased', by: who, end: this.now + TICKS.lease };
    return { kind: 'leased' };
  }

  guard(who: string, ticks: number): void {
    this.#sequence ??= ++this.#sequences;
    this.#guards.set(who, { sequence: this.#sequence, end: this.now + ticks });
  }

  fill(who: string, permit: 'lease' | 'guard', version: number | undefined): boolean {
    const entry = this.#current();
    const guard = this.#guards.get(who);
    const allowed =
      permit === 'lease'
        ? entry.state === 'leased' && entry.by === who
        : entry.state !== 'locked' && guard?.sequence === this.#sequence && guard!.end > this.now;
    if (allowed && version !== undefined) this.#entry = { state: 'value', version };
    if (allowed && version === undefined && permit === 'lease') this.#entry = { state: 'absent' };
    return allowed && version !== undefined;
  }

  lock(who: string): void {
    const entry = this.#current();
    const end = this.now + TICKS.lock;
    if (entry.state !== 'locked') {
      this.#entry = { state: 'locked', holders: new Map([[who, end]]), writer: who };
      return;
    }
    entry.holders.set(who, end);
    if (entry.writer !== who) entry.writer = undefined;
  }

  release(who: string, version: number | undefined, movesSequence: boolean): void {
    if (movesSequence) this.#sequence = undefined;
    const entry = this.#current();
    this.#entry = { state: 'absent' };
    if (entry.state !== 'locked') return;
    entry.holders.delete(who);
    if (entry.holders.size > 0) this.#entry = { ...entry, writer: undefined };
    else if (entry.writer === who && version !== undefined) this.#entry = { state: 'value', version };
  }

  evict(): void {
    this.#sequence = undefined;
    const entry = this.#current();
    this.#entry = entry.state === 'locked' ? { ...entry, writer: undefined } : { state: 'absent' };
  }

  lose(loss: Loss): void {
    if (loss === 'sequence' || loss === 'everything') this.#sequence = undefined;
    if (loss === 'entry' || loss === 'everything') this.#entry = { state: 'absent' };
    if (loss === 'row' && this.#current().state !== 'locked') this.#entry = { state: 'absent' };
  }

  get version(): number | undefined {
    const entry = this.#current();
    return entry.state === 'value' ? entry.version : undefined;
  }

  isLockedBy(who: string): boolean {
    const entry = this.#current();
    return entry.state === 'locked' && entry.holders.has(who);
  }

  /** Everything that can make a difference later on, and nothing else. */
  canonical(live: ReadonlySet<string>): unknown[] {
    const guards = [...this.#guards].flatMap(([who, { sequence, end }]) =>
      live.has(who) && sequence === this.#sequence && end > this.now ? [`${who} ${end - this.now}`] : [],
    );
    return [this.#canonicalEntry(live), guards.toSorted()];
  }

  #canonicalEntry(live: ReadonlySet<string>): unknown {
    const entry = this.#current();
    if (entry.state === 'leased') return ['leased', live.has(entry.by) ? entry.by : '', entry.end - this.now];
    if (entry.state !== 'locked') return entry;
    const holders = [...entry.holders].map(([who, end]) => `${live.has(who) ? who : 'ended'} ${end - this.now}`);
    return ['locked', holders.toSorted(), entry.writer];
  }

  #current(): Entry {
    const entry = this.#entry;
    if (entry.state === 'leased' && entry.end <= this.now) this.#entry = { state: 'absent' };
    if (entry.state === 'locked') {
      for (const [who, end] of entry.holders) if (end <= this.now) entry.holders.delete(who);
      if (entry.holders.size === 0) this.#entry = { state: 'absent' };
    }
    return this.#entry;
  }
}
