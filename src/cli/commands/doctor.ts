import type { Call } from '../arguments.js';
import { ask } from '../doctor/ask.js';
import { checkChangeLog } from '../doctor/change-log.js';
import { findingsOf, type Check, type DoctorContext, type Finding } from '../doctor/finding.js';
import { checkNaturalKeys } from '../doctor/natural-keys.js';
import { checkRegions } from '../doctor/regions.js';
import { checkRelay } from '../doctor/relay.js';
import { printJson, printText } from '../doctor/reports.js';
import { whoIsInTheWay } from '../doctor/remedies.js';
import { checkStores } from '../doctor/stores.js';
import type { Project } from '../project.js';
import { errorText, printError } from '../terminal.js';
import { NoAnswerError } from '../within-time.js';

const { ok, problem } = findingsOf('database');

const needDatabase: readonly Check[] = [checkNaturalKeys, checkChangeLog, checkRelay];
const needNone: readonly Check[] = [checkRegions, checkStores];

/** Prints what is right and wrong with database, stores and relay. Exit code 1 when there is a problem. */
export async function doctor(project: Project, { options }: Call): Promise<number> {
  const { em, entities, plus } = project;
  const findings = await examine({ em, entities, plus, schema: options.schema });
  (options.json ? printJson : printText)(findings);
  return findings.some(({ severity }) => severity === 'problem') ? 1 : 0;
}

async function examine(context: DoctorContext): Promise<Finding[]> {
  const database = await checkDatabase(context);
  const checks = database.severity === 'ok' ? [...needDatabase, ...needNone] : needNone;
  const findings = [database];
  for (const check of checks) findings.push(...(await check(context).catch(checkFailed)));
  return findings;
}

/** The other checks go on: the account may just not be allowed to see something. */
function checkFailed(error: unknown): Finding[] {
  if (error instanceof NoAnswerError) {
    return [problem('no-answer', 'doctor', `a check could not be finished: ${error.message}`, whoIsInTheWay)];
  }
  const remedy = ['-- is the account allowed to read the tables? DEBUG=1 shows where it failed'];
  if (process.env.DEBUG) printError(error);
  return [problem('check-failed', 'doctor', `a check could not be finished: ${errorText(error)}`, remedy)];
}

async function checkDatabase({ em }: DoctorContext): Promise<Finding> {
  const subject = em.config.get('dbName') ?? 'database';
  try {
    const [row] = await ask(em, { sql: "select current_setting('server_version') as version", params: [] });
    return ok('reachable', subject, `PostgreSQL ${String(row!.version)}`);
  } catch (error) {
    const remedy = ['npx mikro-orm debug', '-- keys, change log and relay were not looked at'];
    return problem('unreachable', subject, `does not answer: ${errorText(error)}`, remedy);
  }
}
