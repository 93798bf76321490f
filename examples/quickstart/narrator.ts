import { subscribe } from 'node:diagnostics_channel';
import { inspect } from 'node:util';
import type { LookupMessage } from '../../src/index.js';

/** What a step is expected to show. */
export interface Expected {
  /** Who answered each lookup that the step makes. */
  readonly answers: readonly string[];
  /** How many statements went to the database. */
  readonly statements: number;
}

const names: Record<LookupMessage['servedBy'], string> = {
  'identity-map': 'identity map',
  'near-cache': 'near cache',
  store: 'store',
  database: 'database',
};

/** Runs the steps of the demo, prints what each did, and keeps count of those that did what they should. */
export class Narrator {
  readonly #statements: string[] = [];
  readonly #answers: string[] = [];
  #steps = 0;
  #failures = 0;

  constructor() {
    subscribe('mikro-orm-plus:lookup', (message) => {
      const { servedBy, created, raceLost } = message as LookupMessage;
      const note = created ? ', created' : raceLost ? ', after a lost race' : '';
      this.#answers.push(`${names[servedBy]}${note}`);
    });
  }

  /** For MikroORM's option `logger`. */
  readonly log = (line: string): void => {
    this.#statements.push(line.replace(/^\[query\] /, '').replace(/ \[took .*$/, ''));
  };

  chapter(title: string): void {
    console.log(`\n${title}\n${'-'.repeat(title.length)}`);
  }

  /** Runs one step, and says whether it showed what was expected. */
  async step<T>(
    code: string,
    run: () => Promise<T>,
    expected: Expected | readonly Expected[],
    check: (result: T) => boolean = () => true,
  ): Promise<T> {
    this.#statements.length = 0;
    this.#answers.length = 0;
    const result = await run();
    const outcomes = [expected].flat();
    const good = outcomes.some((outcome) => this.#showed(outcome)) && check(result);
    this.#steps += 1;
    if (!good) this.#failures += 1;
    console.log(`\n${good ? 'ok ' : 'NOT'} ${code}`);
    console.log(`    => ${show(result)}`);
    console.log(`    answered by: ${this.#answers.join(' | ') || 'nobody'}`);
    console.log(`    statements: ${this.#statements.length}`);
    for (const statement of this.#statements) console.log(`      ${shorten(statement)}`);
    if (!good) console.log(`    expected: ${inspect(outcomes)}`);
    return result;
  }

  #showed({ answers, statements }: Expected): boolean {
    return this.#answers.toSorted().join() === answers.toSorted().join() && this.#statements.length === statements;
  }

  /** Prints the last line; returns the exit code. */
  end(): number {
    const all = `All ${this.#steps} steps did what they should.`;
    console.log(
      `\n${this.#failures === 0 ? all : `${this.#failures} of ${this.#steps} steps did not do what they should.`}`,
    );
    return this.#failures === 0 ? 0 : 1;
  }
}

function show(result: unknown): string {
  return JSON.stringify(result) ?? 'done';
}

function shorten(statement: string): string {
  return statement.length > 150 ? `${statement.slice(0, 147)}...` : statement;
}
