import { memoryBench } from './benches.js';
import {
  clockSetBack,
  readerOfReplica,
  restoredBackup,
  writerCutOff,
  writerUnseen,
  writerWithCopies,
} from './broken.js';
import { exploreAll, type Scenario } from './explore.js';
import {
  evict,
  insert,
  knownKey,
  lateRelease,
  lostCommitAnswer,
  rejectedForLateLock,
  unknownKey,
  writer,
} from './processes.js';

const update = writer();
const updateAndStore = writer({ writeThrough: true });
const remove = writer({ change: 'delete' });
const readers = { R: knownKey, S: unknownKey };

const violationIn = async (scenario: Scenario) => (await exploreAll(scenario, memoryBench)).violation;

/** The cache is never behind a commit, acknowledged or not, whoever dies when. */
describe('a lock that was there in time keeps the cache right without its writer', () => {
  it.each<[string, Scenario]>([
    ['when a commit is quick', { processes: { ...readers, W: update }, ticks: 1 }],
    ['when a quick commit is never released', { processes: { ...readers, W: lostCommitAnswer }, ticks: 1 }],
    [
      'when the store loses rows and sequences',
      { processes: { ...readers, W: update }, losses: 2, loss: ['row', 'sequence'] },
    ],
    ['when the next writer follows', { processes: { ...readers, V: lostCommitAnswer, W: updateAndStore } }],
  ])('%s', async (_, scenario) => {
    expect(await violationIn({ ...scenario, demand: 'committed' })).toBeUndefined();
  });

  it('when it runs out only after the commit', async () => {
    // the clock stands still until the commit: only what comes after takes long
    const slowRelease: Scenario['processes'][string] = function* (who) {
      yield { name: 'locks and COMMITs', run: async (world) => (await world.lock(who), world.commit(who)) };
      yield { name: 'releases', run: (world) => world.release(who) };
    };
    expect(
      await violationIn({ processes: { ...readers, W: slowRelease }, ticks: 3, demand: 'committed' }),
    ).toBeUndefined();
  });
});

/** Nobody was promised the new version yet, but some may see it while others still see the old one. */
describe('a commit without a sound lock is followed only by its release', () => {
  it.each<[string, Scenario]>([
    ['the store was emptied since the lock', { processes: { R: knownKey, W: update }, losses: 1 }],
    ['the commit took longer than the lock lasts', { processes: { R: knownKey, W: update }, ticks: 3 }],
  ])('when %s', async (_, scenario) => {
    expect(await violationIn({ ...scenario, demand: 'committed' })).toMatch(
      /W COMMITs\n=> version 1 is cached, but version 2/,
    );
    expect(await violationIn(scenario)).toBeUndefined();
  });

  it('or by the next write or evict, if its writer is dead', async () => {
    const scenario: Scenario = { processes: { R: knownKey, W: lostCommitAnswer, X: evict }, losses: 1 };
    // that it is right again after X is part of what is checked in every state
    expect(await violationIn(scenario)).toBeUndefined();
    expect(await violationIn({ ...scenario, demand: 'committed' })).toMatch(
      /version 1 is cached, but version 2 is committed/,
    );
  });
});

describe('what the promise assumes', () => {
  const stale = /=> a read that starts now gets version \d, but version \d was acknowledged$/;

  it.each<[string, Scenario]>([
    ['rows are selected from the primary', { processes: { R: readerOfReplica, W: update } }],
    ['the store never comes back with old data', { processes: { B: restoredBackup, W: update } }],
    ['writes are seen, or evicted', { processes: { R: knownKey, W: writerUnseen } }],
    [
      'a release is answered, when its lock was lost (`reject` too)',
      { processes: { R: knownKey, W: lateRelease }, losses: 1 },
    ],
    ["a writer reaches the store (`onStoreFailure: 'bypass'`)", { processes: { R: knownKey, W: writerCutOff } }],
    [
      'the key of a deleted row is not used again while its deletion, without a sound lock, is not released',
      { processes: { R: knownKey, D: remove, I: insert }, losses: 1 },
    ],
    [
      'no copies of both a lock and its release arrive after a later commit',
      { processes: { V: writerWithCopies, W: updateAndStore } },
    ],
  ])('%s', async (_, scenario) => {
    expect(await violationIn({ ...scenario, demand: 'acknowledged' })).toMatch(stale);
  });

  it("the store's clock isn't set back, when a writer dies", async () => {
    const processes = { S: unknownKey, W: lostCommitAnswer, C: clockSetBack };
    expect(await violationIn({ processes, ticks: 2 })).toMatch(/=> version 1 is cached, but version 2 is committed$/);
  });
});

describe('what holds in return', () => {
  it.each<[string, Scenario]>([
    [
      "with `onStoreFailure: 'reject'`, whatever reaches the store",
      { processes: { ...readers, V: rejectedForLateLock, W: update } },
    ],
    [
      'after a deletion with a sound lock, for a new row under its key',
      { processes: { ...readers, D: remove, I: insert } },
    ],
    ['when only a lock is copied', { processes: { ...readers, V: copiedLock, W: updateAndStore } }],
  ])('%s', async (_, scenario) => {
    expect(await violationIn(scenario)).toBeUndefined();
  });
});

function* copiedLock(who: string): ReturnType<typeof update> {
  yield {
    name: 'locks, a copy stays under way',
    run: async (world) => {
      world.late.set(`copied lock of ${who}`, () => world.lock(who));
      await world.lock(who);
    },
  };
  yield { name: 'ROLLs BACK', run: (world) => world.rollBack() };
  yield { name: 'releases', run: (world) => world.release(who) };
}
