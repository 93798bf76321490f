import Sequencer from '@jest/test-sequencer';

/** The files that take longest, longest first: whatever runs last, alone, holds up the whole run. */
const slowest = [
  'stores/redis-acl',
  'cli/evict',
  'processes/recency',
  'cli/doctor-waits',
  'cache/store-failure',
  'migrations/command-line',
  'stores/redis-cluster/contract',
  'stores/memcached',
  'processes/load',
  'stores/redis',
  'harness/servers-end',
  'cli/command-line',
  'interleaving/memory',
  'near-cache/invalidation-channel',
  'cache/stale-reads',
  'invalidation/relay/memory-regions',
  'stores/redis-cluster/faults',
];

/** Jest knows how long files take only where it has run before. */
export default class SlowestFirst extends Sequencer {
  sort(tests) {
    const rank = ({ path }) => {
      const at = slowest.findIndex((name) => path.endsWith(`/tests/${name}.test.ts`));
      return at < 0 ? slowest.length : at;
    };
    // oxlint-disable-next-line unicorn/no-array-sort -- the sequencer's own
    return super.sort(tests).toSorted((left, right) => rank(left) - rank(right));
  }
}
