import { print, style } from '../terminal.js';
import type { Finding, Severity, Topic } from './finding.js';

/** Version of the shape of {@link printJson}; new fields and codes may be added without a new one. */
const FORMAT = 1;

const headings: Record<Topic, string> = {
  database: 'Database',
  'natural-keys': 'Natural keys',
  regions: 'Cache regions',
  'change-log': 'Change log',
  stores: 'Stores',
  relay: 'Relay',
};

const marks = {
  ok: ['✔', 'green'],
  warning: ['!', 'yellow'],
  problem: ['✖', 'red'],
} as const satisfies Record<Severity, readonly [string, string]>;

/** For people: findings by topic, each with its remedy. */
export function printText(findings: readonly Finding[]): void {
  for (const [topic, heading] of Object.entries(headings)) {
    const ofTopic = findings.filter((finding) => finding.topic === topic);
    if (ofTopic.length === 0) continue;
    print(style('bold', heading));
    for (const { severity, subject, message, remedy } of ofTopic) {
      const [mark, colour] = marks[severity];
      print(`  ${style(colour, mark)} ${style('bold', subject)}  ${message}`);
      for (const line of remedy) print(`      ${style(line.startsWith('--') ? 'dim' : 'cyan', line)}`);
    }
    print();
  }
  const { problem, warning, ok } = count(findings);
  const summary = `${plural(problem, 'problem')}, ${plural(warning, 'warning')}, ${ok} fine`;
  print(style(problem > 0 ? 'red' : warning > 0 ? 'yellow' : 'green', summary));
}

/** For programs. */
export function printJson(findings: readonly Finding[]): void {
  const { problem, warning, ok } = count(findings);
  print(JSON.stringify({ format: FORMAT, problems: problem, warnings: warning, passed: ok, findings }, undefined, 2));
}

function count(findings: readonly Finding[]): Record<Severity, number> {
  const counts = { ok: 0, warning: 0, problem: 0 };
  for (const { severity } of findings) counts[severity] += 1;
  return counts;
}

function plural(amount: number, noun: string): string {
  return `${amount} ${noun}${amount === 1 ? '' : 's'}`;
}
