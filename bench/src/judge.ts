import { pairedRatio } from './statistics.js';

/** What of a measurement a target looks at. */
export interface Judged {
  readonly scenario: string;
  readonly contender: string;
  readonly callers: number;
  readonly throughput: number;
  /** Of each round. */
  readonly throughputs: readonly number[];
  readonly p99s: readonly number[];
  readonly errors: number;
}

/** One number that has to be reached, from contenders of one scenario, measured in turns. */
export interface Target<Name extends string = string> {
  readonly path: string;
  readonly scenario: string;
  readonly subject: Name;
  /** A contender, or whichever of the scenario's peers was fastest. */
  readonly against: Name | 'best peer';
  /** Numbers of callers that it has to hold for; all that the scenario measures when absent. */
  readonly callers?: readonly number[];
  readonly metric: 'throughput' | 'p99' | 'errors';
  /** A ratio to the other's; for `errors`, a number of calls. */
  readonly bound: { readonly atLeast: number } | { readonly atMost: number };
}

/** How a target came out at one number of callers. */
export interface TargetValue {
  readonly callers: number;
  readonly value: number;
  /** Whom it was compared with. */
  readonly against: string;
}

/** How a target came out. */
export interface Verdict {
  readonly target: Target;
  readonly values: readonly TargetValue[];
  /** The value that decides: the worst. */
  readonly measured: number;
  readonly met: boolean;
}

/** Judges the targets whose scenario has been measured: one is met when it is at every number of callers. */
export function judge(
  measurements: readonly Judged[],
  targets: readonly Target[],
  roleOf: (contender: string) => string,
): Verdict[] {
  return targets.flatMap((target) => {
    const values = valuesOf(target, measurements, roleOf);
    if (values.length === 0) return [];
    const { bound } = target;
    const all = values.map(({ value }) => value);
    const measured = 'atLeast' in bound ? Math.min(...all) : Math.max(...all);
    const met = 'atLeast' in bound ? measured >= bound.atLeast : measured <= bound.atMost;
    return [{ target, values, measured, met }];
  });
}

function valuesOf(
  target: Target,
  measurements: readonly Judged[],
  roleOf: (contender: string) => string,
): TargetValue[] {
  const ofScenario = measurements.filter(({ scenario }) => scenario === target.scenario);
  return ofScenario
    .filter(({ contender, callers }) => contender === target.subject && (target.callers?.includes(callers) ?? true))
    .flatMap((subject) => {
      const other = opponentOf(target, subject, ofScenario, roleOf);
      return other
        ? [{ callers: subject.callers, value: valueOf(target, subject, other), against: other.contender }]
        : [];
    });
}

function opponentOf(
  { against }: Target,
  { callers }: Judged,
  ofScenario: readonly Judged[],
  roleOf: (contender: string) => string,
): Judged | undefined {
  const candidates = ofScenario.filter((measurement) => measurement.callers === callers);
  if (against !== 'best peer') return candidates.find(({ contender }) => contender === against);
  return candidates
    .filter(({ contender }) => roleOf(contender) === 'peer')
    .toSorted((a, b) => b.throughput - a.throughput)[0];
}

function valueOf({ metric }: Target, subject: Judged, other: Judged): number {
  switch (metric) {
    case 'throughput':
      return pairedRatio(subject.throughputs, other.throughputs);
    case 'p99':
      return pairedRatio(subject.p99s, other.p99s);
    case 'errors':
    default:
      return subject.errors;
  }
}
