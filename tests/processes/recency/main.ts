/**
 * The consistency checker as a program:
 * `npm run checker -- --minutes 10 --seed 7 --readers 4 --writers 3 --rows 4 --strategy read-write --json report.json`
 */
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { runChecker } from './checker.js';
import { defaultOptions, type CheckerOptions } from './options.js';
import { faultKinds } from './faults.js';
import { strategies, type Strategy } from './protocol.js';
import { CheckedServers } from './servers.js';
import { print, problemsOf } from './report.js';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '1' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    readers: { type: 'string', default: String(defaultOptions.readers) },
    writers: { type: 'string', default: String(defaultOptions.writers) },
    rows: { type: 'string', default: String(defaultOptions.rows) },
    strategy: { type: 'string', default: defaultOptions.strategy },
    onStoreFailure: { type: 'string', default: defaultOptions.onStoreFailure },
    /** Only faults whose name contains it; may be given several times. */
    fault: { type: 'string', multiple: true },
    broken: { type: 'string' },
    stopWhenStale: { type: 'boolean', default: false },
    json: { type: 'string' },
  },
});

if (!strategies.includes(values.strategy as Strategy)) {
  throw new Error(`--strategy is one of ${strategies.join(', ')}`);
}
const options: CheckerOptions = {
  seconds: Number(values.minutes) * 60,
  seed: Number(values.seed),
  readers: Number(values.readers),
  writers: Number(values.writers),
  rows: Number(values.rows),
  strategy: values.strategy as Strategy,
  onStoreFailure: values.onStoreFailure as CheckerOptions['onStoreFailure'],
  faults: faultKinds.filter((kind) => values.fault?.some((part) => kind.includes(part)) ?? true),
  broken: values.broken as CheckerOptions['broken'],
  stopWhenStale: values.stopWhenStale,
};
await using servers = await CheckedServers.start();
const report = await runChecker(options, servers);
console.log(print(report));
if (values.json) await writeFile(values.json, `${JSON.stringify(report, undefined, 2)}\n`);
process.exitCode = problemsOf(report).length > 0 ? 1 : 0;
