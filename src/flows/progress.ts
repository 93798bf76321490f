import type { Batch } from './batch.js';
import type { Call } from './call.js';

/** How far long work is. */
export interface Progress {
  /** Lookups that are answered, or rows that were read. */
  readonly done: number;
  /** All there are; a lookup that is named twice counts once. */
  readonly total: number;
}

/** Told by long work how far it is. What it throws ends the work. */
export type OnProgress = (progress: Progress) => void;

/** Tells the caller of a batch how far it is, `extra` rows being created and not answered yet; never the same twice. */
export function tellProgress({ options }: Call, batch: Batch, extra = 0): void {
  if (!options.onProgress) return;
  const total = batch.entries.length;
  const done = Math.min(total, total - batch.open().length + extra);
  if (done <= batch.told) return;
  batch.told = done;
  options.onProgress({ done, total });
}
