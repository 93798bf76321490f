import { contenders, type ContenderName } from '../contenders/index.js';
import type { Measurement } from '../measure.js';
import type { Scenario } from '../scenarios.js';
import { pairedRatio } from '../statistics.js';
import type { Target, Verdict } from '../judge.js';
import { figure } from './markdown.js';

/** A table, however it is printed. */
export interface Table {
  readonly header: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** All measurements of a scenario, by callers, fastest first. */
export function scenarioTable(scenario: Scenario, measurements: readonly Measurement[]): Table {
  const own = measurements.filter(({ scenario: id }) => id === scenario.id);
  const baselines = own.filter(({ contender }) => contender === scenario.baseline);
  const baselineOf = ({ callers }: Measurement): Measurement | undefined =>
    baselines.find((measurement) => measurement.callers === callers) ?? baselines[0];
  const rows = own
    .toSorted((a, b) => a.callers - b.callers || b.throughput - a.throughput)
    .map((measurement) => {
      const baseline = baselineOf(measurement);
      return [
        contenders[measurement.contender].title,
        String(callersOf(scenario, measurement)),
        figure(measurement.throughput),
        baseline ? `${figure(pairedRatio(measurement.throughputs, baseline.throughputs))}x` : '-',
        figure(measurement.p50Ms),
        figure(measurement.p99Ms),
        figure(measurement.cpuMicroseconds),
        figure(measurement.peakMegabytes),
        figure(measurement.sqlStatements),
        figure(measurement.sqlRoundTrips),
        figure(measurement.redisCommands),
        figure(measurement.redisRoundTrips),
        measurement.errors === 0 ? '0' : `${measurement.errors} of ${measurement.calls}`,
      ];
    });
  return {
    header: [
      'contender',
      'callers',
      'per s',
      'ratio',
      'p50 ms',
      'p99 ms',
      'CPU µs',
      'peak MB',
      'SQL',
      'SQL trips',
      'Redis',
      'Redis trips',
      'errors',
    ],
    rows,
  };
}

/** How many callers a contender really had; in one scenario they differ. */
function callersOf(scenario: Scenario, { contender, callers }: Measurement): number {
  return scenario.entries.find((entry) => entry.contender === contender)?.load?.callers ?? callers;
}

/** The targets, what was measured, and whether they are met. */
export function targetTable(verdicts: readonly Verdict[]): Table {
  return {
    header: ['path', 'against', 'target', 'measured', 'met'],
    rows: verdicts.map(({ target, values, measured, met }) => [
      target.path,
      againstText(target, values),
      boundText(target),
      `${numberText(target, measured)}${values.length > 1 ? ` (${values.map(({ callers, value }) => `${callers}: ${numberText(target, value)}`).join(', ')})` : ''}`,
      met ? 'yes' : 'NO',
    ]),
  };
}

function againstText({ metric, against }: Target, values: Verdict['values']): string {
  if (metric === 'errors') return 'calls that fail';
  const names = [...new Set(values.map(({ against: name }) => contenders[name as ContenderName].title))].join(' or ');
  const whom = against === 'best peer' ? `best peer: ${names}` : names;
  return metric === 'p99' ? `p99 of ${whom}` : whom;
}

function boundText(target: Target): string {
  const { bound } = target;
  return 'atLeast' in bound ? `>= ${numberText(target, bound.atLeast)}` : `<= ${numberText(target, bound.atMost)}`;
}

function numberText({ metric }: Target, value: number): string {
  return metric === 'errors' ? figure(value) : `${figure(value)}x`;
}

/** Who answered the library's lookups, by its own counters: what was measured is what the title says. */
export function servedBy(scenario: Scenario, measurements: readonly Measurement[]): string[] {
  const own = measurements.filter(({ scenario: id }) => id === scenario.id);
  const names = [...new Set(own.map(({ contender }) => contender))];
  return names.flatMap((name) => {
    const { lookups = 0, ...counters } = own.find(({ contender }) => contender === name)!.served;
    const shares = ANSWERS.filter((answer) => counters[answer]).map(
      (answer) => `${answer} ${figure((counters[answer]! * 100) / lookups)} %`,
    );
    const failures = counters['storeFailures'] ? [`storeFailures ${counters['storeFailures']}`] : [];
    return lookups > 0 ? [`${contenders[name].title}: ${[...shares, ...failures].join(', ')}`] : [];
  });
}

const ANSWERS = ['identityMapHits', 'nearCacheHits', 'storeHits', 'databaseHits', 'created', 'updated'];

/** Comparisons that the library lost: against which peer, at how many callers, at what ratio. */
export function slowerThan(scenarios: readonly Scenario[], measurements: readonly Measurement[]): string[] {
  return scenarios.flatMap((scenario) => {
    const own = measurements.filter(({ scenario: id }) => id === scenario.id);
    const named = (role: string): ContenderName[] => [
      ...new Set(own.map(({ contender }) => contender).filter((name) => contenders[name].role === role)),
    ];
    return named('subject').flatMap((subject) =>
      (scenario.rivals?.[subject] ?? named('peer')).flatMap((peer) => {
        const lost = lostRatios(own, subject, peer);
        return lost.length > 0
          ? [`${scenario.title}: ${contenders[subject].title} at ${lost.join(', ')} of ${contenders[peer].title}`]
          : [];
      }),
    );
  });
}

function lostRatios(own: readonly Measurement[], subject: ContenderName, peer: ContenderName): string[] {
  return own
    .filter(({ contender }) => contender === subject)
    .flatMap(({ callers, throughputs }) => {
      const other = own.find((measurement) => measurement.contender === peer && measurement.callers === callers);
      const ratio = other ? pairedRatio(throughputs, other.throughputs) : Infinity;
      return ratio < 1 ? [`${figure(ratio)}x (${callers === 1 ? '1 caller' : `${callers} callers`})`] : [];
    });
}
