import Sequencer from '@jest/test-sequencer';

/** The files that take longest, longest first: whatever runs last, alone, holds up the whole run. */
const slowest = [
  'stores/redis-acl',
  'processes/recency',
  'cli/evict',
  'stores/memcached',
  'stores/redis',
  'cli/stats',
  'cache/store-failure',
  'stores/redis-cluster/contract',
  'harness/servers-end',
  'migrations/command-line',
  'near-cache/invalidation-channel',
  'interleaving/assumptions',
  'interleaving/redis',
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
