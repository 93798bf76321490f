import type { EntityManager } from '../../orm/context.js';
import type { Meta } from '../../orm/metadata.js';
import type { PlusSubscriber } from '../../PlusSubscriber.js';

/** How bad it is: `problem` breaks a promise or is about to, `warning` is allowed but has a price. */
export type Severity = 'ok' | 'warning' | 'problem';

export type Topic = 'database' | 'natural-keys' | 'regions' | 'change-log' | 'stores' | 'relay';

/** One thing that was looked at. */
export interface Finding {
  readonly topic: Topic;
  /** What was found, for programs: `<topic>.<what>`, stable. */
  readonly code: string;
  readonly severity: Severity;
  /** What it is about: an entity, a key, a table, a store. */
  readonly subject: string;
  readonly message: string;
  /** What to do, in order: commands, SQL, settings. A line that starts with `--` is a remark. */
  readonly remedy: readonly string[];
}

/** What the checks look at. */
export interface DoctorContext {
  readonly em: EntityManager;
  /** All entity classes. */
  readonly entities: readonly Meta[];
  readonly plus: PlusSubscriber | undefined;
  /** The schema to look at for entities that are in every schema. */
  readonly schema: string | undefined;
}

/** Looks at one topic and changes nothing. */
export type Check = (context: DoctorContext) => Promise<Finding[]>;

type MakeFinding = (code: string, subject: string, message: string, remedy?: readonly string[]) => Finding;

/** Makes the findings of one topic. */
export function findingsOf(topic: Topic): Record<Severity, MakeFinding> {
  const make =
    (severity: Severity): MakeFinding =>
    (code, subject, message, remedy = []) => ({ topic, code: `${topic}.${code}`, severity, subject, message, remedy });
  return { ok: make('ok'), warning: make('warning'), problem: make('problem') };
}
