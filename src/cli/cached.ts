import { unnameableReason } from '../codec/primary-key.js';
import { uncacheableReason, type Meta } from '../orm/metadata.js';
import type { PlusSubscriber } from '../PlusSubscriber.js';
import type { Region } from '../stores/Region.js';
import { UsageError } from './arguments.js';
import type { Project } from './project.js';
import { withinTime } from './within-time.js';

/** Long enough for a first connection, its TLS and Sentinel. */
const ANSWER_MS = 5_000;

/** @throws {UsageError} when the entity isn't cached */
export function requireCached({ em }: Project, plus: PlusSubscriber, meta: Meta): Region {
  const region = plus.regions.of(em, meta);
  if (region) return region;
  const reason = uncacheableReason(meta.root) ?? unnameableReason(meta.root);
  throw new UsageError(`${meta.className} is not cached: ${reason ?? 'it has no cached repository'}.`);
}

/** Whether the rows of a region are in reach of this process. */
export function isShared(region: Region): boolean {
  return region.store.store.capabilities.shared;
}

/** A first connection may take longer than a commit would wait. */
export async function connect(plus: PlusSubscriber, region: Region): Promise<void> {
  for (const { store } of new Set([region.store, plus.regions.hints])) await withinTime(ANSWER_MS, store.ping());
}
