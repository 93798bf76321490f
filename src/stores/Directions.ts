import { LRUCache } from 'lru-cache';

/**
 * Where things led lately, by kind (any object, such as a plan), schema and name. The least recently used are forgotten
 * first; kinds that are gone are forgotten with them in time.
 */
export class Directions {
  readonly #known: LRUCache<string, string>;
  /** A short name for a kind in a schema, so that what is looked up is short. */
  readonly #names = new WeakMap<object, Map<string | undefined, string>>();
  #named = 0;

  /** @param max directions kept */
  constructor(max: number) {
    this.#known = new LRUCache({ max });
  }

  get(kind: object, schema: string | undefined, name: string): string | undefined {
    return this.#known.get(this.#nameOf(kind, schema) + name);
  }

  /** Nothing as `to` forgets it. */
  set(kind: object, schema: string | undefined, name: string, to: string | undefined): void {
    this.#known.set(this.#nameOf(kind, schema) + name, to);
  }

  #nameOf(kind: object, schema: string | undefined): string {
    let ofKind = this.#names.get(kind);
    if (!ofKind) this.#names.set(kind, (ofKind = new Map()));
    let name = ofKind.get(schema);
    if (name === undefined) {
      this.#named += 1;
      ofKind.set(schema, (name = `${this.#named}:`));
    }
    return name;
  }
}
