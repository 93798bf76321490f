import { publish } from '../../observability/channels.js';

/** What doesn't work at the moment; each trouble is told once, until it is over. */
export class Failures {
  /** Messages by operation, the latest last. */
  readonly #current = new Map<string, string>();

  add(operation: string, error: Error): void {
    const message = error.message || String(error);
    const isNews = this.#current.get(operation) !== message;
    this.#current.delete(operation);
    this.#current.set(operation, message);
    if (isNews) publish('relay', { kind: 'failure', operation, error });
  }

  /** The operation works. */
  clear(operation: string): void {
    this.#current.delete(operation);
  }

  get last(): string | undefined {
    return [...this.#current.values()].at(-1);
  }
}
