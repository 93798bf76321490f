import { isHeard, publish, type ServedBy } from '../observability/channels.js';
import type { Statistics } from '../observability/statistics.js';
import type { Batch } from './batch.js';
import type { Call } from './call.js';
import { tellProgress } from './progress.js';

const counterOf: Record<ServedBy, 'identityMapHits' | 'nearCacheHits' | 'storeHits' | 'databaseHits'> = {
  'identity-map': 'identityMapHits',
  'near-cache': 'nearCacheHits',
  store: 'storeHits',
  database: 'databaseHits',
};

/** Tells the counters and the lookup channel how each lookup of a call was answered. */
export function reportLookups(call: Call, batch: Batch, startedAt: number): void {
  tellProgress(call, batch);
  const heard = isHeard('lookup');
  if (!call.statistics && !heard) return;
  const duration = heard ? performance.now() - startedAt : 0;
  for (const { answer } of batch.entries) {
    if (!answer) continue;
    const { servedBy, created, updated, raceLost } = answer;
    if (call.statistics) count(call.statistics, servedBy, created, updated, raceLost);
    if (heard) publish('lookup', { entity: call.meta.className, servedBy, created, updated, raceLost, duration });
  }
}

function count(
  statistics: Statistics,
  servedBy: ServedBy,
  created: boolean,
  updated: boolean,
  raceLost: boolean,
): void {
  statistics.lookups += 1;
  if (created) statistics.created += 1;
  else if (updated) statistics.updated += 1;
  else statistics[counterOf[servedBy]] += 1;
  if (raceLost) statistics.racesLost += 1;
}
