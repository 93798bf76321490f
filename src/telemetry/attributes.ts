import type { LookupMessage } from '../observability/channels.js';

/** Attributes of our own; where OpenTelemetry's semantic conventions have one (`db.*`, `error.type`), theirs is used. */
export const ENTITY = 'mikro_orm_plus.entity';
export const RESULT = 'mikro_orm_plus.result';
export const OUTCOME = 'mikro_orm_plus.outcome';
export const RELEASED = 'mikro_orm_plus.released';
export const STORE = 'mikro_orm_plus.store';
export const RACE_LOST = 'mikro_orm_plus.race_lost';

/** How a lookup was answered, in exactly one of six ways, as in `statistics()`. */
export type Result = 'identity_map' | 'near_cache' | 'store' | 'database' | 'created' | 'updated';

export function resultOf({ servedBy, created, updated }: LookupMessage): Result {
  if (created) return 'created';
  if (updated) return 'updated';
  return servedBy === 'identity-map' ? 'identity_map' : servedBy === 'near-cache' ? 'near_cache' : servedBy;
}

/** The class of an error, which says enough for a chart; its message may hold values. */
export function errorType(error: unknown): string {
  return error instanceof Error ? error.constructor.name || error.name : typeof error;
}
