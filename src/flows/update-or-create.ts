import { ValidationError } from '@mikro-orm/core';
import { keyOrder, missingKeyError, planFor } from '../natural-keys/plan.js';
import type { Lookup } from '../natural-keys/lookup.js';
import { noteManaged } from '../natural-keys/managed.js';
import { buildCandidate, type Candidate } from '../orm/candidate.js';
import { canonical } from '../orm/canonical.js';
import { buildChanges, fireAfterUpsert, fireBeforeUpsert, isSame, type Changes } from '../orm/changes.js';
import { driverOf, run, type Row } from '../orm/context.js';
import { hydrateCreated, hydrateWritten } from '../orm/entities.js';
import { isSqlFragment } from '../orm/statement.js';
import { inUnit, noteCreated } from '../orm/unit.js';
import { advisoryLock } from '../sql/advisory-lock.js';
import { ORDINAL, selectRows } from '../sql/select.js';
import { CREATED, upsertRows, type Upsert } from '../sql/upsert.js';
import { Batch, type Entry, type Got } from './batch.js';
import type { Call, Data } from './call.js';
import { createRows, evaluate } from './create.js';
import { multipleRowsError, populate } from './find.js';
import { reportLookups } from './report.js';

/** One row to change, or to create when there is none. */
export interface UpdateRequest {
  readonly lookup: Lookup;
  readonly values: Readonly<Data>;
  /** Values of a new row instead of `values`. */
  readonly createDefaults?: Readonly<Data> | undefined;
}

/** An entry of the batch with everything its statement needs. */
interface Update {
  readonly entry: Entry;
  readonly changes: Changes;
  /** What a new row is made of beside the lookup; its functions are called when the row is known to be new. */
  readonly newValues: Readonly<Data>;
  readonly candidate: Candidate | undefined;
  readonly renames: boolean;
}

/**
 * The way of an update: the values are prepared, one statement changes or inserts all rows, and what the database
 * returned is brought into the identity map. Rows whose insert can't be prepared beforehand (functions, a `createEntity`
 * of the application's, SQL among the values, missing required values) are changed first, and created when there was
 * nothing to change.
 */
export async function updateOrCreate(call: Call, requests: readonly UpdateRequest[]): Promise<Got[]> {
  const startedAt = performance.now();
  call.cache?.requireWritable();
  const merged = mergeRequests(requests);
  const batch = new Batch(requests.map(({ lookup, values }) => ({ lookup, defaults: values })));
  for (const { lookup } of merged) {
    if (!call.options.serialize && lookup.parts.length > 0 && !planFor(driverOf(call.em), lookup).key) {
      throw missingKeyError(driverOf(call.em), lookup);
    }
  }
  const updates: Update[] = [];
  for (const entry of batch.entries) {
    updates.push(
      await prepare(
        call,
        entry,
        merged.find(({ lookup }) => isSameLookup(lookup, entry.lookup))!,
      ),
    );
  }
  await writeAll(call, updates);
  for (const { entry } of updates) {
    call.cache?.announce(entry.answer!.entity);
    await fireAfterUpsert(call.em, entry.answer!.entity);
  }
  await call.cache?.fill(batch);
  await populate(call, batch.entities());
  reportLookups(call, batch, startedAt);
  return batch.results();
}

function isSameLookup(left: Lookup, right: Lookup): boolean {
  return left.shape === right.shape && left.text === right.text;
}

/** Requests for one row become one, with the effect of running them in turn. */
function mergeRequests(requests: readonly UpdateRequest[]): UpdateRequest[] {
  const merged = new Map<string, UpdateRequest>();
  for (const request of requests) {
    const key = `${request.lookup.shape}\0${request.lookup.text}`;
    const first = merged.get(key);
    merged.set(
      key,
      first
        ? {
            lookup: first.lookup,
            values: { ...first.values, ...request.values },
            createDefaults: first.createDefaults && { ...first.createDefaults, ...request.values },
          }
        : request,
    );
  }
  return [...merged.values()];
}

