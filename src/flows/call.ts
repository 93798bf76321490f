import type { FilterQuery } from '@mikro-orm/core';
import type { CacheSession } from './cache-session.js';
import type { EntityManager, Row } from '../orm/context.js';
import type { Statistics } from '../observability/statistics.js';
import type { Meta } from '../orm/metadata.js';
import type { Target } from '../sql/parts.js';
import type { OnProgress } from './progress.js';

/** Data by property name. */
export type Data = Record<string, unknown>;

/** Options of a lookup after the repository has checked them; what MikroORM knows is passed on to it. */
export interface CallOptions {
  readonly refresh?: boolean;
  readonly schema?: string;
  readonly populate?: unknown;
  readonly lockMode?: unknown;
  readonly filters?: unknown;
  readonly signal?: AbortSignal;
  readonly lookup?: FilterQuery<object>;
  readonly serialize?: boolean;
  readonly onProgress?: OnProgress;
}

/** The application's `createEntity()`, when its repository class overrides ours. */
export type CreateEntity = (data: Data, context: CreationContext) => Promise<object>;

/** One call of a repository method: who asks, for what entity, and how. */
export interface Call {
  readonly em: EntityManager;
  readonly meta: Meta;
  readonly target: Target;
  readonly options: CallOptions;
  /** Whether the class may open a transaction or savepoint of its own. */
  readonly atomic: boolean;
  readonly createEntity: CreateEntity | undefined;
  readonly cache: CacheSession | undefined;
  readonly statistics: Statistics | undefined;
  /** Whether queries of MikroORM's own must answer, once that was asked. */
  byHost?: boolean | Promise<boolean> | undefined;
  /** The statement that looked the row up, when calls shared it: they may go on together. */
  sharedSelect?: object | undefined;
  /** The statement that was sent on the guess that no row of its callers is there, and had none for this call. */
  sharedGuess?: object | undefined;
}

/** A row is kept for the cache alone: thousands of them are work for the collector. */
export function rowFor(call: Call, row: Row | undefined): Row | undefined {
  return call.cache && row;
}

const handle = Symbol('creation');

/**
 * What `createEntity()` gets beside the data. Pass it on to `super.createEntity()` as it is.
 */
export class CreationContext {
  /** The EntityManager that the row is created with. */
  readonly em: EntityManager;
  /** The lookup that found nothing. */
  readonly where: Readonly<Data>;
  readonly [handle]: CreationHandle;

  constructor(call: Call, creation: CreationHandle, where: Readonly<Data>) {
    this.em = call.em;
    this.where = where;
    this[handle] = creation;
  }
}

/** What the library keeps to itself in a {@link CreationContext}. */
export interface CreationHandle {
  insert(data: Data): Promise<object>;
}

export function handleOf(context: CreationContext): CreationHandle {
  return context[handle];
}
