import { cachedTables } from '../../invalidation/cached-tables.js';
import {
  CHANGE_LOG_TABLE,
  TRIGGER_VERSION,
  triggerName,
  triggerVersion,
  WATCHED_EVENTS,
} from '../../invalidation/change-log.js';
import type { Meta } from '../../orm/metadata.js';
import { columnsOfTable, libraryTriggers, type DatabaseTrigger, type Table } from './catalog.js';
import { findingsOf, type DoctorContext, type Finding } from './finding.js';
import { migrate, shown, triggerSql } from './remedies.js';
import { logTableOf, tableOf } from '../tables.js';

const { ok, warning, problem } = findingsOf('change-log');

const LOG_COLUMNS = ['id', 'table_schema', 'table_name', 'keys', 'created_at'];

/** Whether every cached table is watched for changes that are made past MikroORM, and the log is there to take them. */
export async function checkChangeLog(context: DoctorContext): Promise<Finding[]> {
  const { em, plus, entities } = context;
  const cached = new Set(cachedTables(em.getMetadata(), em.config));
  const tables = entities.filter((meta) => cached.has(meta));
  if (tables.length === 0) return [];
  const triggers = await libraryTriggers(em);
  const isWanted =
    plus?.relayOptions !== undefined ||
    triggers.length > 0 ||
    entities.some(({ tableName }) => tableName === CHANGE_LOG_TABLE);
  if (!isWanted) return [notWanted(tables)];
  return [
    await checkLog(context),
    ...(await Promise.all(tables.map((meta) => checkTable(context, meta, triggers)))).flat(),
    ...unneeded(context, tables, triggers),
  ];
}

function notWanted(tables: readonly Meta[]): Finding {
  const names = tables.map(({ className }) => className).join(', ');
  const message =
    'changes made past MikroORM (SQL, other services, cascades) are not seen: rows stay cached until their ttl';
  return warning('none', names, message, [
    "-- in the configuration: export default withChangeLog({ … }), of 'mikro-orm-plus/migrations', and relay: true",
    ...migrate,
  ]);
}

async function checkLog(context: DoctorContext): Promise<Finding> {
  const table = logTableOf(context);
  const declared = context.entities.find(({ tableName }) => tableName === CHANGE_LOG_TABLE);
  if (declared && tableOf(context, declared).schema !== table.schema) {
    const elsewhere = shown(tableOf(context, declared));
    const message = `triggers write to ${elsewhere}, but the relay reads ${shown(table)}`;
    const remedy = '-- give withChangeLog() and the relay the same schema: relay: { schema: … }';
    return problem('log-elsewhere', CHANGE_LOG_TABLE, message, [remedy]);
  }
  const columns = await columnsOfTable(context.em, table);
  if (!columns) {
    const message = `there is no table ${shown(table)}: statements on tables with triggers fail`;
    return problem('log-missing', CHANGE_LOG_TABLE, message, migrate);
  }
  const missing = LOG_COLUMNS.filter((column) => !columns.has(column));
  if (missing.length === 0) return ok('log', CHANGE_LOG_TABLE, `the table ${shown(table)} is there`);
  const message = `the table ${shown(table)} has no column ${missing.join(', ')}`;
  return problem('log-columns', CHANGE_LOG_TABLE, message, migrate);
}

async function checkTable(context: DoctorContext, meta: Meta, all: readonly DatabaseTrigger[]): Promise<Finding[]> {
  const table = tableOf(context, meta);
  // a missing table is told where keys are checked, or is one of a schema that wasn't named
  if (!(await columnsOfTable(context.em, table))) return [];
  const triggers = all.filter((trigger) => isOn(trigger, table));
  const findings = WATCHED_EVENTS.flatMap((event) => {
    const name = triggerName(event);
    const trigger = triggers.find((each) => each.name === name);
    if (trigger) return [...checkEnabled(meta, table, trigger), ...checkRights(meta, table, trigger)];
    const other = triggers.find((each) => each.name.endsWith(`_${event}`));
    if (!other) {
      return [problem('trigger-missing', meta.className, `${shown(table)} has no trigger ${name}`, migrate)];
    }
    const message = `the trigger ${other.name} on ${shown(table)} is of version ${triggerVersion(other.name)}, needed is ${TRIGGER_VERSION}`;
    return [problem('trigger-version', meta.className, message, migrate)];
  });
  for (const { name } of triggers.filter((trigger) => isLeftOver(trigger, triggers))) {
    const message = `the trigger ${name} on ${shown(table)} was replaced, but is still there: changes are logged twice`;
    findings.push(warning('trigger-left-over', meta.className, message, [triggerSql.drop(table, name)]));
  }
  if (findings.length > 0) return findings;
  return [ok('triggers', meta.className, `${shown(table)} is watched for ${WATCHED_EVENTS.join(', ')}`)];
}

function checkEnabled(meta: Meta, table: Table, { name, enabled }: DatabaseTrigger): Finding[] {
  if (enabled === 'O' || enabled === 'A') return [];
  const how = enabled === 'R' ? 'fires only for replicated changes' : 'is disabled';
  return [
    problem('trigger-disabled', meta.className, `the trigger ${name} on ${shown(table)} ${how}`, [
      triggerSql.enable(table, name),
      `npx mikro-orm-plus evict ${meta.className}`,
    ]),
  ];
}

function checkRights(meta: Meta, table: Table, trigger: DatabaseTrigger): Finding[] {
  if (!trigger.isPublic) return [];
  const message = `any role may execute the function of the trigger ${trigger.name} on ${shown(table)}, and have its owner run code`;
  return [problem('trigger-public', meta.className, message, [triggerSql.revoke(trigger.function)])];
}

/** An old trigger is what is wrong only where there is a new one too. */
function isLeftOver({ name }: DatabaseTrigger, triggers: readonly DatabaseTrigger[]): boolean {
  const event = WATCHED_EVENTS.find((each) => name.endsWith(`_${each}`));
  return (
    triggerVersion(name) !== TRIGGER_VERSION &&
    event !== undefined &&
    triggers.some((each) => each.name === triggerName(event))
  );
}

/** Triggers on tables that nothing caches: their changes are logged for nobody. */
function unneeded(context: DoctorContext, metas: readonly Meta[], triggers: readonly DatabaseTrigger[]): Finding[] {
  const needed = metas.map((meta) => ({ ...tableOf(context, meta), isEverywhere: meta.schema === '*' }));
  const isNeeded = (trigger: DatabaseTrigger): boolean =>
    needed.some((table) => isOn(trigger, table) || (table.isEverywhere && trigger.table === table.name));
  const tables = new Map(
    triggers
      .filter((trigger) => !isNeeded(trigger))
      .map(({ schema, table }) => [`${schema}.${table}`, { schema, name: table }]),
  );
  return [...tables.values()].map((table) =>
    warning('unneeded', table.name, `${shown(table)} has triggers, but no entity of this project is cached in it`, [
      '-- right if another project caches it; else:',
      ...migrate,
    ]),
  );
}

function isOn(trigger: DatabaseTrigger, { schema, name }: Table): boolean {
  return trigger.schema === schema && trigger.table === name;
}
