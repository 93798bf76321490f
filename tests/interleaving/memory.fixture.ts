/**
 * Explores every sound scenario over the memory store, and prints a report of each as a line of JSON. A program of its
 * own because it is ten times as fast outside of Jest's sandbox.
 */
import { memoryBench } from './benches.js';
import { exploreAll } from './explore.js';
import { sound } from './scenarios.js';

for (const [name, scenario] of Object.entries(sound)) {
  const { interleavings, ...report } = await exploreAll(scenario, memoryBench);
  console.log(JSON.stringify({ name, ...report, interleavings: String(interleavings) }));
}
