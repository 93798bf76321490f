import { isRegionDeclared } from '../../config/cache-region.js';
import { CACHED, hasTrait } from '../../config/traits.js';
import { unnameableReason } from '../../codec/primary-key.js';
import { isTablePerType, uncacheableReason, type Meta } from '../../orm/metadata.js';
import { cachedTables } from '../../invalidation/cached-tables.js';
import { errorText } from '../terminal.js';
import { findingsOf, type DoctorContext, type Finding } from './finding.js';

const { ok, warning, problem } = findingsOf('regions');

/** Whether the cache regions can keep what their strategies promise. */
export function checkRegions(context: DoctorContext): Promise<Finding[]> {
  const { em, entities, plus } = context;
  const tables = cachedTables(em.getMetadata(), em.config);
  if (tables.length > 0 && !plus) {
    const names = tables.map(({ className }) => className).join(', ');
    return Promise.resolve([
      problem('no-subscriber', names, 'cached repositories without a PlusSubscriber fail at their first call', [
        "-- in the configuration: subscribers: [new PlusSubscriber({ stores: { default: 'redis://…' } })]",
      ]),
    ]);
  }
  return Promise.resolve([
    ...tables.map((meta) => checkRegion(context, meta)),
    ...entities.filter((meta) => isNeverCached(context, meta)).map(neverCached),
  ]);
}

function checkRegion({ em, plus }: DoctorContext, meta: Meta): Finding {
  try {
    const { options, store } = plus!.regions.of(em, meta)!;
    const { strategy, ttl } = options;
    const what = `${strategy}, in the store '${store.alias}', rows live ${ttl / 1_000} s`;
    if (store.store.capabilities.shared || plus!.relayOptions) return ok('works', meta.className, what);
    const message = `${what}: each process has its own copy, and may serve a row that another process changed`;
    return warning('process-only', meta.className, message, [
      `-- keep it in a shared store: @CacheRegion({ store: '…' }), or stores: { ${store.alias}: 'redis://…' }`,
      '-- or let processes tell each other through the database: new PlusSubscriber({ relay: true, … })',
    ]);
  } catch (error) {
    return problem('configuration', meta.className, errorText(error), ['-- correct the options that it names']);
  }
}

function isNeverCached({ em }: DoctorContext, meta: Meta): boolean {
  if (isTablePerType(meta)) return false;
  const repository = em.config.getRepositoryClass(meta.repository) as { prototype: object };
  const isWanted = hasTrait(repository.prototype, CACHED) || isRegionDeclared(meta);
  return isWanted && reason(meta) !== undefined;
}

function neverCached(meta: Meta): Finding {
  return warning('never-cached', meta.className, `is never cached: ${reason(meta)}`, [
    '-- change that, or use a repository without CachedGetOrCreate',
  ]);
}

function reason(meta: Meta): string | undefined {
  return uncacheableReason(meta) ?? unnameableReason(meta);
}
