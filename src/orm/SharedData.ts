/** Data by property name. */
export type Data = Record<string, unknown>;

/** A row's data, of which every entity gets a copy of its own. */
export class SharedData {
  readonly #data: Readonly<Data>;
  readonly #dates: readonly string[];

  private constructor(data: Readonly<Data>, dates: readonly string[]) {
    this.#data = data;
    this.#dates = dates;
  }

  /** Nothing for data with objects in it, other than dates, which one entity's owner could change for the next. */
  static of(data: Data): SharedData | undefined {
    const dates: string[] = [];
    for (const [name, value] of Object.entries(data)) {
      if (value instanceof Date) dates.push(name);
      else if (typeof value === 'object' && value !== null) return undefined;
    }
    return new SharedData(copyOf(data, dates), dates);
  }

  /** To look at. */
  get values(): Readonly<Data> {
    return this.#data;
  }

  copy(): Data {
    return copyOf(this.#data, this.#dates);
  }
}

function copyOf(data: Readonly<Data>, dates: readonly string[]): Data {
  const copy = { ...data };
  for (const name of dates) copy[name] = new Date(copy[name] as Date);
  return copy;
}
