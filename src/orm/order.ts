/*
 * Answers to statements that run at once, each on a connection of its own, may arrive in another order than the database
 * gave them in. An entity then must not show the older one.
 */

/** What an entity shows. */
interface Shown {
  /** When it was brought into the entity, by this process's count. */
  readonly moment: number;
  /** When the database wrote it, by its clock. */
  readonly writtenAt: bigint;
}

const shown = new WeakMap<object, Shown>();
let moments = 0;

/** A point in the order of this process's events. */
export function nextMoment(): number {
  moments += 1;
  return moments;
}

/** Notes that `entity` shows what the database wrote at a time. */
export function noteShown(entity: object, writtenAt: bigint): void {
  shown.set(entity, { moment: nextMoment(), writtenAt });
}

/**
 * Whether an entity shows something newer already than a statement's answer. Clocks are only compared for statements
 * that ran at once: one that was sent after the last answer had arrived is newer, whatever the clock says.
 */
export function showsNewer(entity: object, sentAt: number, writtenAt: bigint): boolean {
  const last = shown.get(entity);
  return last !== undefined && last.moment > sentAt && last.writtenAt > writtenAt;
}
