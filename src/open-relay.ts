import type { ResolvedRelay } from './config/relay-options.js';
import { cachedTables } from './invalidation/cached-tables.js';
import { Relay } from './invalidation/relay/Relay.js';
import { WatchedTable } from './invalidation/relay/WatchedTable.js';
import type { EntityManager } from './orm/context.js';
import { directConnector } from './orm/direct-connection.js';
import type { Meta } from './orm/metadata.js';
import type { RegionDirectory } from './RegionDirectory.js';

/** The schema of the log table that a relay reads. */
export function logSchemaOf(em: EntityManager, options: Pick<ResolvedRelay, 'schema'> | undefined): string {
  return options?.schema ?? em.config.getSchema() ?? 'public';
}

/** The relay of an ORM: which tables it watches, and how it connects. Nothing is connected yet. */
export function openRelay(em: EntityManager, options: ResolvedRelay, regions: RegionDirectory): Relay {
  const known = new Map<Meta, WatchedTable>();
  return new Relay({
    options,
    schema: logSchemaOf(em, options),
    connector: () => directConnector(em, options.connection),
    tables() {
      return cachedTables(em.getMetadata(), em.config).map((meta) => {
        let table = known.get(meta);
        if (!table) known.set(meta, (table = new WatchedTable(em, meta, regions.of(em, meta)!)));
        return table;
      });
    },
  });
}
