import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
  type DataPoint,
  type Histogram,
} from '@opentelemetry/sdk-metrics';
import { InMemorySpanExporter, SimpleSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';
import { enableTelemetry, type RelayOwner } from '../../src/opentelemetry.js';

type Value = number | Histogram;

/** Telemetry that is kept in memory. */
export interface Recorder extends AsyncDisposable {
  tracerProvider: TracerProvider;
  spans: InMemorySpanExporter;
  /** Ends the recording; what was recorded can still be read. */
  stop: () => void;
  /** Sums of a metric since the start, by attributes. */
  points: (name: string) => Promise<{ attributes: object; value: Value }[]>;
}

/** Starts a real SDK of OpenTelemetry that keeps everything in memory, and records into it. */
export function startRecorder(plus?: RelayOwner): Recorder {
  const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 });
  const meterProvider = new MeterProvider({ readers: [reader] });
  const spans = new InMemorySpanExporter();
  const tracerProvider = new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter: spans })] });
  const telemetry = enableTelemetry({ meterProvider, tracerProvider, plus });
  return {
    tracerProvider,
    spans,
    stop: () => telemetry.stop(),
    async points(name) {
      exporter.reset();
      await meterProvider.forceFlush();
      const metrics = exporter
        .getMetrics()
        .flatMap(({ scopeMetrics }) => scopeMetrics.flatMap((scope) => scope.metrics));
      const metric = metrics.find(({ descriptor }) => descriptor.name === name);
      const points = (metric?.dataPoints ?? []) as DataPoint<Value>[];
      return points.map(({ attributes, value }) => ({ attributes, value }));
    },
    async [Symbol.asyncDispose]() {
      telemetry.stop();
      await meterProvider.shutdown();
      await tracerProvider.shutdown();
    },
  };
}
