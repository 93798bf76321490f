/**
 * What telemetry costs a lookup, in microseconds: nobody listens, metrics, metrics and spans, in turns, so that a busy
 * machine is as unfair to one as to the others. The lookups are answered by the identity map and by a memory store,
 * the cheapest there are. `npx tsx scripts/telemetry-cost.ts`
 */
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { context } from '@opentelemetry/api';
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics';
import { NoopSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';
import { MikroORM } from '@mikro-orm/pglite';
import { defineEntity, p } from '@mikro-orm/core';
import { PlusSubscriber, withPlusRepo } from '../src/index.js';
import { traceCall } from '../src/observability/channels.js';
import { enableTelemetry, type TelemetryOptions } from '../src/opentelemetry.js';

const ROUNDS = 30;
const CALLS = 2_000;

const Tag = withPlusRepo(
  defineEntity({ name: 'Tag', properties: { id: p.integer().primary(), name: p.string().unique() } }),
);
const orm = await MikroORM.init({ entities: [Tag], dbName: 'memory://', subscribers: [new PlusSubscriber()] });
await orm.schema.create();
const em = orm.em.fork();
type Repository = { getOrCreate(where: object): Promise<unknown> };
const repositoryOf = (of: typeof em): Repository => of.getRepository(Tag as never) as object as Repository;
await repositoryOf(em).getOrCreate({ name: 'a' });

context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 });
const meterProvider = new MeterProvider({ readers: [reader] });
const tracerProvider = new TracerProvider({ spanProcessors: [new NoopSpanProcessor()] });

const variants: Record<string, TelemetryOptions | undefined> = {
  'nobody listens': undefined,
  metrics: { meterProvider, tracerProvider: false },
  'metrics and spans': { meterProvider, tracerProvider },
};
const works: Record<string, () => Promise<unknown>> = {
  'identity map': () => repositoryOf(em).getOrCreate({ name: 'a' }),
  'memory store': () => repositoryOf(orm.em.fork()).getOrCreate({ name: 'a' }),
};

async function microseconds(work: () => unknown, calls: number): Promise<number> {
  const start = process.hrtime.bigint();
  for (let call = 0; call < calls; call++) await work();
  return Number(process.hrtime.bigint() - start) / 1_000 / calls;
}

const median = (values: number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;

const times = new Map<string, number[]>();
const note = (name: string, time: number): void => void times.set(name, [...(times.get(name) ?? []), time]);
const bare = async (): Promise<number> => 1;
const message = { operation: 'getOrCreate', entity: 'Tag', table: 'tag', size: 1 } as const;
for (let round = 0; round <= ROUNDS; round++) {
  for (const [workName, work] of Object.entries(works)) {
    for (const [name, options] of Object.entries(variants)) {
      const telemetry = options && enableTelemetry(options);
      const time = await microseconds(work, CALLS);
      telemetry?.stop();
      if (round > 0) note(`${workName}: ${name}`, time);
    }
  }
  const bareTime = await microseconds(bare, 100_000);
  const tracedTime = await microseconds(() => traceCall(() => ({ ...message }), bare), 100_000);
  if (round > 0) note('an empty call', bareTime);
  if (round > 0) note('an empty call, traced, nobody listens', tracedTime);
}
for (const [name, all] of times) console.log(`${name}: ${median(all).toFixed(3)} µs (median of ${ROUNDS} rounds)`);
await meterProvider.shutdown();
await orm.close();