async function prepare(call: Call, entry: Entry, request: UpdateRequest): Promise<Update> {
  const { lookup } = entry;
  const values = await evaluate(request.values);
  const data: Data = { ...lookup.where, ...values };
  await fireBeforeUpsert(call.em, call.meta, data);
  for (const [name, value] of Object.entries(data)) {
    const given = name in values ? values[name] : lookup.where[name];
    if (name in values || !isSame(value, given)) values[name] = value;
  }
  const changes = buildChanges(call.em, call.meta, values);
  const newValues = request.createDefaults ?? values;
  const candidate = await tryCandidate(call, lookup, values, newValues);
  const renames = candidate !== undefined && isRenamed(call, lookup, candidate, newValues);
  return { entry, changes, newValues, candidate, renames };
}

/** The candidate for a new row, when it can be known before it is known that the row is new. */
async function tryCandidate(
  call: Call,
  lookup: Lookup,
  values: Data,
  newValues: Readonly<Data>,
): Promise<Candidate | undefined> {
  const known =
    !call.createEntity &&
    planFor(driverOf(call.em), lookup).key !== undefined &&
    !Object.values(newValues).some((value) => typeof value === 'function') &&
    !Object.values(values).some(isSqlFragment);
  if (!known) return undefined;
  try {
    return await buildCandidate(call.em, call.meta, { ...lookup.where, ...newValues }, call.target.schema, 'silent');
  } catch (error) {
    // required values may be missing as long as the row exists; if it doesn't, building it again throws this again
    if (error instanceof ValidationError) return undefined;
    throw error;
  }
}

/** Whether the new row would have another key than the lookup. */
function isRenamed(call: Call, lookup: Lookup, candidate: Candidate, newValues: Readonly<Data>): boolean {
  const key = planFor(driverOf(call.em), lookup).key!;
  const parts = new Map(lookup.parts.map(({ prop, value }) => [prop.name, value]));
  return key.props.some(({ name, embedded }) => {
    const given = Object.hasOwn(newValues, name) || (embedded !== undefined && Object.hasOwn(newValues, embedded[0]));
    return given && canonical(candidate.payload[name]) !== canonical(parts.get(name));
  });
}

async function writeAll(call: Call, updates: readonly Update[]): Promise<void> {
  const direct = turnsOf(
    call,
    updates.filter(({ candidate }) => candidate),
  );
  const stepwise = turnsOf(
    call,
    updates.filter(({ candidate }) => !candidate),
  );
  const work = async (): Promise<void> => {
    for (const turn of direct) await writeDirect(call, turn);
    for (const turn of stepwise) await writeStepwise(call, turn);
    await call.cache?.written(updates.map(({ entry }) => entry));
  };
  const keyless = stepwise.flat().some(({ entry }) => !planFor(driverOf(call.em), entry.lookup).key);
  const several = call.atomic && updates.length > 1 && (stepwise.length > 0 || direct.length > 1);
  // soft locks of cached rows belong to a transaction: the keys are known only after the statement
  const ofCache = call.cache !== undefined;
  const outside = !call.em.isInTransaction();
  await ((outside && (keyless || ofCache)) || several ? inUnit(call.em, work) : work());
}

/** One statement changes a row once: lookups that name one key in several ways take turns. */
function turnsOf(call: Call, updates: readonly Update[]): Update[][] {
  const turns: Update[][] = [];
  const taken = new Map<string, number>();
  for (const update of updates) {
    const key = keyOrder(driverOf(call.em), update.entry.lookup);
    const turn = taken.get(key) ?? 0;
    taken.set(key, turn + 1);
    (turns[turn] ??= []).push(update);
  }
  return turns;
}

