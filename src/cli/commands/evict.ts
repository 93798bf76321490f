import { LookupError } from '../../errors.js';
import { effectiveSchema, keysMeant } from '../../flows/evict.js';
import { cachedTables } from '../../invalidation/cached-tables.js';
import { CHANGE_CHANNEL } from '../../invalidation/change-log.js';
import { printLookup } from '../../natural-keys/print.js';
import { run } from '../../orm/context.js';
import type { Meta } from '../../orm/metadata.js';
import type { PlusSubscriber } from '../../PlusSubscriber.js';
import type { Region } from '../../stores/Region.js';
import { UsageError, type Call } from '../arguments.js';
import { connect, isShared, requireCached } from '../cached.js';
import { ProgressBar } from '../progress-bar.js';
import { findEntity, requirePlus, type Project } from '../project.js';
import { tableOf } from '../tables.js';
import { errorText, print, printError } from '../terminal.js';
import { parsePairs } from '../values.js';

/** Removes rows from the cache. Exit code 1 when a store could not be told. */
export async function evict(project: Project, { args, options }: Call): Promise<number> {
  const { em } = project;
  const [name, ...pairs] = args;
  if (options.all && name !== undefined) throw new UsageError(`Either 'evict --all', or 'evict ${name}'.`);
  if (!options.all && name === undefined) throw new UsageError('Name an entity to evict, or use --all.');
  const evicted = { project, plus: requirePlus(project), schema: options.schema };
  if (name === undefined) return evictTables(evicted, cachedTables(em.getMetadata(), em.config));
  const meta = findEntity(project, name);
  requireCached(project, evicted.plus, meta);
  if (pairs.length === 0) return evictTables(evicted, [meta.root]);
  await evictRows(evicted, meta, parsePairs(meta, pairs, em.getPlatform()));
  return 0;
}

/** What is evicted from. */
interface Evicted {
  readonly project: Project;
  readonly plus: PlusSubscriber;
  readonly schema: string | undefined;
}

async function evictTables(evicted: Evicted, metas: readonly Meta[]): Promise<number> {
  let [failures, done] = [0, 0];
  // each one looks at every key of its store
  using bar = new ProgressBar('evicting');
  bar.update({ done, total: metas.length });
  for (const meta of metas) {
    try {
      const result = await evictTable(evicted, meta);
      bar.interrupt(() => print(`${meta.className}: ${result}`));
    } catch (error) {
      failures += 1;
      bar.interrupt(() => printError(`${meta.className} was not removed: ${errorText(error)}`));
    }
    bar.update({ done: (done += 1), total: metas.length });
  }
  if (metas.length === 0) print('No entity is cached.');
  return failures > 0 ? 1 : 0;
}

/** Says what it did. */
async function evictTable(evicted: Evicted, meta: Meta): Promise<string> {
  const region = evicted.plus.regions.of(evicted.project.em, meta)!;
  if (!isShared(region)) return notifyTable(evicted, meta, region);
  await connect(evicted.plus, region);
  const { hints } = evicted.plus.regions;
  await region.store.clear(region.name);
  if (hints !== region.store && hints.store.capabilities.shared) await hints.clear(region.name);
  return `all rows removed from the store '${region.store.alias}'`;
}

async function evictRows(evicted: Evicted, meta: Meta, where: Record<string, unknown>): Promise<void> {
  const { plus, project, schema } = evicted;
  const { em } = project;
  const region = plus.regions.of(em, meta)!;
  if (!isShared(region)) return print(`${meta.className}: ${await notifyTable(evicted, meta, region)}`);
  await connect(plus, region);
  const shown = `${meta.className} ${printLookup(meta, where)}`;
  const { hints } = plus.regions;
  const keys = await asUsage(keysMeant(em, meta, schema, where, { region, hints }));
  if (keys.length === 0) {
    return print(
      `${shown}: no such row in the database, and the cache knows none. If it was deleted, name its primary key.`,
    );
  }
  const inSchema = effectiveSchema(em, meta, schema);
  const entries = keys.map((key) => ({ key: region.objectKey(inSchema, key), region: region.name }));
  const before = await region.store.readMany(entries);
  if (!(await region.store.evictMany(entries))) {
    throw new Error(`${shown} was not removed: the store '${region.store.alias}' did not confirm it.`);
  }
  const cached = before.filter(({ kind }) => kind === 'hit').length;
  const what = cached === 0 ? 'was not cached' : `${cached === 1 ? '1 row' : `${cached} rows`} removed from`;
  print(`${shown}: ${what}${cached === 0 ? ' in' : ''} the store '${region.store.alias}'`);
}

/**
 * Rows in the memory of processes: those that follow the change log empty their copies of a table when they are told
 * that any row of it may have changed.
 *
 * @returns what was done
 * @throws when they don't follow it
 */
async function notifyTable({ project, plus, schema }: Evicted, meta: Meta, region: Region): Promise<string> {
  const { em } = project;
  const place = `in the store '${region.store.alias}', which is in the memory of each process`;
  if (!plus.relayOptions) {
    throw new Error(
      `The rows of ${meta.className} are ${place} and out of reach from here: restart the processes, call evict() in ` +
        'them, or let them follow the change log with relay: true.',
    );
  }
  const table = tableOf({ em, schema }, meta);
  const payload = JSON.stringify({ s: table.schema, t: table.name });
  await run(em, { sql: 'select pg_notify(?, ?)', params: [CHANGE_CHANNEL, payload] });
  return `all processes were told to forget its rows, which are ${place}`;
}

/** A lookup that can't be used is a mistake in the command line. */
async function asUsage<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof LookupError) throw new UsageError(error.message, { cause: error });
    throw error;
  }
}
