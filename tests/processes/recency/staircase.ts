interface Step<T> {
  readonly at: number;
  readonly version: number;
  readonly source: T;
}

/** The highest version known at each time, as steps up. They may be added in any order. */
export class Staircase<T> {
  readonly #steps: Step<T>[] = [];

  add(at: number, version: number, source: T): void {
    const index = this.#first((step) => step.at > at);
    const below = this.#steps[index - 1];
    if (below && below.version >= version) return;
    let end = index;
    while (end < this.#steps.length && this.#steps[end]!.version <= version) end += 1;
    this.#steps.splice(index, end - index, { at, version, source });
  }

  /** The first step above a version. */
  above(version: number): Step<T> | undefined {
    return this.#steps[this.#first((step) => step.version > version)];
  }

  /** Both times and versions only grow, so what holds for one step holds for all after it. */
  #first(holds: (step: Step<T>) => boolean): number {
    let low = 0;
    let high = this.#steps.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (holds(this.#steps[middle]!)) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
