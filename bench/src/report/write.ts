import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import { contenders } from '../contenders/index.js';
import type { Curve } from '../growth.js';
import { POOL, type Measurement } from '../measure.js';
import type { Scenario } from '../scenarios.js';
import type { Settings } from '../settings.js';
import type { Verdict } from '../judge.js';
import { curveChart, scenarioChart } from './charts.js';
import { BEGIN, END, markdownTable, replaceSection } from './markdown.js';
import { scenarioTable, servedBy, slowerThan, targetTable } from './tables.js';

/** Everything that a run has found out. */
export interface Results {
  readonly finishedAt: string;
  readonly settings: Pick<Settings, 'quick' | 'rounds' | 'sliceMs' | 'delayMs'>;
  readonly machine: { readonly cpu: string; readonly cores: number; readonly memoryGigabytes: number };
  readonly versions: Readonly<Record<string, string>>;
  readonly scenarios: readonly Scenario[];
  readonly measurements: readonly Measurement[];
  readonly verdicts: readonly Verdict[];
  readonly curves: readonly Curve[];
}

export function machine(): Results['machine'] {
  const memoryGigabytes = Math.round(totalmem() / 1_073_741_824);
  return { cpu: cpus()[0]?.model.trim() ?? 'unknown', cores: availableParallelism(), memoryGigabytes };
}

/** Writes results.json, the charts, and the part of `page` between the two markers. Returns the files' paths. */
export async function write(results: Results, folder: string, page: string): Promise<string[]> {
  await mkdir(folder, { recursive: true });
  const files: [name: string, text: string][] = [
    ['results.json', `${JSON.stringify(results, undefined, 2)}\n`],
    ...measured(results).map((scenario): [string, string] => [
      `${scenario.id}.svg`,
      scenarioChart(scenario, results.measurements),
    ]),
    ...results.curves.map((curve): [string, string] => [`growth-${curve.id}.svg`, curveChart(curve)]),
  ];
  for (const [name, text] of files) await writeFile(join(folder, name), text);
  const existing = await readFile(page, 'utf8').catch(() => `# Benchmarks\n\n${BEGIN}\n${END}\n`);
  const images = folder === page.replace(/\.md$/, '') ? `${folder.split('/').at(-1)}/` : '';
  await writeFile(page, replaceSection(existing, section(results, images)));
  return [...files.map(([name]) => join(folder, name)), page];
}

function section(results: Results, images: string): string {
  const { settings, measurements, verdicts, curves } = results;
  const parts = [runText(results)];
  if (settings.quick)
    parts.push('**A quick run: short slices, to see that everything works. Draw no conclusions from it.**');
  const { header, rows } = targetTable(verdicts);
  parts.push('### Targets', markdownTable(header, rows));
  const lost = slowerThan(measured(results), measurements);
  parts.push(
    '### Where another was faster',
    lost.length > 0 ? lost.map((line) => `- ${line}.`).join('\n') : 'Nowhere.',
  );
  for (const scenario of measured(results)) {
    const table = scenarioTable(scenario, measurements);
    parts.push(
      `### ${scenario.title}`,
      `${scenario.description}. Ratios are to "${contenders[scenario.baseline].title}".`,
      `![${scenario.title}](${images}${scenario.id}.svg)`,
      markdownTable(table.header, table.rows),
    );
    const answers = servedBy(scenario, measurements);
    if (answers.length > 0) parts.push(`Who answered:\n\n${answers.map((line) => `- ${line}`).join('\n')}`);
  }
  if (curves.length > 0) parts.push('### How the cost grows');
  for (const curve of curves) parts.push(`![${curve.title}](${images}growth-${curve.id}.svg)`);
  return parts.join('\n\n');
}

function runText({ finishedAt, settings, machine: { cpu, cores, memoryGigabytes }, versions }: Results): string {
  const list = Object.entries(versions).map(([name, version]) => `${name} ${version}`);
  return (
    `Run of ${finishedAt.slice(0, 10)}: ${settings.rounds} rounds, slices of ${settings.sliceMs} ms, ${settings.delayMs > 0 ? `servers ${settings.delayMs} ms away each way, ` : ''}pools of ${POOL} connections, ` +
    `on ${cpu} (${cores} cores, ${memoryGigabytes} GB, servers on the same machine). ${list.join(', ')}.`
  );
}

function measured({ scenarios, measurements }: Results): Scenario[] {
  const ids = new Set(measurements.map(({ scenario }) => scenario));
  return scenarios.filter(({ id }) => ids.has(id));
}
