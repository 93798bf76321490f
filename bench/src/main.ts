/**
 * The benchmark itself, on servers that are up already: `npm run bench` builds the library, starts the servers, and runs
 * this with their addresses in the environment.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { contenders, type ContenderName } from './contenders/index.js';
import { serverVersions, type Servers } from './database.js';
import { curveFamilies, type Curve } from './growth.js';
import { judge } from './judge.js';
import { startDelayingProxy } from './load/delaying-proxy.js';
import { endMeasuring, measure, type Measurement } from './measure.js';
import { Progress } from './progress.js';
import { figure, plainTable } from './report/markdown.js';
import { scenarioTable, servedBy, slowerThan, targetTable } from './report/tables.js';
import { machine, write } from './report/write.js';
import { scenarios } from './scenarios.js';
import { HELP, parseSettings, type Settings } from './settings.js';
import { targets } from './targets.js';

const settings = parseSettings(process.argv.slice(2));
if (settings === 'help') console.log(HELP);
else await run(settings);

async function run(chosen: Settings): Promise<void> {
  await using database = await startDelayingProxy(process.env['BENCH_DATABASE_URL']!, chosen.delayMs);
  await using redis = await startDelayingProxy(process.env['BENCH_REDIS_URL']!, chosen.delayMs);
  const servers = { databaseUrl: database.url, redisUrl: redis.url };
  const progress = new Progress();
  checkNames(chosen.only);
  const measurements = await measureScenarios(servers, chosen, progress);
  await endMeasuring();
  const curves = await measureCurves(servers, chosen, progress);
  const verdicts = judge(measurements, targets, roleOf);
  const results = {
    finishedAt: new Date().toISOString(),
    settings: { quick: chosen.quick, rounds: chosen.rounds, sliceMs: chosen.sliceMs, delayMs: chosen.delayMs },
    machine: machine(),
    versions: { 'Node.js': process.versions.node, ...(await versions(servers)) },
    scenarios,
    measurements,
    verdicts,
    curves,
  };
  printTargets(verdicts);
  const isWhole = chosen.output === 'docs/benchmarks';
  const page = isWhole ? 'docs/benchmarks.md' : join(chosen.output, 'README.md');
  const written = await write(results, chosen.output, page);
  console.log(`\nWritten: ${written.join(', ')}`);
  if (chosen.strict && verdicts.some(({ met }) => !met)) process.exitCode = 1;
}

async function measureScenarios(servers: Servers, chosen: Settings, progress: Progress): Promise<Measurement[]> {
  const all: Measurement[] = [];
  for (const scenario of scenarios) {
    if (chosen.only.length > 0 && !chosen.only.includes(scenario.id)) continue;
    progress.begin(scenario.id);
    const measurements = await measure(scenario, servers, chosen, progress);
    progress.end();
    all.push(...measurements);
    const { header, rows } = scenarioTable(scenario, measurements);
    console.log(`\n${scenario.title} (${scenario.id})\n${scenario.description}`);
    console.log(`ratio: to ${contenders[scenario.baseline].title}\n\n${plainTable(header, rows)}`);
    for (const { contender, firstError } of measurements) {
      if (firstError) console.log(`first error of ${contenders[contender].title}: ${firstError}`);
    }
    for (const line of servedBy(scenario, measurements)) console.log(`answered by: ${line}`);
    for (const line of slowerThan([scenario], measurements)) console.log(`slower: ${line}`);
  }
  return all;
}

async function measureCurves(servers: Servers, chosen: Settings, progress: Progress): Promise<Curve[]> {
  const all: Curve[] = [];
  for (const family of curveFamilies) {
    if (chosen.only.length > 0 && !chosen.only.includes(family.id)) continue;
    progress.begin(family.id);
    const curves = await family.measure({ servers, settings: chosen, progress });
    progress.end();
    for (const { title, x, y, series } of curves) {
      const rows = series.map(({ name, points }) => [name, ...points.map(([, value]) => figure(value))]);
      const header = [`${y}, by ${x}`, ...series[0]!.points.map(([count]) => count.toLocaleString('en'))];
      console.log(`\n${title}\n\n${plainTable(header, rows)}`);
    }
    all.push(...curves);
  }
  return all;
}

function printTargets(verdicts: ReturnType<typeof judge>): void {
  if (verdicts.length === 0) return;
  const { header, rows } = targetTable(verdicts);
  console.log(`\nTargets\n\n${plainTable(header, rows)}`);
  const met = verdicts.filter((verdict) => verdict.met).length;
  console.log(
    `\n${met} of ${verdicts.length} targets met${settings !== 'help' && settings.quick ? ' (a quick run: draw no conclusions)' : ''}`,
  );
}

/** @param name of a contender */
function roleOf(name: string): string {
  return contenders[name as ContenderName].role;
}

function checkNames(only: readonly string[]): void {
  const known = [...scenarios.map(({ id }) => id), ...curveFamilies.map(({ id }) => id)];
  const unknown = only.find((id) => !known.includes(id));
  if (unknown !== undefined) throw new Error(`Nothing is called "${unknown}". There are: ${known.join(', ')}.`);
}

async function versions(servers: Servers): Promise<Record<string, string>> {
  const { postgres, redis } = await serverVersions(servers);
  const { dependencies } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    dependencies: Record<string, string>;
  };
  const named = ['@mikro-orm/core', 'pg', 'sequelize', 'typeorm', '@prisma/client', 'drizzle-orm', 'bentocache'];
  return {
    PostgreSQL: postgres,
    Redis: redis,
    ...Object.fromEntries(named.map((name) => [name, dependencies[name]!])),
  };
}
