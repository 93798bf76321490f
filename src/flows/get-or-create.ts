import { missingKeyError, planFor } from '../natural-keys/plan.js';
import { findManaged, noteManaged, noteManyManaged } from '../natural-keys/managed.js';
import { driverOf, run } from '../orm/context.js';
import { hearsLoads } from '../orm/entities.js';
import { inUnit } from '../orm/unit.js';
import { advisoryLock } from '../sql/advisory-lock.js';
import { Batch, type Entry, type Got, type Request } from './batch.js';
import type { CacheSession } from './cache-session.js';
import { rowFor, type Call } from './call.js';
import { canGuess, createRows, type CreationMode } from './create.js';
import { expectsNone } from './expectation.js';
import { findRows, manage, needsHost, needsPopulating, plainRows, populate, sightRows, TAKEN } from './find.js';
import { workMeanwhile } from './meanwhile.js';
import { sharesSelects } from './SharedSelect.js';
import { tellProgress } from './progress.js';
import { reportLookups } from './report.js';

/**
 * The way of a lookup: identity map, cache, database, creation, and the database again when a race was lost. Each step
 * takes what the steps before it left open, all of it at once: a single lookup is a batch of one.
 */
export function getOrCreate(call: Call, requests: readonly Request[]): Got[] | Promise<Got[]> {
  const startedAt = performance.now();
  requireKeys(call, requests);
  const batch = new Batch(requests);
  const byHost = needsHost(call);
  if (byHost === false) lookAtHand(call, batch);
  if (byHost !== false || batch.isOpen || needsPopulating(call)) return goOn(call, batch, byHost, startedAt);
  reportLookups(call, batch, startedAt);
  return batch.results();
}

/** What takes no waiting: entities of the caller's, and copies in this process. */
function lookAtHand(call: Call, batch: Batch): void {
  if (call.options.refresh) return;
  lookInIdentityMap(call, batch);
  call.cache?.peek(batch);
}

async function goOn(
  call: Call,
  batch: Batch,
  maybeByHost: boolean | Promise<boolean>,
  startedAt: number,
): Promise<Got[]> {
  const byHost = maybeByHost !== false && (await maybeByHost);
  if (!byHost && maybeByHost !== false) lookAtHand(call, batch);
  if (batch.isOpen) await lookFurther(call, batch, byHost ? undefined : call.cache);
  if (needsPopulating(call)) await populate(call, batch.entities());
  reportLookups(call, batch, startedAt);
  return batch.results();
}

async function lookFurther(call: Call, batch: Batch, cache: CacheSession | undefined): Promise<void> {
  await cache?.read(batch);
  if (guessesNone(call, batch)) await createEntries(call, batch, batch.open(), 'guess');
  // what was found in the cache left nothing to be stored there
  if (!batch.isOpen) return;
  const manageFound = await lookFirst(call, batch, cache?.extraColumns);
  await createMissing(call, batch, manageFound);
  manageFound?.();
  await cache?.fill(batch);
}

/** Refuses lookups whose row could be created twice, before anything is sent. */
function requireKeys(call: Call, requests: readonly Request[]): void {
  if (call.options.serialize) return;
  for (const { lookup } of requests) {
    if (lookup.parts.length > 0 && !planFor(driverOf(call.em), lookup).key)
      throw missingKeyError(driverOf(call.em), lookup);
  }
}

function lookInIdentityMap(call: Call, batch: Batch): void {
  for (const entry of batch.entries) {
    const entity = findManaged(call.em, entry.lookup, call.target.schema);
    if (entity) entry.answerWith({ entity, servedBy: 'identity-map' });
  }
}

/**
 * Whether the row of a single lookup is to be created without looking for it first, since lookups like it have found
 * nothing of late. Callers that share their statements save one by it. A value beside the key could make the server
 * refuse more statements than the callers may send.
 */
function guessesNone(call: Call, batch: Batch): boolean {
  if (batch.entries.length > 1 || call.cache || call.createEntity || call.options.refresh) return false;
  const { lookup, defaults } = batch.entries[0]!;
  const plan = planFor(driverOf(call.em), lookup);
  if (!plan.key || lookup.parts.length > 1 || !expectsNone(plan)) return false;
  return needsHost(call) === false && sharesSelects(call) && canGuess(call, defaults);
}

/** Fewer rows are made entities at once. */
const MANY = 50;

/** Most lookups that one select of a batch answers: the rows of one are made entities while the next is answered. */
const LOOKUPS = 10_000;

/**
 * The first look into the database. Making entities of many rows takes as long as creating as many others, so that it can
 * be done while the database does that, unless somebody listens or it is the application that creates.
 *
 * @returns makes the entities of the rows that were found, if that isn't done yet
 */
