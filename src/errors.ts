/** What an error says about the call that failed; values of hidden properties are already redacted. */
export interface ErrorContext {
  /** Class name of the entity. */
  readonly entity?: string;
  /** The lookup, printable; values of `hidden` properties read `[hidden]`. */
  readonly lookup?: string;
  readonly cause?: unknown;
}

/**
 * Base class of every error that this library throws itself. Database errors stay MikroORM's own classes
 * (`UniqueConstraintViolationException`, …).
 */
export abstract class PlusError extends Error {
  /** Stable, machine-readable name of the problem. */
  abstract readonly code: string;
  /** Class name of the entity, when the error is about one. */
  readonly entity: string | undefined;
  /** The lookup, printable, when the error is about one; values of `hidden` properties read `[hidden]`. */
  readonly lookup: string | undefined;

  constructor(message: string, context: ErrorContext = {}) {
    super(message, context.cause === undefined ? undefined : { cause: context.cause });
    this.name = new.target.name;
    this.entity = context.entity;
    this.lookup = context.lookup;
  }
}

/** The `where` (or `defaults`, `values`) can't be used: an operator object, an unknown property, `undefined`, … */
export class LookupError extends PlusError {
  readonly code = 'PLUS_LOOKUP';
}

/** The repository belongs to an EntityManager that is outside the transaction which is open around the call. */
export class TransactionContextError extends PlusError {
  readonly code = 'PLUS_TRANSACTION_CONTEXT';
}

/** More than one row matches the lookup. */
export class MultipleRowsError extends PlusError {
  readonly code = 'PLUS_MULTIPLE_ROWS';
}

/** No unique constraint serves the lookup, so a race could create the row twice. */
export class MissingUniqueConstraintError extends PlusError {
  readonly code = 'PLUS_MISSING_UNIQUE_CONSTRAINT';
}

/** Options, metadata or wiring that can't work: an unknown store alias, a cached repository without `PlusSubscriber`, … */
export class ConfigurationError extends PlusError {
  readonly code = 'PLUS_CONFIGURATION';
}

/** A cache store could not do what a write needs. Reads never throw it: they fall back to the database. */
export class StoreError extends PlusError {
  readonly code = 'PLUS_STORE';
}

/** An update of a row in a `read-only` region. */
export class ReadOnlyRegionError extends PlusError {
  readonly code = 'PLUS_READ_ONLY_REGION';
}
