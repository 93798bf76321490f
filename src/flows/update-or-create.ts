import { ValidationError } from '@mikro-orm/core';
import { missingKeyError, planFor } from '../natural-keys/plan.js';
import type { Lookup } from '../natural-keys/lookup.js';
import { buildCandidate, type Candidate } from '../orm/candidate.js';
import { canonical } from '../orm/canonical.js';
import { buildChanges, fireAfterUpsert, fireBeforeUpsert, isSame } from '../orm/changes.js';
import { driverOf } from '../orm/context.js';
import { isSqlFragment } from '../orm/statement.js';
import { Batch, nameOf, type Entry, type Got } from './batch.js';
import type { Call, Data } from './call.js';
import { evaluate } from './create.js';
import { needsPopulating, populate } from './find.js';
import { reportLookups } from './report.js';
import { writeAll, type Update } from './write-updates.js';

/** One row to change, or to create when there is none. */
export interface UpdateRequest {
  readonly lookup: Lookup;
  readonly values: Readonly<Data>;
  /** Values of a new row instead of `values`. */
  readonly createDefaults?: Readonly<Data> | undefined;
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
  if (requests.length === 0) return [];
  const merged = mergeRequests(requests);
  const batch = new Batch(requests.map(({ lookup, values }) => ({ lookup, defaults: values })));
  for (const { lookup } of merged.values()) {
    if (!call.options.serialize && lookup.parts.length > 0 && !planFor(driverOf(call.em), lookup).key) {
      throw missingKeyError(driverOf(call.em), lookup);
    }
  }
  const updates: Update[] = [];
  for (const entry of batch.entries) updates.push(await prepare(call, entry, merged.get(nameOf(entry.lookup))!));
  await writeAll(call, updates);
  for (const { entry } of updates) {
    call.cache?.announce(entry.answer!.entity);
    await fireAfterUpsert(call.em, entry.answer!.entity);
  }
  await call.cache?.fill(batch);
  if (needsPopulating(call)) await populate(call, batch.entities());
  reportLookups(call, batch, startedAt);
  return batch.results();
}

/** Requests for one row become one, with the effect of running them in turn. */
function mergeRequests(requests: readonly UpdateRequest[]): ReadonlyMap<string, UpdateRequest> {
  const merged = new Map<string, UpdateRequest>();
  for (const request of requests) {
    const key = nameOf(request.lookup);
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
  return merged;
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
