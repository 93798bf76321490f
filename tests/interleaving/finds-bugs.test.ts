import { memoryBench } from './benches.js';
import {
  readerWithLateGuard,
  readerWithLongGuard,
  readerWithoutPermit,
  writerAcknowledgingFirst,
  writerLeavingTheSequence,
  writerPuttingAfterRelease,
  writerReleasingBeforeCommit,
  writerTrustingAnUnconfirmedLock,
  writerWithoutLock,
} from './broken.js';
import { exploreAll, type Scenario } from './explore.js';
import { knownKey, unknownKey, writer } from './processes.js';

const update = writer();
const updateAndStore = writer({ writeThrough: true });

/** Each with one thing wrong, and what has to be found. */
const broken: Record<string, [Scenario, RegExp]> = {
  'a fill without lease or guard': [
    { processes: { R: readerWithoutPermit, W: update } },
    /R selects[^]*W releases[^]*R puts\n=> .*version 1 /,
  ],
  'a guard taken after the select': [
    { processes: { R: readerWithLateGuard, W: update } },
    /R selects[^]*R takes a guard\n[^]*R fills\n=> /,
  ],
  'a guard that outlasts a lock, when a writer dies': [
    { processes: { R: readerWithLongGuard, W: update }, ticks: 3 },
    /W COMMITs[^]*TIME passes\n\d+. R fills\n=> version 1 is cached, but version 2 is committed/,
  ],
  'a release before the COMMIT': [
    { processes: { R: knownKey, W: writerReleasingBeforeCommit } },
    /W releases[^]*R reads[^]*W COMMITs/,
  ],
  'a release that leaves the sequence': [
    { processes: { R: unknownKey, W: writerLeavingTheSequence } },
    /R takes a guard[^]*W releases in the wrong region[^]*R fills\n=> /,
  ],
  'a write-through with two holders': [
    { processes: { V: writerPuttingAfterRelease, W: update } },
    /V releases[^]*W acknowledges\n\d+. V puts its row\n=> |=> version 2 is cached, but version 3 is committed/,
  ],
  'an acknowledgement before the release, when the store is emptied': [
    { processes: { R: knownKey, W: writerAcknowledgingFirst }, losses: 1 },
    /LOST everything[^]*W acknowledges\n=> a read that starts now gets version 1, but version 2 was acknowledged/,
  ],
  'no lock, when a writer dies': [
    { processes: { R: knownKey, W: writerWithoutLock }, demand: 'committed' },
    /R fills\n[^]*W COMMITs\n=> version 1 is cached/,
  ],
  'a write-through on the strength of an unconfirmed lock': [
    { processes: { V: writerTrustingAnUnconfirmedLock, W: updateAndStore }, demand: 'acknowledged' },
    /W acknowledges[^]*LATE lock of V\n\d+. V releases\n=> a read that starts now gets version 2/,
  ],
};

it.each(Object.entries(broken))('the explorer finds %s', async (_, [scenario, trace]) => {
  const { violation } = await exploreAll(scenario, memoryBench);
  expect(violation).toMatch(trace);
  expect(violation!.split('\n').length).toBeLessThan(18);
});

it('the explorer says the shortest way to what went wrong', async () => {
  const { violation } = await exploreAll({ processes: { R: readerWithoutPermit, W: update } }, memoryBench);
  expect(violation).toBe(
    [
      '1. R selects',
      '2. W updates the row',
      '3. W locks',
      '4. W COMMITs',
      '5. W releases',
      '6. R puts',
      '=> version 1 is cached, but version 2 is committed',
    ].join('\n'),
  );
});

it('the explorer finds a store that differs from the state table', async () => {
  const forgetful = () => {
    const bench = memoryBench();
    return { ...bench, store: { ...bench.store, lockMany: () => Promise.resolve() } };
  };
  const { violation } = await exploreAll({ processes: { R: knownKey, W: update } }, forgetful);
  expect(violation).toMatch(/W locks[^]*the store answers .*, the state table says /);
});
