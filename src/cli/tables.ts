import { CHANGE_LOG_TABLE } from '../invalidation/change-log.js';
import { logSchemaOf } from '../open-relay.js';
import { driverOf } from '../orm/context.js';
import type { Meta } from '../orm/metadata.js';
import type { Table } from './doctor/catalog.js';
import type { DoctorContext } from './doctor/finding.js';

/** The table of an entity; of one that is in every schema, that in the schema that was named, or else in the default one. */
export function tableOf({ em, schema }: Pick<DoctorContext, 'em' | 'schema'>, meta: Meta): Table {
  const driver = driverOf(em);
  const effective = driver.getSchemaName(meta, meta.schema === '*' && schema !== undefined ? { schema } : {});
  return { schema: effective ?? driver.getPlatform().getDefaultSchemaName() ?? 'public', name: meta.tableName };
}

/** The log table that the relay reads. */
export function logTableOf({ em, plus }: Pick<DoctorContext, 'em' | 'plus'>): Table {
  return { schema: logSchemaOf(em, plus?.relayOptions), name: CHANGE_LOG_TABLE };
}
