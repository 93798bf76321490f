/** One way to get or create rows, as one process of an application would hold it. */
export interface Contender {
  /** The row of a name, created when there is none. */
  readonly getOrCreate: (name: string) => Promise<unknown>;
  /** The rows of many names. */
  readonly getOrCreateMany?: (names: string[]) => Promise<unknown>;
  /** Loads a row, adds one to its weight, and stores it: never a value that is there already, which nobody would write. */
  readonly update?: (name: string) => Promise<unknown>;
  /** Loads a row and adds one to its weight; what it returns stores it. */
  readonly prepareFlush?: (name: string) => Promise<() => Promise<unknown>>;
  /** Puts seeded rows, by number, into its cache, where it has a way to do so. */
  readonly warmUp?: (first: number, last: number) => Promise<unknown>;
  /** Who answered so far, for contenders that know. */
  readonly served?: () => Readonly<Record<string, number>>;
  readonly close: () => Promise<void>;
}

/** Where a contender works. */
export interface Environment {
  readonly databaseUrl: string;
  readonly redisUrl: string;
  /** Connections to the database, at most; the same for all contenders. */
  readonly pool: number;
  /** What a growth curve varies. */
  readonly parameters: Readonly<Record<string, number>>;
}

/** What a contender is compared as. */
export type Role =
  /** The library. */
  | 'subject'
  /** The least that the work can cost: no object mapping, or nothing else. */
  | 'floor'
  /** What a team would use instead. */
  | 'peer';

/** A contender to be opened in a process of its own. */
export interface ContenderDefinition {
  readonly title: string;
  readonly role: Role;
  /** Where its own documentation recommends this use; for floors and subjects, none. */
  readonly documentation?: string;
  /** How often a cache has to be asked for a row until it surely holds it; 0 when nothing is cached. */
  readonly fillPasses: number;
  /** Whether {@link Contender.warmUp} is its documented way to fill a cache before there is any traffic. */
  readonly warmsUp?: boolean;
  /** Whether each process holds rows itself, beside those in a store that all share. */
  readonly holdsRows?: boolean;
  /** Loads its packages and opens it; nothing of it is loaded before, so that a process has only its own contender's. */
  open(environment: Environment): Promise<Contender>;
}

/** The values of a new row, beside its name. */
export const DEFAULTS = { weight: 1, note: 'a note of some length, as rows have them', active: true } as const;
