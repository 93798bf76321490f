/** A seeded generator (mulberry32): the same load in every round and for every contender. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** From 0 up to, not including, 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  }

  /** A whole number from 1 to `max`. */
  whole(max: number): number {
    return 1 + Math.floor(this.next() * max);
  }
}

/** Ranks from 1 to `count`, of which the r-th is asked for in proportion to 1/r (Zipf's law, exponent 1). */
export class Zipf {
  readonly #cumulative: Float64Array;

  constructor(count: number) {
    this.#cumulative = new Float64Array(count);
    let sum = 0;
    for (let rank = 1; rank <= count; rank += 1) {
      sum += 1 / rank;
      this.#cumulative[rank - 1] = sum;
    }
  }

  rank(random: Random): number {
    const wanted = random.next() * this.#cumulative.at(-1)!;
    let low = 0;
    let high = this.#cumulative.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#cumulative[middle]! < wanted) low = middle + 1;
      else high = middle;
    }
    return low + 1;
  }
}