async function writeDirect(call: Call, updates: readonly Update[]): Promise<void> {
  const ordered = inCanonicalOrder(call, updates);
  // a batch that was too late with a row sees it in a second statement; a third is for rows that vanished meanwhile
  const attempts = ordered.length > 1 ? 3 : 1;
  for (let attempt = 0; attempt < attempts; attempt++) {
    const open = ordered.filter(({ entry }) => !entry.answer);
    if (open.length === 0) return;
    const rows = await run(call.em, upsertRows(call.target, open.map(toUpsert)), call.options);
    const created = new Set<object>();
    for (const row of rows.toSorted((left, right) => Number(left[ORDINAL]) - Number(right[ORDINAL]))) {
      const update = open[Number(row[ORDINAL]) - 1]!;
      settle(call, update, row, row[CREATED] === true);
      // two notations of one new key: the row was made for the first, and the second has yet to change it
      const { entity } = update.entry.answer!;
      if (row[CREATED] === true && created.size === created.add(entity).size) update.entry.answer = undefined;
    }
  }
  for (const update of ordered) {
    if (!update.entry.answer) await createOrFail(call, update);
  }
}

function toUpsert(update: Update, index: number): Upsert {
  return {
    ordinal: index + 1,
    lookup: update.entry.lookup,
    changes: update.changes.payload,
    payload: update.candidate?.payload,
    renames: update.renames,
  };
}

/** One order that every process shares, so that overlapping batches wait for each other without a deadlock. */
function inCanonicalOrder(call: Call, updates: readonly Update[]): Update[] {
  const orderOf = ({ entry }: Update): string => keyOrder(driverOf(call.em), entry.lookup);
  return updates.toSorted((left, right) => (orderOf(left) < orderOf(right) ? -1 : 1));
}

async function writeStepwise(call: Call, updates: readonly Update[]): Promise<void> {
  for (let attempt = 0; attempt < 3; attempt++) {
    const open = inCanonicalOrder(call, updates).filter(({ entry }) => !entry.answer);
    if (open.length === 0) return;
    for (const { entry } of open) {
      if (!planFor(driverOf(call.em), entry.lookup).key) await lockAlone(call, entry.lookup);
    }
    const changes = open.map((update, index) => toUpsert({ ...update, candidate: undefined }, index));
    for (const row of await run(call.em, upsertRows(call.target, changes), call.options)) {
      settle(call, open[Number(row[ORDINAL]) - 1]!, row, false);
    }
    await createStepwise(
      call,
      open.filter(({ entry }) => !entry.answer),
    );
  }
  for (const update of updates) {
    if (!update.entry.answer) await createOrFail(call, update);
  }
}

/** Without a unique key an advisory lock keeps others out, and nothing but this look keeps the update to one row. */
async function lockAlone(call: Call, lookup: Lookup): Promise<void> {
  await run(call.em, advisoryLock(call.target, lookup), call.options);
  const rows = await run(call.em, selectRows(call.target, planFor(driverOf(call.em), lookup), [lookup]), call.options);
  if (rows.length > 1) throw multipleRowsError(lookup);
}

async function createStepwise(call: Call, updates: readonly Update[]): Promise<void> {
  const creations = updates.map(({ entry, newValues }) => ({ lookup: entry.lookup, defaults: newValues }));
  const created = await createRows(call, creations, {
    onConflict: 'yield',
    hooks: call.createEntity ? 'fire' : 'silent',
  });
  updates.forEach(({ entry }, index) => {
    const result = created[index];
    if (result) entry.answerWith({ ...result, servedBy: 'database', created: true });
  });
}

/** The key is taken by a row that isn't the one looked for: a plain insert tells which constraint stands in the way. */
async function createOrFail(call: Call, { entry, newValues }: Update): Promise<void> {
  const creation = { lookup: entry.lookup, defaults: newValues };
  const [created] = await createRows(call, [creation], {
    onConflict: 'fail',
    hooks: call.createEntity ? 'fire' : 'silent',
  });
  entry.answerWith({ ...created!, servedBy: 'database', created: true });
}

function settle(call: Call, update: Update, row: Row, created: boolean): void {
  const { entry, changes, candidate } = update;
  const { em, meta, target } = call;
  const entity = created
    ? hydrateCreated(em, candidate!.meta, row, target.schema, candidate!.entity)
    : hydrateWritten(em, meta, row, target.schema, changes.written);
  if (created) noteCreated(em, entity);
  noteManaged(em, entry.lookup, target.schema, entity);
  entry.answerWith({ entity, row, servedBy: 'database', created, updated: !created });
}
