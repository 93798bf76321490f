/** Tells on standard error what is being done: one line that changes in a terminal, a line each elsewhere. */
export class Progress {
  readonly #startedAt = performance.now();
  #step = '';

  /** Begins a part of the run, e.g. a scenario. */
  begin(step: string): void {
    this.#step = step;
    if (!process.stderr.isTTY) process.stderr.write(`${this.#clock()} ${step}\n`);
  }

  /** Says what is going on within the part. */
  say(detail: string): void {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[2K${this.#clock()} ${this.#step}: ${detail}`);
  }

  end(): void {
    if (process.stderr.isTTY) process.stderr.write('\r\x1b[2K');
  }

  #clock(): string {
    const seconds = Math.round((performance.now() - this.#startedAt) / 1_000);
    return `[${String(Math.floor(seconds / 60)).padStart(2)}:${String(seconds % 60).padStart(2, '0')}]`;
  }
}
