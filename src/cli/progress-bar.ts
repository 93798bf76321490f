import cliProgress from 'cli-progress';
import type { Progress } from '../flows/progress.js';

/** Where a bar is shown: standard error, or what stands in for it in a test. */
export type BarStream = NodeJS.WritableStream & { readonly isTTY?: boolean };

/**
 * Shows how far long work is, where a person sees it: on a terminal. Elsewhere it shows nothing. The bar leaves no trace
 * when it is disposed of, and nothing to restore when the process is killed.
 */
export class ProgressBar implements Disposable {
  readonly #bar: cliProgress.SingleBar | undefined;
  #last: Progress | undefined;

  /** @param what stands before the bar */
  constructor(what: string, stream: BarStream = process.stderr) {
    if (!stream.isTTY) return;
    this.#bar = new cliProgress.SingleBar({
      stream,
      format: `${what}  {bar}  {value} of {total}`,
      barsize: 30,
      barCompleteChar: '█',
      barIncompleteChar: '░',
      clearOnComplete: true,
      // Ctrl-C is the command's business
      gracefulExit: false,
      hideCursor: false,
      linewrap: true,
    });
  }

  /** Whether anybody sees it, so that it is worth asking how much there is. */
  get isShown(): boolean {
    return this.#bar !== undefined;
  }

  readonly update = (progress: Progress): void => {
    if (!this.#last) this.#bar?.start(progress.total, progress.done);
    this.#last = progress;
    this.#bar?.setTotal(progress.total);
    this.#bar?.update(progress.done);
  };

  /** Prints lines to the terminal that the bar is on. */
  interrupt(print: () => void): void {
    if (this.#last) this.#bar?.stop();
    print();
    if (this.#last) this.#bar?.start(this.#last.total, this.#last.done);
  }

  [Symbol.dispose](): void {
    if (this.#last) this.#bar?.stop();
  }
}
