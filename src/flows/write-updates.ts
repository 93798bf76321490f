import { keyOrder, planFor } from '../natural-keys/plan.js';
import type { Lookup } from '../natural-keys/lookup.js';
import { noteManaged } from '../natural-keys/managed.js';
import type { Candidate } from '../orm/candidate.js';
import { canonical, sequence } from '../orm/canonical.js';
import type { Changes } from '../orm/changes.js';
import { driverOf, run, type Row } from '../orm/context.js';
import { hydrateCreated, hydrateWritten } from '../orm/entities.js';
import { nextMoment, noteShown, showsNewer } from '../orm/order.js';
import { inUnit, noteCreated } from '../orm/unit.js';
import { advisoryLock } from '../sql/advisory-lock.js';
import { MATCHES, ORDINAL, selectRows } from '../sql/select.js';
import { areAlike, upsertRows } from '../sql/upsert.js';
import { CREATED, WRITTEN_AT, type Upsert } from '../sql/UpsertGroup.js';
import type { Entry } from './batch.js';
import type { Call, Data } from './call.js';
import { createRows } from './create.js';
import { multipleRowsError, TAKEN } from './find.js';

/** An entry of the batch with everything its statement needs. */
export interface Update {
  readonly entry: Entry;
  readonly changes: Changes;
  /** What a new row is made of beside the lookup; its functions are called when the row is known to be new. */
  readonly newValues: Readonly<Data>;
  readonly candidate: Candidate | undefined;
  readonly renames: boolean;
}

/** Changes or creates all rows, as one unit where it takes several statements and the class is atomic. */
export async function writeAll(call: Call, updates: readonly Update[]): Promise<void> {
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
  for (let attempt = 0, fruitless = 0; fruitless < attempts; attempt++) {
    const open = ordered.filter(({ entry }) => !entry.answer);
    if (open.length === 0) return;
    await writeOnce(call, await toUpserts(call, open, updates, attempt === 0));
    fruitless = open.some(({ entry }) => entry.answer) ? 0 : fruitless + 1;
  }
  for (const update of ordered) {
    if (!update.entry.answer) await createOrFail(call, update);
  }
}

async function writeOnce(call: Call, upserts: readonly [Update, Upsert][]): Promise<void> {
  if (upserts.length === 0) return;
  const statement = upsertRows(
    call.target,
    upserts.map(([, upsert]) => upsert),
  );
  const sentAt = nextMoment();
  const rows = await run(call.em, statement, call.options);
  const byOrdinal = new Map(upserts.map(([update, { ordinal }]) => [ordinal, update]));
  const created = new Set<object>();
  for (const row of rows.toSorted((left, right) => Number(left[ORDINAL]) - Number(right[ORDINAL]))) {
    const update = byOrdinal.get(Number(row[ORDINAL]))!;
    settle(call, update, row, sentAt);
    // two notations of one new key: the row was made for the first, and the second has yet to change it
    const { entity } = update.entry.answer!;
    if (row[CREATED] === true && created.size === created.add(entity).size) update.entry.answer = undefined;
  }
}

/**
 * What a statement is to do for each update. A batch whose rows are alike finds out by itself which of them exist; of
 * any other it must be known before, and a row whose key belongs to another one must fail before anything is written.
 * Updates of one row, which only the database can tell, take turns in the order that they were given in.
 */
async function toUpserts(
  call: Call,
  open: readonly Update[],
  given: readonly Update[],
  isFirst: boolean,
): Promise<[Update, Upsert][]> {
  const upserts = open.map((update, index): [Update, Upsert] => [update, toUpsert(update, index)]);
  const rows = upserts.map(([, upsert]) => upsert);
  if (upserts.length === 1 || (isFirst && areAlike(call.target, rows))) return upserts;
  const found = await look(call, open);
  for (const [update, row] of found) if (row === TAKEN) await createOrFail(call, update);
  const waiting = repeated(found, given);
  return upserts.flatMap(([update, upsert]): [Update, Upsert][] => {
    if (update.entry.answer || waiting.has(update)) return [];
    return [[update, found.has(update) ? { ...upsert, payload: undefined } : { ...upsert, isMissing: true }]];
  });
}

/** The rows that updates name, by primary key; {@link TAKEN} where the row differs in the rest of the lookup. */
async function look(call: Call, updates: readonly Update[]): Promise<Map<Update, string | typeof TAKEN>> {
  const found = new Map<Update, string | typeof TAKEN>();
  for (const group of Map.groupBy(updates, ({ entry }) => entry.lookup.shape).values()) {
    const lookups = group.map(({ entry }) => entry.lookup);
    const plan = planFor(driverOf(call.em), lookups[0]!);
    const key = call.meta.root.getPrimaryProps().flatMap(({ fieldNames }) => fieldNames);
    for (const row of await run(call.em, selectRows(call.target, plan, lookups), call.options)) {
      const matches = !(MATCHES in row) || row[MATCHES] === true;
      const text = sequence(key.map((column) => canonical(row[column])));
      found.set(group[Number(row[ORDINAL]) - 1]!, matches ? text : TAKEN);
    }
  }
  return found;
}

/** The updates whose row an earlier one changes too. */
function repeated(found: ReadonlyMap<Update, unknown>, given: readonly Update[]): Set<Update> {
  const seen = new Set<unknown>();
  const updates = given.filter((update) => found.has(update) && !update.entry.answer);
  return new Set(updates.filter((update) => seen.size === seen.add(found.get(update)).size));
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
  const order = new Map(updates.map((update) => [update, keyOrder(driverOf(call.em), update.entry.lookup)]));
  return updates.toSorted((left, right) => (order.get(left)! < order.get(right)! ? -1 : 1));
}

async function writeStepwise(call: Call, updates: readonly Update[]): Promise<void> {
  for (let fruitless = 0; fruitless < 3;) {
    const all = inCanonicalOrder(call, updates).filter(({ entry }) => !entry.answer);
    if (all.length === 0) return;
    for (const { entry } of all) {
      if (!planFor(driverOf(call.em), entry.lookup).key) await lockAlone(call, entry.lookup);
    }
    const waiting = all.length === 1 ? new Set<Update>() : repeated(await look(call, all), updates);
    const open = all.filter((update) => !waiting.has(update));
    const changes = open.map((update, index) => toUpsert({ ...update, candidate: undefined }, index));
    const sentAt = nextMoment();
    for (const row of await run(call.em, upsertRows(call.target, changes), call.options)) {
      settle(call, open[Number(row[ORDINAL]) - 1]!, row, sentAt);
    }
    await createStepwise(
      call,
      open.filter(({ entry }) => !entry.answer),
    );
    fruitless = open.some(({ entry }) => entry.answer) ? 0 : fruitless + 1;
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

function settle(call: Call, update: Update, row: Row, sentAt: number): void {
  const { entry, changes, candidate } = update;
  const { em, meta, target } = call;
  const created = row[CREATED] === true;
  const time = { sentAt, writtenAt: BigInt(row[WRITTEN_AT] as string) };
  const entity = created
    ? hydrateCreated(em, candidate!.meta, row, target.schema, candidate!.entity, sentAt)
    : hydrateWritten(em, meta, row, target.schema, changes.written, time);
  if (!showsNewer(entity, sentAt, time.writtenAt)) noteShown(entity, time.writtenAt);
  if (created) noteCreated(em, [entity]);
  noteManaged(em, entry.lookup, target.schema, entity);
  entry.answerWith({ entity, row, servedBy: 'database', created, updated: !created });
}
