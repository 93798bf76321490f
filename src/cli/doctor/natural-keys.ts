import { CORE, hasTrait } from '../../config/traits.js';
import { uniqueKeysOf, type UniqueKey } from '../../natural-keys/unique-keys.js';
import { driverOf, type EntityManager } from '../../orm/context.js';
import { isTablePerType, loadedProps, type Meta } from '../../orm/metadata.js';
import { columnsOfProp } from '../../orm/statement.js';
import { errorText } from '../terminal.js';
import { ask } from './ask.js';
import { columnsOfTable, indexesOfTable, type DatabaseIndex, type Table } from './catalog.js';
import { findingsOf, type DoctorContext, type Finding } from './finding.js';
import { faultOf, type KeyFault } from './key-faults.js';
import { migrate, nameOfKey, replaceIndexes, shown, whoIsInTheWay } from './remedies.js';
import { tableOf } from '../tables.js';
import { NoAnswerError } from '../within-time.js';

const { ok, warning, problem } = findingsOf('natural-keys');

/** Whether the database has the unique indexes that metadata declares, as the statements of get-or-create need them. */
export async function checkNaturalKeys(context: DoctorContext): Promise<Finding[]> {
  const findings: Finding[] = [];
  const seen = new Set<string>();
  for (const meta of context.entities) {
    if (!hasPlusRepository(context.em, meta)) continue;
    try {
      findings.push(...(await checkEntity(context, meta, seen)));
    } catch (error) {
      findings.push(await unanswered(context, meta, error));
    }
  }
  return findings;
}

function hasPlusRepository(em: EntityManager, meta: Meta): boolean {
  const repository = em.config.getRepositoryClass(meta.repository) as { prototype: object };
  return !meta.virtual && hasTrait(repository.prototype, CORE);
}

/** A table that is locked keeps doctor from its own keys only; a server that hangs, from all others. */
async function unanswered(context: DoctorContext, meta: Meta, error: unknown): Promise<Finding> {
  if (!(error instanceof NoAnswerError)) throw error;
  await ask(context.em, { sql: 'select 1', params: [] });
  const message = `${error.message} about the indexes of ${shown(tableOf(context, meta))}`;
  return problem('no-answer', meta.className, message, whoIsInTheWay);
}

/** `seen`: what was reported of other classes in the same table. */
async function checkEntity(context: DoctorContext, meta: Meta, seen: Set<string>): Promise<Finding[]> {
  const { em } = context;
  const isNew = (...id: unknown[]): boolean => {
    const text = JSON.stringify(id);
    return !seen.has(text) && seen.add(text) !== undefined;
  };
  if (isTablePerType(meta)) {
    const message = 'its rows are spread over several tables (table-per-type inheritance), which is not supported';
    return [
      problem('table-per-type', meta.className, message, ['-- use single-table inheritance, or another repository']),
    ];
  }
  const table = tableOf(context, meta);
  const columns = await columnsOfTable(em, table);
  if (!columns) {
    if (!isNew(table)) return [];
    if (meta.schema === '*' && context.schema === undefined) return [schemaUnknown(meta)];
    return [problem('table-missing', meta.className, `there is no table ${shown(table)}`, migrate)];
  }
  const missing = loadedProps(meta)
    .flatMap((prop) => (prop.formula ? [] : columnsOfProp(prop)))
    .filter((column) => !columns.has(column) && isNew(table, column));
  const findings = missing.map((column) =>
    problem('column-missing', meta.className, `the table ${shown(table)} has no column "${column}"`, migrate),
  );
  const indexes = await indexesOfTable(em, table);
  for (const key of uniqueKeysOf(driverOf(em), meta)) {
    const isThere = key.columns.every((column) => columns.has(column));
    if (isThere && isNew(table, key.columns, key.predicate, key.nullsNotDistinct)) {
      findings.push(await checkKey(em, meta, table, key, indexes));
    }
  }
  return [...findings, ...checkDeclarations(em, meta)];
}

