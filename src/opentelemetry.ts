export { enableTelemetry, type Telemetry, type TelemetryOptions } from './telemetry/enable.js';
