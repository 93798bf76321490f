import { cachedTables } from '../../invalidation/cached-tables.js';
import { relayLockKey } from '../../invalidation/relay/ChangeLog.js';
import { quote, type Meta } from '../../orm/metadata.js';
import { ask } from './ask.js';
import { columnsOfTable } from './catalog.js';
import { findingsOf, type DoctorContext, type Finding } from './finding.js';
import { logTableOf, tableOf } from '../tables.js';

const { ok, warning, problem } = findingsOf('relay');

/** A relay that works is done with a change after this time, even without being told of it. */
const SLOW_MS = 10_000;
const STUCK_MS = 60_000;

/** Where counting ends. */
const MAX_COUNTED = 100_000;

const startRelay = ['npx mikro-orm-plus relay', '-- or in the application: new PlusSubscriber({ relay: true, … })'];

/** Changes in the log that nobody has delivered yet. */
interface Backlog {
  readonly count: number;
  /** Of the oldest, in milliseconds. */
  readonly ageMs: number;
}

/** Whether somebody delivers the changes in the log, and keeps up. */
export async function checkRelay(context: DoctorContext): Promise<Finding[]> {
  const log = logTableOf(context);
  // a log that is missing, or not wanted, is told where the change log is checked
  if (!(await columnsOfTable(context.em, log))?.has('created_at')) return [];
  const tables = cachedTables(context.em.getMetadata(), context.em.config);
  if (tables.length === 0) return [];
  const [holder, { own, foreign }] = [await findHolder(context), await readBacklog(context, tables)];
  return [checkHolder(holder, own), ...(holder ? checkPace(own) : []), ...checkForeign(foreign)];
}

function checkHolder(holder: string | undefined, { count, ageMs }: Backlog): Finding {
  if (holder !== undefined) return ok('running', 'relay', `is running (${holder}), ${changes(count)} waiting`);
  const waiting = count > 0 ? `: ${changes(count)} waiting, the oldest for ${seconds(ageMs)}` : '';
  return problem('not-running', 'relay', `nobody delivers the change log${waiting}`, startRelay);
}

function checkPace({ count, ageMs }: Backlog): Finding[] {
  if (count === 0 || ageMs <= SLOW_MS) return [];
  const message = `${changes(count)} waiting, the oldest for ${seconds(ageMs)}`;
  const remedy = ['-- is its store reachable, and does it log failures? see plus.relayStatus()'];
  return [ageMs > STUCK_MS ? problem('stuck', 'relay', message, remedy) : warning('slow', 'relay', message, remedy)];
}

function checkForeign({ count, ageMs }: Backlog): Finding[] {
  if (count === 0 || ageMs <= STUCK_MS) return [];
  const message = `${changes(count)} of tables that this project does not cache, the oldest ${seconds(ageMs)} old`;
  return [
    warning('foreign', 'relay', message, [
      '-- right if another project delivers them; they are thrown away after a week',
    ]),
  ];
}

/** Who holds the lock of the active relay. */
async function findHolder({ em, plus }: DoctorContext): Promise<string | undefined> {
  const [row] = await ask(em, {
    sql: `select l.pid::int as "pid", host(a.client_addr) as "host" from pg_locks l
        left join pg_stat_activity a on a.pid = l.pid
      where l.locktype = 'advisory' and l.granted and l.objsubid = 1
        and l.database = (select oid from pg_database where datname = current_database())
        and (l.classid::bigint << 32) | l.objid::bigint = ?::bigint`,
    params: [relayLockKey(logTableOf({ em, plus }).schema)],
  });
  if (!row) return undefined;
  const { pid, host } = row as { pid: number; host: string | null };
  return `server process ${pid}${host === null ? '' : ` from ${host}`}`;
}

async function readBacklog(
  context: DoctorContext,
  tables: readonly Meta[],
): Promise<{ own: Backlog; foreign: Backlog }> {
  const log = logTableOf(context);
  const rows = await ask(context.em, {
    sql: `select table_schema as "schema", table_name as "table", count(*)::int as "count",
        (extract(epoch from clock_timestamp() - min(created_at)) * 1000)::float8 as "ageMs"
      from (select table_schema, table_name, created_at from ${quote(log.schema)}.${quote(log.name)}
        order by id limit ${MAX_COUNTED}) as l group by 1, 2`,
    params: [],
  });
  const isOwn = ({ schema, table }: Record<string, unknown>): boolean =>
    tables.some(
      (meta) => meta.tableName === table && (meta.schema === '*' || tableOf(context, meta).schema === schema),
    );
  return { own: sum(rows.filter(isOwn)), foreign: sum(rows.filter((row) => !isOwn(row))) };
}

function sum(rows: readonly Record<string, unknown>[]): Backlog {
  return {
    count: rows.reduce((total, { count }) => total + Number(count), 0),
    ageMs: Math.max(0, ...rows.map(({ ageMs }) => Number(ageMs))),
  };
}

function changes(count: number): string {
  if (count >= MAX_COUNTED) return `${MAX_COUNTED.toLocaleString('en-US')} changes or more`;
  return count === 1 ? '1 change' : `${count.toLocaleString('en-US')} changes`;
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1_000).toLocaleString('en-US')} s`;
}
