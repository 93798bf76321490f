/**
 * Metrics and spans, exported as `mikro-orm-plus/opentelemetry`.
 *
 * @module mikro-orm-plus/opentelemetry
 */
export { enableTelemetry, type Telemetry, type TelemetryOptions } from './telemetry/enable.js';
export type { RelayOwner } from './telemetry/metrics.js';
