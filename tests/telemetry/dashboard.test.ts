import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { PrometheusExporter, PrometheusSerializer } from '@opentelemetry/exporter-prometheus';
import { MeterProvider } from '@opentelemetry/sdk-metrics';
import { publish } from '../../src/observability/channels.js';
import { enableTelemetry } from '../../src/opentelemetry.js';

const dashboard = resolve(import.meta.dirname, '../../examples/grafana/mikro-orm-plus.json');

/** What Prometheus is told once everything that can be recorded has happened. */
async function exportedText(): Promise<string> {
  const reader = new PrometheusExporter({ preventServerStart: true });
  const meterProvider = new MeterProvider({ readers: [reader] });
  const plus = { relayStatus: () => ({ role: 'active', backlog: 3 }) as const };
  using _ = enableTelemetry({ meterProvider, tracerProvider: false, plus });
  const lookup = { entity: 'Tag', created: false, updated: false, raceLost: true, duration: 1 };
  publish('lookup', { ...lookup, servedBy: 'store' });
  for (const event of ['fill', 'refused-fill', 'soft-lock', 'eviction'] as const) {
    publish('cache', { entity: 'Tag', event, entries: 1 });
  }
  publish('commit', { entries: 1, outcome: 'committed', released: true });
  publish('store', { store: 'default', operation: 'read', error: new Error('down') });
  publish('relay', { kind: 'delivery', changes: 2, lag: 5 });
  publish('relay', { kind: 'failure', operation: 'deliver', error: new Error('down') });
  publish('circuit', { store: 'default', state: 'open' });
  const { resourceMetrics } = await reader.collect();
  await meterProvider.shutdown();
  return new PrometheusSerializer().serialize(resourceMetrics);
}

/** Names of metrics and of their labels in the queries of a dashboard. */
function namesIn(text: string): { metrics: Set<string>; labels: Set<string> } {
  const names = new Set(text.match(/\b(?:mikro_orm_plus|db|error)_[a-z_]+\b/g));
  const isLabel = (name: string): boolean =>
    new RegExp(`\\b${name}\\s*!?=|by \\([^)]*\\b${name}\\b|, ${name}\\)`).test(text);
  const [labels, metrics] = [[...names].filter(isLabel), [...names].filter((name) => !isLabel(name))];
  return { metrics: new Set(metrics), labels: new Set(labels) };
}

test('the Grafana dashboard asks only for metrics and labels that exist, and for each of them', async () => {
  const { panels, templating } = JSON.parse(await readFile(dashboard, 'utf8')) as {
    panels: { targets: { expr: string; legendFormat: string }[] }[];
    templating: { list: { query: string }[] };
  };
  const queries = panels.flatMap(({ targets }) => targets.map(({ expr }) => expr));
  // exporters add the unit to the name, or don't: the queries ask for both
  const { metrics, labels } = namesIn(
    [...queries, ...templating.list.map(({ query }) => query)].join('\n').replaceAll('(_seconds)?', ''),
  );
  const text = await exportedText();
  const samples = text.split('\n').filter((line) => line.startsWith('mikro_orm_plus_'));
  const exportedMetrics = new Set(samples.map((line) => /^\w+/.exec(line)![0]));
  const exportedLabels = new Set(samples.flatMap((line) => [...line.matchAll(/(\w+)=/g)].map(([, name]) => name!)));
  expect(metrics.size).toBeGreaterThan(8);
  expect([...metrics].filter((name) => !exportedMetrics.has(name))).toEqual([]);
  expect([...labels].filter((name) => !exportedLabels.has(name))).toEqual([]);
  expect([...exportedMetrics].filter((name) => !metrics.has(name))).toEqual([]);
});
