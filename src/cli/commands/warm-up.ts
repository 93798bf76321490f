import { warmUp as fill } from '../../flows/warm-up.js';
import { UsageError, type Call } from '../arguments.js';
import { connect, isShared, requireCached } from '../cached.js';
import { ProgressBar } from '../progress-bar.js';
import { findEntity, requirePlus, type Project } from '../project.js';
import { print } from '../terminal.js';
import { untilStopped } from '../until-stopped.js';
import { parsePairs } from '../values.js';

/** Puts rows of an entity into the cache. Exit code 1 when a store does not answer, or it is stopped before the end. */
export async function warmUp(project: Project, { args, options }: Call): Promise<number> {
  const { em } = project;
  const [name, ...pairs] = args;
  if (name === undefined) throw new UsageError('Name an entity to warm up.');
  const plus = requirePlus(project);
  const meta = findEntity(project, name);
  const region = requireCached(project, plus, meta);
  const { alias } = region.store;
  if (!isShared(region)) {
    throw new UsageError(
      `The rows of ${name} are in the store '${alias}', which is in the memory of each process: call warmUp() there.`,
    );
  }
  const where = parsePairs(meta, pairs, em.getPlatform());
  const signal = untilStopped();
  await connect(plus, region);
  let filled: number;
  {
    using bar = new ProgressBar(name);
    const { hints } = plus.regions;
    const onProgress = bar.isShown ? bar.update : undefined;
    const { chunkSize, schema } = options;
    filled = await fill({ em, meta, schema, region, hints, where, chunkSize, onProgress, signal });
  }
  print(`${name}: ${filled} row${filled === 1 ? '' : 's'} put into the store '${alias}'`);
  return 0;
}
