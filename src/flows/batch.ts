import type { Lookup } from '../natural-keys/lookup.js';
import type { Row } from '../orm/context.js';
import type { ServedBy } from '../observability/channels.js';
import type { Data } from './call.js';

/** One lookup of a call, and the values of the row to create when it finds nothing. */
export interface Request {
  readonly lookup: Lookup;
  readonly defaults: Readonly<Data>;
}

/** The row of a lookup, and whether this call created it. */
export type Got = [entity: object, created: boolean];

/** How a lookup was answered. */
export interface Answer {
  readonly entity: object;
  readonly servedBy: ServedBy;
  readonly created: boolean;
  /** Whether an existing row was changed. */
  readonly updated: boolean;
  /** Whether another writer created the row while this call was about to. */
  readonly raceLost: boolean;
  /** The raw row, when a statement of ours returned it. */
  readonly row: Row | undefined;
}

type GivenAnswer = Pick<Answer, 'entity' | 'servedBy'> & Partial<Answer>;

/** What a call knows about one of its lookups in the cache. */
export interface Trail {
  /** Whether the lookup has an entry of its own, since it isn't the primary key itself. */
  readonly isIndirect: boolean;
  hintToken: string | undefined;
  /** Whether the lookup's own entry named a row, right or wrong. */
  hinted: boolean;
  /** Key of the row's entry, as the hint or the lookup names it. */
  objectKey: string | undefined;
  objectToken: string | undefined;
}

/** One distinct lookup of a call. */
export class Entry {
  readonly lookup: Lookup;
  readonly defaults: Readonly<Data>;
  answer: Answer | undefined;
  /** The row that the database has for it, until its entity is made and it is answered. */
  sighted: Row | undefined;
  /** What the cache was asked about it, once it was. */
  trail: Trail | undefined;
  /** Whether its unique key belongs to a row that differs in the rest of the lookup. */
  isTaken = false;

  constructor(request: Request) {
    this.lookup = request.lookup;
    this.defaults = request.defaults;
  }

  answerWith(given: GivenAnswer): void {
    const { entity, servedBy, created = false, updated = false, raceLost = false, row } = given;
    this.answer = { entity, servedBy, created, updated, raceLost, row };
  }
}

/** A text that only lookups of the same properties and values have in common. */
export function nameOf({ shape, values }: Lookup): string {
  return `${shape}\0${values}`;
}

/** What names each lookup of a batch: their texts as they are, where they are looked up by one property of one type. */
function keysOf(requests: readonly Request[]): string[] {
  const { shape } = requests[0]!.lookup;
  const isText = ({ lookup }: Request): boolean =>
    lookup.shape === shape && lookup.parts.length === 1 && typeof lookup.parts[0]!.value === 'string';
  return requests.every(isText)
    ? requests.map(({ lookup }) => lookup.parts[0]!.value as string)
    : requests.map(({ lookup }) => nameOf(lookup));
}

function gotOf({ answer }: Entry): Got {
  return [answer!.entity, answer!.created];
}

function isOpen({ answer, sighted }: Entry): boolean {
  return answer === undefined && sighted === undefined;
}

/** The lookups of one call: each distinct one once, answered step by step. */
export class Batch {
  readonly entries: readonly Entry[];
  /** How many answers the caller was told of. */
  told = 0;
  readonly #order: readonly Entry[];

  /** A lookup that is named twice is one entry; the last request's defaults win. */
  constructor(requests: readonly Request[]) {
    if (requests.length <= 1) {
      this.entries = this.#order = requests.map((request) => new Entry(request));
      return;
    }
    const entries = new Map<string, Entry>();
    const keys = keysOf(requests);
    requests.forEach((request, index) => entries.set(keys[index]!, new Entry(request)));
    this.entries = [...entries.values()];
    this.#order = entries.size === keys.length ? this.entries : keys.map((key) => entries.get(key)!);
  }

  /** Whether nothing is known of any entry yet. */
  get isOpen(): boolean {
    return this.entries.some(isOpen);
  }

  /** The entries of which nothing is known yet. */
  open(): Entry[] {
    return this.entries.filter(isOpen);
  }

  entities(): object[] {
    const entities: object[] = [];
    for (const { answer } of this.entries) if (answer) entities.push(answer.entity);
    return entities;
  }

  /** The answers in the order of the requests; `created` is true for the first request of a created row only. */
  results(): Got[] {
    if (this.#order === this.entries) return this.entries.map(gotOf);
    const told = new Set<Entry>();
    return this.#order.map((entry) => {
      const first = !told.has(entry);
      told.add(entry);
      return [entry.answer!.entity, entry.answer!.created && first];
    });
  }
}
