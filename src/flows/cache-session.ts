import type { Transaction } from '@mikro-orm/core';
import type { Batch, Entry } from './batch.js';

/** What a cached repository's call may do with the cache. */
export interface CacheSession {
  /** Columns to be selected beside the row, to learn what the server knows about the transaction. */
  readonly extraColumns: string;
  /** Answers what this process has copies of, at once. */
  peek(batch: Batch): void;
  /** Answers what the store knows, and takes leases for what it doesn't. */
  read(batch: Batch): Promise<void>;
  /** Stores rows that the call read or created, as far as leases and guards still allow it. */
  fill(batch: Batch): Promise<void>;
  /** Notes rows that the call changed in the open transaction, so that its commit soft-locks and releases them. */
  written(entries: readonly Entry[]): Promise<void>;
  /** @throws {ReadOnlyRegionError} when rows of the region are promised never to change */
  requireWritable(): void;
  /** Keeps the `afterUpsert` event of an entity from removing what this call has stored. */
  announce(entity: object): void;
  /** The same for rows of which only the primary key is known, as text; in `transaction` rather than the open one. */
  noteKeys(primaryKeys: readonly string[], transaction?: Transaction): Promise<void>;
}
