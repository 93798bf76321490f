import { defineEntity, p, type EntityMetadata, type MetadataStorage } from '@mikro-orm/core';
import type { Options, Platform } from '@mikro-orm/postgresql';
import { cachedTables } from '../invalidation/cached-tables.js';
import { CHANGE_LOG_TABLE, triggerName, type WatchedEvent } from '../invalidation/change-log.js';
import type { ChangeLogOptions } from './statements.js';
import { events, triggerUp, triggerUpEverywhere } from './trigger-ddl.js';

type Configuration = Pick<Options, 'entities' | 'entitiesTs' | 'discovery'>;
type Discovered = NonNullable<NonNullable<Configuration['discovery']>['afterDiscovered']>;

/**
 * Makes MikroORM's own migrations and schema generator create the change log, and on each table with a cached
 * repository or a declared region the triggers that write to it.
 *
 * ```ts
 * export default withChangeLog(defineConfig({ entities: [Tag], … }));
 * ```
 *
 * @returns a copy of the configuration with one entity more and a discovery hook, which runs after one of yours
 */
export function withChangeLog<C extends Configuration>(config: C, options: ChangeLogOptions = {}): C {
  const log = changeLogEntity(options);
  const own = config.discovery?.afterDiscovered;
  const afterDiscovered: Discovered = (storage, platform) => {
    const finish = (): void => watchCachedTables(storage, platform, options);
    const pending: unknown = own?.(storage, platform);
    // synchronous discovery doesn't wait for a promise
    return pending instanceof Promise ? pending.then(finish) : finish();
  };
  return {
    ...config,
    entities: [...(config.entities ?? []), log],
    ...(config.entitiesTs && { entitiesTs: [...config.entitiesTs, log] }),
    discovery: { ...config.discovery, afterDiscovered },
  };
}

function changeLogEntity({ schema }: ChangeLogOptions) {
  return defineEntity({
    name: 'PlusChangeLog',
    tableName: CHANGE_LOG_TABLE,
    ...(schema !== undefined && { schema }),
    properties: {
      id: p.bigint().primary(),
      tableSchema: p.text().fieldName('table_schema'),
      tableName: p.text().fieldName('table_name'),
      keys: p.json().nullable().fieldName('keys'),
      createdAt: p.datetime().columnType('timestamptz').fieldName('created_at').defaultRaw('clock_timestamp()'),
    },
  });
}

function watchCachedTables(storage: MetadataStorage, platform: Platform, options: ChangeLogOptions): void {
  const defaultSchema = platform.getConfig().get('schema') ?? platform.getDefaultSchemaName() ?? 'public';
  const logSchema = options.schema ?? defaultSchema;
  for (const meta of cachedTables(storage, platform.getConfig())) {
    // a schema object may have been discovered before, by another ORM with another configuration
    const others = meta.triggers.filter(({ name }) => !events.some((event) => name === triggerName(event)));
    meta.triggers.splice(0, Infinity, ...others);
    for (const event of events) {
      meta.triggers.push({
        name: triggerName(event),
        timing: 'after',
        events: event === 'truncate' ? ['delete', 'truncate'] : [event],
        forEach: 'statement',
        expression: expression(meta, event, { logSchema, defaultSchema, platform }),
      });
    }
  }
}

function expression(
  meta: EntityMetadata,
  event: WatchedEvent,
  { logSchema, defaultSchema, platform }: { logSchema: string; defaultSchema: string; platform: Platform },
): string {
  const primaryKey = meta.getPrimaryProps().flatMap(({ fieldNames }) => fieldNames);
  const target = { table: meta.tableName, primaryKey, logSchema };
  if (meta.schema === '*') return triggerUpEverywhere(target, event, defaultSchema).join(';\n');
  const schema = meta.schema ?? platform.getConfig().get('schema');
  const isDefault = schema === undefined || schema === platform.getDefaultSchemaName();
  return triggerUp({ ...target, schema: isDefault ? undefined : schema }, event).join(';\n');
}
