import { createTestOrm, type TestOrm } from '../harness/orm.js';
import { startProcesses } from '../harness/processes.js';
import { entities, Item, Visit, type RaceInput } from './race.worker.js';
import type raceWorker from './race.worker.js';

const COUNT = 8;
const ROUNDS = 50;

let db: TestOrm;
let group: Awaited<ReturnType<typeof start>>;

const start = () =>
  startProcesses<typeof raceWorker>(new URL('./race.worker.ts', import.meta.url), {
    count: COUNT,
    init: { url: db.url },
  });

beforeAll(async () => {
  db = await createTestOrm({ entities });
  // the harness ends the processes
  group = await start();
});

const places: [string, inTransaction: boolean][] = [
  ['outside a transaction', false],
  ['inside a transaction that does more and commits', true],
];

/** Overlapping lists in different orders: each process leaves some names out, and starts elsewhere. */
function listOf(names: readonly string[], index: number): string[] {
  const own = names.filter((_name, position) => (position + index) % 5 !== 0);
  const rotated = [...own.slice(index), ...own.slice(0, index)];
  return index % 2 === 0 ? rotated : rotated.toReversed();
}

describe.each(places)('eight processes racing %s', (_place, inTransaction) => {
  const label = inTransaction ? 'in' : 'out';

  it('for one new key get the same row, created by one of them, in every one of 50 rounds', async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const name = `${label} single ${round}`;
      const outputs = (await group.round(() => ({ call: 'getOrCreate', names: [name], inTransaction }))).flat();
      expect(new Set(outputs.map(({ id }) => id)).size).toBe(1);
      const creators = outputs.flatMap(({ created }, index) => (created ? [index] : []));
      expect(creators).toHaveLength(1);
      expect(new Set(outputs.map(({ weight }) => weight))).toEqual(new Set(creators));
    }
    const em = db.orm.em.fork();
    await expect(em.count(Item, { name: { $like: `${label} single %` } })).resolves.toBe(ROUNDS);
    const visits = await em.count(Visit, { item: { name: { $like: `${label} single %` } } });
    expect(visits).toBe(inTransaction ? ROUNDS * COUNT : 0);
  });

  it.each(['getOrCreateMany', 'updateOrCreateMany'] as const)(
    'with overlapping lists of old and new rows for %s have no deadlock, and create each row once',
    async (call) => {
      const creations = new Map<string, number>();
      const ids = new Map<string, Set<number>>();
      for (let round = 0; round < 15; round++) {
        // half of the names are those of the round before
        const names = Array.from({ length: 26 }, (_value, at) => `${label} ${call} ${round * 13 + ((at * 7) % 26)}`);
        const input = (index: number): RaceInput => ({ call, names: listOf(names, index), inTransaction });
        const outputs = await group.round(input);
        outputs.forEach((output, index) => expect(output.map(({ name }) => name)).toEqual(listOf(names, index)));
        for (const { name, id, created } of outputs.flat()) {
          creations.set(name, (creations.get(name) ?? 0) + (created ? 1 : 0));
          ids.set(name, (ids.get(name) ?? new Set()).add(id));
        }
      }
      expect(creations.size).toBe(16 * 13);
      expect(new Set(creations.values())).toEqual(new Set([1]));
      expect([...ids.values()].every(({ size }) => size === 1)).toBe(true);
      await expect(db.orm.em.fork().count(Item, { name: { $like: `${label} ${call} %` } })).resolves.toBe(16 * 13);
    },
  );
});

describe('eight processes whose callers guess that their rows are new', () => {
  it('get the same rows, each created by one of them, when their names overlap', async () => {
    let [guesses, rounds] = [0, 0];
    for (; rounds < 40; rounds += 1) {
      const names = Array.from({ length: 20 }, (_value, at) => `guess ${rounds} ${(at * 7) % 20}`);
      // two rounds of names of its own have a process guess in the third, rightly, and in the fourth, where names overlap
      const own = (index: number) => Array.from({ length: 5 }, (_value, at) => `guess ${rounds} of ${index} ${at}`);
      const input = (index: number): RaceInput => ({
        call: 'getOrCreateEach',
        names: rounds % 4 === 3 ? listOf(names, index) : own(index),
        inTransaction: false,
      });
      const outputs = await group.round(input);
      for (const ofName of Map.groupBy(outputs.flat(), ({ name }) => name).values()) {
        expect(new Set(ofName.map(({ id }) => id)).size).toBe(1);
        expect(ofName.filter(({ created }) => created)).toHaveLength(1);
      }
      const byCreator = outputs.flatMap((output, index) =>
        output.filter(({ created }) => created).map((row) => [row.weight, index]),
      );
      expect(byCreator.every(([weight, index]) => weight === index)).toBe(true);
      guesses += outputs.reduce((sum, output) => sum + output[0]!.guesses, 0);
    }
    expect(guesses).toBeGreaterThanOrEqual(2 * 10 * COUNT);
    const em = db.orm.em.fork();
    await expect(em.count(Item, { name: { $like: 'guess %' } })).resolves.toBe(30 * COUNT * 5 + 10 * 20);
  });
});

describe('eight processes that update and then increment the returned entity', () => {
  it('lose no increment, and create the row once', async () => {
    let created = 0;
    for (let round = 0; round < 20; round++) {
      const outputs = await group.round(() => ({ call: 'increment', names: ['counter'], inTransaction: true }));
      created += outputs.flat().filter((output) => output.created).length;
    }
    expect(created).toBe(1);
    const counter = await db.orm.em.fork().findOneOrFail(Item, { name: 'counter' });
    expect(counter.weight).toBe(20 * COUNT);
  });
});
