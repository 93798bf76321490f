import { Utils, type EntityName } from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import { ConfigurationError, LookupError } from '../errors.js';
import type { Call, CallOptions, CreateEntity, Data } from '../flows/call.js';
import { parseLookup, type Lookup } from '../natural-keys/lookup.js';
import { resolveContext } from '../orm/context.js';
import { isTablePerType, requireProperty, type Meta } from '../orm/metadata.js';
import { PlusSubscriber } from '../PlusSubscriber.js';
import { CACHED, NON_ATOMIC, hasTrait, overridesCreateEntity } from '../config/traits.js';

/** A repository as far as the flows need it. */
export interface PlusRepository {
  getEntityManager(): unknown;
}

interface Internals {
  readonly entityName: EntityName<object>;
  createEntity: CreateEntity;
}

const optionNames = new Set([
  'refresh',
  'schema',
  'populate',
  'lockMode',
  'filters',
  'signal',
  'lookup',
  'serialize',
  'logging',
  'inflightQueryAbortStrategy',
  'onProgress',
]);

const noOptions = Object.freeze({});

/** Resolves who asks, for what entity and how: once, at the border. */
export function openCall(repository: PlusRepository, options: CallOptions = noOptions): Call {
  const { entityName } = repository as unknown as Internals;
  const given = repository.getEntityManager() as EntityManager;
  const meta = given.getMetadata().get(entityName) as unknown as Meta;
  if (options !== noOptions) checkOptions(meta, options);
  const em = resolveContext(given, meta);
  if (isTablePerType(meta) || meta.virtual) {
    const kind = meta.virtual ? 'a virtual entity' : 'spread over several tables (table-per-type inheritance)';
    throw new ConfigurationError(
      `${meta.className} is ${kind}, which no single insert can create: use a plain EntityRepository for it.`,
      { entity: meta.className },
    );
  }
  const service = PlusSubscriber.of(em);
  const isCached = hasTrait(repository, CACHED);
  if (isCached && !service) throw withoutSubscriber(meta);
  const schema = options.schema ?? em.schema;
  return {
    em,
    meta,
    target: { driver: em.getDriver(), meta, schema },
    options,
    atomic: !hasTrait(repository, NON_ATOMIC),
    createEntity: createEntityOf(repository as unknown as Internals),
    cache: isCached ? service!.openSession(em, meta, schema, options) : undefined,
    statistics: service?.countersOf(meta),
  };
}

export function lookupOf(call: Call, where: unknown): Lookup {
  return parseLookup(call.meta, where, call.em.getPlatform());
}

/** Checks that data is a plain object; what it names is checked where it is used. */
export function checkData(call: Call, argument: string, data: unknown): Data {
  if (data === undefined) return {};
  if (!Utils.isPlainObject(data)) {
    throw new LookupError(`${argument} for ${call.meta.className} must be a plain object of properties and values.`, {
      entity: call.meta.className,
    });
  }
  // an overridden createEntity() may take keys of its own out of the data
  if (!call.createEntity) for (const name of Object.keys(data)) requireProperty(call.meta, name, argument);
  return data;
}

function checkOptions(meta: Meta, options: unknown): void {
  const unknown = Utils.isPlainObject(options)
    ? Object.keys(options).find((name) => !optionNames.has(name))
    : 'options';
  if (unknown !== undefined) {
    throw new LookupError(
      `'${unknown}' is no option of a lookup of ${meta.className}: known are ${[...optionNames].join(', ')}.`,
      { entity: meta.className },
    );
  }
}

function createEntityOf(repository: Internals): CreateEntity | undefined {
  if (!overridesCreateEntity(repository)) return undefined;
  return (data, context) => repository.createEntity(data, context);
}

function withoutSubscriber(meta: Meta): ConfigurationError {
  return new ConfigurationError(
    `The repository of ${meta.className} is cached, but no PlusSubscriber is registered, so nothing would keep the cache ` +
      'honest: add `subscribers: [new PlusSubscriber()]` to the ORM configuration.',
    { entity: meta.className },
  );
}
