import { metrics, trace, type MeterProvider, type TracerProvider } from '@opentelemetry/api';
import { recordMetrics, type RelayOwner } from './metrics.js';
import { recordSpans } from './spans.js';

/** The instrumentation scope of everything that is recorded here. */
const SCOPE = 'mikro-orm-plus';

/** Options of {@link enableTelemetry}. */
export interface TelemetryOptions {
  /** Where metrics go. Default: the global meter provider. `false` records none. */
  readonly meterProvider?: MeterProvider | false;
  /** Where spans go. Default: the global tracer provider. `false` records none. */
  readonly tracerProvider?: TracerProvider | false;
  /** The `PlusSubscriber` whose relay is asked for its role and backlog. Default: neither is recorded. */
  readonly plus?: RelayOwner;
}

/** Telemetry that is being recorded. */
export interface Telemetry extends Disposable {
  /** Ends the recording. May be called twice. */
  stop(): void;
}

/**
 * Records metrics and spans of every ORM in this process, from the diagnostics channels of this library. Call it once,
 * after the SDK of OpenTelemetry was started.
 *
 * ```ts
 * import { enableTelemetry } from 'mikro-orm-plus/opentelemetry';
 * enableTelemetry();
 * ```
 *
 * Neither metrics nor spans hold values of lookups: they name entities, tables, store aliases and classes of errors.
 *
 * @returns what ends the recording again
 */
export function enableTelemetry(options: TelemetryOptions = {}): Telemetry {
  const { meterProvider = metrics.getMeterProvider(), tracerProvider = trace.getTracerProvider() } = options;
  const running = [
    ...(meterProvider ? [recordMetrics(meterProvider.getMeter(SCOPE), options.plus)] : []),
    ...(tracerProvider ? [recordSpans(tracerProvider.getTracer(SCOPE))] : []),
  ];
  const stop = (): void => {
    for (const end of running.splice(0)) end();
  };
  return { stop, [Symbol.dispose]: stop };
}
