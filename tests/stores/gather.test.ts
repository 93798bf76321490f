import { gather } from '../../src/stores/gather.js';

const never = (): boolean => false;

describe('gathered operations', () => {
  it('of one turn are sent together, and each caller gets his part', async () => {
    const sent: (readonly number[])[] = [];
    const double = gather(async (items: readonly number[]) => {
      sent.push(items);
      return items.map((item) => item * 2);
    }, never);
    // some microtasks apart, as calls are that have come equally far
    const later = Promise.resolve().then(async () => double([3, 4]));
    await expect(Promise.all([double([1]), double([]), later, double([2])])).resolves.toEqual([[2], [], [6, 8], [4]]);
    expect(sent).toEqual([[1, 2, 3, 4]]);
  });

  it('are not joined once they are sent', async () => {
    const sent: (readonly string[])[] = [];
    const { promise: gate, resolve: open } = Promise.withResolvers<void>();
    const read = gather(async (items: readonly string[]) => {
      sent.push(items);
      await gate;
      return items;
    }, never);
    const first = read(['a']);
    await new Promise((resolve) => setImmediate(resolve));
    const second = read(['b']);
    await new Promise((resolve) => setImmediate(resolve));
    expect(sent).toEqual([['a'], ['b']]);
    open();
    await expect(Promise.all([first, second])).resolves.toEqual([['a'], ['b']]);
  });

  it('fail for everybody when the whole has failed', async () => {
    const error = new Error('down');
    const fail = gather(() => Promise.reject(error), never);
    const results = await Promise.allSettled([fail([1]), fail([2])]);
    expect(results).toEqual([
      { status: 'rejected', reason: error },
      { status: 'rejected', reason: error },
    ]);
  });

  it('are sent again one by one when one may be at fault', async () => {
    const odd = gather(
      async (items: readonly number[]) => {
        if (items.includes(2)) throw new Error('even');
        return items;
      },
      () => true,
    );
    const results = await Promise.allSettled([odd([1]), odd([2]), odd([3])]);
    expect(results).toMatchObject([
      { value: [1] },
      { status: 'rejected', reason: { message: 'even' } },
      { value: [3] },
    ]);
  });
});
