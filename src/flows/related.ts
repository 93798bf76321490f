import { ReferenceKind, Utils, type Collection } from '@mikro-orm/core';
import { ConfigurationError, LookupError } from '../errors.js';
import { run } from '../orm/context.js';
import { entitySchema, isStored, metaOf, primaryKeyValues } from '../orm/entities.js';
import type { Prop } from '../orm/metadata.js';
import { inUnit } from '../orm/unit.js';
import { linkRows } from '../sql/link.js';
import type { Call, Data } from './call.js';
import type { Got } from './batch.js';

/** The methods of the items' repository that are scoped to a collection. */
interface Methods {
  getOrCreate(where: Data, defaults?: Data, options?: object): Promise<Got>;
  updateOrCreate(where: Data, values: Data, options?: object): Promise<Got>;
}

/**
 * Scopes `getOrCreate` and `updateOrCreate` to a collection: a 1:M item is looked up and created with the collection's
 * owner, an M:N item is linked to it, as one unit where the repository is atomic.
 *
 * @param openCall resolves the context of a call of the items' repository
 */
export function relatedTo(repository: Methods, collection: Collection<object>, openCall: () => Call): Methods {
  const prop = checkedProperty(collection, openCall());
  const scoped = async (where: Data, work: (where: Data) => Promise<Got>): Promise<Got> => {
    checkOwner(collection, prop);
    const call = openCall();
    if (prop.kind === ReferenceKind.ONE_TO_MANY) {
      const got = await work({ ...where, [prop.mappedBy]: collection.owner });
      remember(collection, got[0]);
      return got;
    }
    const linked = async (): Promise<Got> => {
      const got = await work(where);
      await link(call, collection, prop, got[0]);
      return got;
    };
    const got = await (call.atomic ? inUnit(call.em, linked) : linked());
    remember(collection, got[0]);
    return got;
  };
  return {
    getOrCreate: (where, defaults, options) =>
      scoped(where, (whole) => repository.getOrCreate(whole, defaults, options)),
    updateOrCreate: (where, values, options) =>
      scoped(where, (whole) => repository.updateOrCreate(whole, values, options)),
  };
}

function checkedProperty(collection: Collection<object>, call: Call): Prop {
  if (!Utils.isCollection(collection)) {
    throw new ConfigurationError('related() takes a collection of an entity, e.g. related(thing.tags).');
  }
  const prop = collection.property as Prop;
  if (prop.targetMeta?.root !== call.meta.root) {
    throw new ConfigurationError(
      `related() got a collection of ${prop.targetMeta?.className ?? 'another class'}: ask the repository of its items, ` +
        `em.getRepository(${prop.targetMeta?.className ?? '…'}).related(…).`,
      { entity: call.meta.className },
    );
  }
  return prop;
}

function checkOwner(collection: Collection<object>, prop: Prop): void {
  if (isStored(collection.owner)) return;
  const { className } = metaOf(collection.owner);
  throw new LookupError(
    `The owner of the collection '${prop.name}' (a ${className}) isn't in the database yet: flush it first.`,
    { entity: className },
  );
}

async function link(call: Call, collection: Collection<object>, prop: Prop, item: object): Promise<void> {
  const { owner } = collection;
  const schema = entitySchema(owner) ?? call.target.schema;
  const statement = linkRows(call.em, prop, primaryKeyValues(owner)!, primaryKeyValues(item)!, schema);
  await run(call.em, statement, call.options);
}

/** A loaded collection shows the item; one with unflushed changes stays as the caller left it. */
function remember(collection: Collection<object>, item: object): void {
  if (!collection.isInitialized() || collection.isDirty() || collection.contains(item)) return;
  collection.hydrate([...collection.getItems(false), item]);
}
