import { memoryBench } from './benches.js';
import { exploreAll } from './explore.js';
import { sound } from './scenarios.js';

describe('every order of single steps, over the memory store', () => {
  const total = { states: 0, transitions: 0, interleavings: 0n };

  it.each(Object.entries(sound))('%s', async (_, scenario) => {
    const report = await exploreAll(scenario, memoryBench);
    expect(report.violation).toBeUndefined();
    total.states += report.states;
    total.transitions += report.transitions;
    total.interleavings += report.interleavings;
  });

  // a change of the scenarios or the explorer must not quietly leave most of the orders out
  it('are a great many', () => {
    expect(total.states).toBeGreaterThan(80_000);
    expect(total.transitions).toBeGreaterThan(250_000);
    expect(total.interleavings).toBeGreaterThan(1_000_000_000n);
  });
});
