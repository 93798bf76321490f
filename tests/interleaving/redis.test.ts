import { Redis } from 'ioredis';
import { testPrefix, testRedisUrl } from '../harness/servers.js';
import { redisBench } from './benches.js';
import { readerWithoutPermit } from './broken.js';
import { exploreAll, exploreSome, type Scenario } from './explore.js';
import { knownKey, unknownKey, writer } from './processes.js';
import { sound } from './scenarios.js';

/** Ways that are gone at once; their commands share round trips. */
const AT_ONCE = 256;

let client: Redis;
let benches = 0;

beforeAll(() => {
  client = new Redis(testRedisUrl());
});
afterAll(() => client.quit());

const makeBench = () => redisBench(client, `${testPrefix()}${(benches += 1)}:`);

describe('every order of single steps, over the scripts in Redis', () => {
  const update = writer({ writeThrough: true });

  it.each<[string, Scenario]>([
    ['a reader, a writer, time', { processes: { R: knownKey, W: update }, ticks: 3, deaths: 1 }],
    [
      'a reader, a writer, a store that loses anything, also a lock alone',
      {
        processes: { R: unknownKey, W: update },
        losses: 1,
        loss: ['row', 'entry', 'sequence', 'everything'],
        ticks: 1,
      },
    ],
    ['two writers', { processes: { V: update, W: update }, ticks: 2 }],
  ])('%s', async (_, scenario) => {
    const report = await exploreAll(scenario, makeBench, AT_ONCE);
    expect(report.violation).toBeUndefined();
    expect(report.states).toBeGreaterThan(100);
  });
});

describe('random orders of single steps, over the scripts in Redis', () => {
  // a server may also lose a lock alone, which a memory store never does
  const scenarios = Object.values(sound).map((scenario): Scenario => ({
    ...scenario,
    loss: ['row', 'entry', 'sequence', 'everything'],
  }));
  const seed = Math.floor(Math.random() * 2 ** 31);

  it(`keep the promise (seed ${seed})`, async () => {
    const report = await exploreSome(scenarios, 4_000, (walk) => randomFrom(seed + walk), makeBench, AT_ONCE);
    expect(report.violation).toBeUndefined();
    expect(report.interleavings).toBeGreaterThan(3_000n);
  });

  it('find a fill without lease or guard', async () => {
    const scenario: Scenario = { processes: { R: readerWithoutPermit, W: writer() } };
    const report = await exploreSome([scenario], 1_000, randomFrom, makeBench, AT_ONCE);
    expect(report.violation).toMatch(/R puts\n=> /);
  });
});

/** Mulberry32: small, and the same everywhere. */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