async function lookFirst(call: Call, batch: Batch, extraColumns = ''): Promise<(() => void) | undefined> {
  const open = batch.open();
  const isOurs = needsHost(call) === false && !call.createEntity && !hearsLoads(call.em, call.meta);
  if (open.length < MANY || !isOurs || call.options.refresh) {
    await lookInDatabase(call, batch, extraColumns);
    return undefined;
  }
  let manageLast = (): void => undefined;
  for (let start = 0; start < open.length; start += LOOKUPS) {
    const entries = open.slice(start, start + LOOKUPS);
    const areDistinct = await workMeanwhile(sight(call, entries, extraColumns), manageLast);
    manageLast = () => manageSighted(call, entries, areDistinct);
    tellProgress(call, batch);
  }
  return manageLast;
}

/** Notes which rows the database has. Returns whether none of the table is among them twice. */
async function sight(call: Call, entries: readonly Entry[], extraColumns: string): Promise<boolean> {
  const lookups = entries.map(({ lookup }) => lookup);
  const { rows, areDistinct } = await sightRows(call, lookups, extraColumns);
  for (const [index, entry] of entries.entries()) {
    const row = rows[index];
    entry.isTaken = row === TAKEN;
    if (row !== TAKEN) entry.sighted = row;
  }
  return areDistinct;
}

function manageSighted(call: Call, entries: readonly Entry[], areDistinct: boolean): void {
  const plain = plainRows(call, entries.length, areDistinct);
  for (const entry of entries) {
    const row = entry.sighted;
    if (!row) continue;
    entry.sighted = undefined;
    entry.answerWith({ entity: plain?.load(row) ?? manage(call, row), row: rowFor(call, row), servedBy: 'database' });
  }
  noteManyManaged(call.em, call.meta);
}

async function lookInDatabase(call: Call, batch: Batch, extraColumns = '', raceLost = false): Promise<void> {
  const open = batch.open();
  const found = await findRows(
    call,
    open.map(({ lookup }) => lookup),
    extraColumns,
  );
  open.forEach((entry, index) => {
    const match = found[index];
    entry.isTaken = match === TAKEN;
    if (!match || match === TAKEN) return;
    if (open.length === 1) noteManaged(call.em, entry.lookup, call.target.schema, match.entity);
    entry.answerWith({ entity: match.entity, row: rowFor(call, match.row), servedBy: 'database', raceLost });
  });
  if (open.length > 1) noteManyManaged(call.em, call.meta);
  tellProgress(call, batch);
}

/**
 * Creates what was not found. A taken key means that another writer was faster: its row is there to be read now. When
 * it is gone again, or doesn't match the whole lookup, the second try is followed by a plain insert, which succeeds or
 * tells by its own exception which constraint stands in the way.
 */
async function createMissing(call: Call, batch: Batch, meanwhile?: () => void): Promise<void> {
  // first what can't succeed, so that a batch that fails has stored nothing
  await createEntries(
    call,
    batch,
    batch.open().filter(({ isTaken }) => isTaken),
    'fail',
  );
  // MikroORM's own query, which knows more conditions, and an overridden creation look for the row themselves
  const taken = needsHost(call) === false && !call.createEntity ? 'find' : 'yield';
  for (const onConflict of [taken, taken, 'fail'] as const) {
    const open = batch.open();
    if (open.length === 0) return;
    const { keyed, keyless } = splitByKey(call, open);
    for (const entry of keyless) await createUnderLock(call, entry);
    await createEntries(call, batch, keyed, onConflict, meanwhile);
    await lookInDatabase(call, batch, '', true);
  }
}

async function createEntries(
  call: Call,
  batch: Batch,
  entries: readonly Entry[],
  onConflict: CreationMode['onConflict'],
  meanwhile?: () => void,
): Promise<void> {
  const onCreated = (count: number): void => tellProgress(call, batch, count);
  const created = await createRows(call, entries, {
    onConflict,
    hooks: 'fire',
    onCreated,
    ...(meanwhile && { meanwhile }),
  });
  entries.forEach((entry, index) => {
    const result = created[index];
    if (!result) return;
    const { entity, row, isFound } = result;
    if (isFound) noteManaged(call.em, entry.lookup, call.target.schema, entity);
    entry.answerWith({
      entity,
      row,
      servedBy: 'database',
      created: !isFound,
      raceLost: isFound,
    });
  });
}

function splitByKey(call: Call, entries: readonly Entry[]): { keyed: Entry[]; keyless: Entry[] } {
  const { keyed = [], keyless = [] } = Object.groupBy(entries, ({ lookup }) =>
    planFor(driverOf(call.em), lookup).key ? 'keyed' : 'keyless',
  );
  return { keyed, keyless };
}

/** Without a unique key an advisory lock keeps others out from the last look until the transaction's end. */
async function createUnderLock(call: Call, entry: Entry): Promise<void> {
  const work = async (): Promise<void> => {
    await run(call.em, advisoryLock(call.target, entry.lookup), call.options);
    const [found] = await findRows(call, [entry.lookup]);
    if (found && found !== TAKEN) return entry.answerWith({ ...found, servedBy: 'database', raceLost: true });
    const [created] = await createRows(call, [entry], { onConflict: 'fail', hooks: 'fire' });
    entry.answerWith({ ...created!, servedBy: 'database', created: true });
  };
  await (call.em.isInTransaction() && !call.atomic ? work() : inUnit(call.em, work));
}
