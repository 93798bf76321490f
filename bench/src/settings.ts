import { parseArgs } from 'node:util';

/** How thoroughly a run measures. */
export interface Settings {
  readonly quick: boolean;
  /** Exit with 1 when a target is missed. */
  readonly strict: boolean;
  /** Scenarios and curves to run, by id; all when empty. */
  readonly only: readonly string[];
  /** Slices per contender and number of callers. */
  readonly rounds: number;
  readonly sliceMs: number;
  readonly warmUpMs: number;
  /** The most rows in a cache, for the curve of that. */
  readonly cachedRows: number;
  /** How far away the servers are, in ms each way; 0 for as they are. */
  readonly delayMs: number;
  /** Where results go, as a folder. */
  readonly output: string;
}

export const HELP = `npm run bench [-- options]

  --quick          under 2 minutes: short slices, small growth curves; to see that it works, not for conclusions
  --strict         exit with 1 when a target is missed
  --only a,b       these scenarios and curves alone (their ids are shown while it runs)
  --rounds n       slices per contender and number of callers (5; with --quick 2)
  --slice ms       length of a slice (400; with --quick 40)
  --cached-rows n  largest number of rows in a cache for its curve (1000000)
  --delay ms       puts the servers that far away, each way (0), as a network would; results go where partial ones go
  --output folder  for results.json, the charts and the page (docs/benchmarks; with --quick or --only docs/benchmarks/quick)
`;

/** @throws {TypeError} on an unknown option; {Error} on one that makes no sense */
export function parseSettings(args: readonly string[]): Settings | 'help' {
  const { values } = parseArgs({
    args: [...args],
    options: {
      quick: { type: 'boolean', default: false },
      strict: { type: 'boolean', default: false },
      only: { type: 'string', default: '' },
      rounds: { type: 'string' },
      slice: { type: 'string' },
      'cached-rows': { type: 'string' },
      delay: { type: 'string' },
      output: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return 'help';
  const { quick, strict } = values;
  const only = values.only.split(',').filter(Boolean);
  // what isn't a full run doesn't replace the results of one
  const partial = quick || only.length > 0 || values.delay !== undefined;
  return {
    quick,
    strict,
    only,
    rounds: positive('rounds', values.rounds ?? (quick ? '2' : '5')),
    sliceMs: positive('slice', values.slice ?? (quick ? '40' : '400')),
    cachedRows: positive('cached-rows', values['cached-rows'] ?? '1000000'),
    delayMs: values.delay === undefined ? 0 : positive('delay', values.delay),
    warmUpMs: quick ? 60 : 4_000,
    output: values.output ?? (partial ? 'docs/benchmarks/quick' : 'docs/benchmarks'),
  };
}

function positive(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new Error(`--${name} must be a whole number, 1 or more`);
  return value;
}
