/** Sends a list, and gives a result for each item in its order. */
type Send<Item, Result> = (items: readonly Item[]) => Promise<readonly Result[]>;

interface Part<Item, Result> {
  readonly items: readonly Item[];
  readonly resolve: (results: Promise<readonly Result[]> | readonly Result[]) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Makes one operation of those that callers ask for in one turn of the event loop, so that many callers at a time cost
 * one round trip. Nobody waits for company: it is sent when the callbacks that are ready have run. Nobody joins
 * what was sent, either: a read that begins after a write must see it.
 *
 * Each caller fares as if he had sent his part alone: if the whole fails, and there were several, each part is sent again
 * when `isDivisible` says so.
 */
export function gather<Item, Result>(
  send: Send<Item, Result>,
  isDivisible: (error: unknown) => boolean,
): Send<Item, Result> {
  let parts: Part<Item, Result>[] = [];
  const depart = (): void => {
    const leaving = parts;
    parts = [];
    void sendTogether(leaving, send, isDivisible);
  };
  return (items) => {
    const { promise, resolve, reject } = Promise.withResolvers<readonly Result[]>();
    // from a microtask, the next tick comes when no microtask is left
    if (parts.push({ items, resolve, reject }) === 1) queueMicrotask(() => process.nextTick(depart));
    return promise;
  };
}

async function sendTogether<Item, Result>(
  parts: readonly Part<Item, Result>[],
  send: Send<Item, Result>,
  isDivisible: (error: unknown) => boolean,
): Promise<void> {
  const [first] = parts;
  if (parts.length === 1) return first!.resolve(send(first!.items));
  try {
    const results = await send(parts.flatMap(({ items }) => items));
    let at = 0;
    for (const { items, resolve } of parts) resolve(results.slice(at, (at += items.length)));
  } catch (error) {
    for (const { items, resolve, reject } of parts) {
      if (isDivisible(error)) resolve(send(items));
      else reject(error);
    }
  }
}