function schemaUnknown(meta: Meta): Finding {
  const message = 'is in every schema (schema: "*") and none was named, so its keys were not looked at';
  return warning('schema-unknown', meta.className, message, ['npx mikro-orm-plus doctor --schema <name>']);
}

/** What the declarations alone show. */
function checkDeclarations(em: EntityManager, meta: Meta): Finding[] {
  const deferred = [...new Set([...meta.uniques, ...meta.root.uniques])].filter(({ deferMode }) => deferMode);
  const findings = deferred.map(({ properties }) =>
    warning(
      'declared-deferrable',
      `${meta.className}(${[properties ?? []].flat().join(', ')})`,
      'is declared deferrable, so no lookup can use it',
      ['-- remove deferMode from the declaration, then:', ...migrate],
    ),
  );
  if (uniqueKeysOf(driverOf(em), meta).length === 1 && deferred.length === 0) {
    const message = 'has no key but its primary key, so getOrCreate() can look rows up by nothing else';
    const remedy = "-- declare what names a row: unique: true on a property, or @Unique({ properties: ['…'] })";
    findings.push(warning('none', meta.className, message, [remedy]));
  }
  return findings;
}

async function checkKey(
  em: EntityManager,
  meta: Meta,
  table: Table,
  key: UniqueKey,
  indexes: readonly DatabaseIndex[],
): Promise<Finding> {
  const subject = `${meta.className}(${key.props.map(({ name }) => name).join(', ')})`;
  const where = key.predicate === undefined ? '' : ` where ${key.predicate}`;
  const found = [];
  try {
    for (const index of indexes) {
      if (hasColumns(index, key.columns)) found.push({ index, fault: await faultOf(em, table, key, index) });
    }
  } catch (error) {
    if (error instanceof NoAnswerError) throw error;
    const message = `its predicate (${key.predicate}) can't be used on the table: ${errorText(error)}`;
    return problem('predicate-unusable', subject, message, ['-- correct `where` of the declaration']);
  }
  const serving = found.find(({ fault }) => fault === undefined);
  if (serving) return ok('present', subject, `unique index "${serving.index.name}"${where}`);
  const [nearest] = found.toSorted((one, other) => other.fault!.nearness - one.fault!.nearness);
  const namesake = indexes.find(({ name }) => name === nameOfKey(em, table, key));
  // an index that isn't unique serves other queries, and may stay unless its name is needed
  const inTheWay = new Set([nearest?.index.isUnique ? nearest.index : undefined, namesake]);
  const replaced = [...inTheWay].filter((index) => index !== undefined);
  const { code, message } = nearest ? ofIndex(nearest.index, nearest.fault!) : ofNone(key, namesake);
  return problem(code, subject, message, replaceIndexes(em, table, key, replaced));
}

interface Diagnosis {
  readonly code: string;
  readonly message: string;
}

function ofIndex({ name }: DatabaseIndex, { code, message }: KeyFault): Diagnosis {
  return { code, message: `index "${name}" ${message}` };
}

/** There is no index on the key's columns, but maybe one of its name. */
function ofNone({ columns, predicate }: UniqueKey, namesake: DatabaseIndex | undefined): Diagnosis {
  const declared = `(${columns.join(', ')})`;
  if (!namesake) {
    const where = predicate === undefined ? '' : ` where ${predicate}`;
    return { code: 'missing', message: `there is no unique index on ${declared}${where}` };
  }
  const others = namesake.hasExpressions ? 'an expression' : `(${namesake.columns.join(', ')})`;
  return { code: 'other-columns', message: `index "${namesake.name}" is on ${others}, declared is ${declared}` };
}

function hasColumns(index: DatabaseIndex, columns: readonly string[]): boolean {
  return (
    !index.hasExpressions &&
    index.columns.length === columns.length &&
    columns.every((column) => index.columns.includes(column))
  );
}
