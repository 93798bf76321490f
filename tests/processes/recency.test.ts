import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { TcpProxy } from '../harness/tcp-proxy.js';
import { runChecker } from './recency/checker.js';
import { faultKinds, type FaultKind } from './recency/faults.js';
import { Judge } from './recency/judge.js';
import { dueAfter, MAKE_UP_US } from './recency/make-up.js';
import { defaultOptions, type CheckerOptions } from './recency/options.js';
import type { CommitEvent, ReadEvent } from './recency/protocol.js';
import { CheckedServers } from './recency/servers.js';
import { print, problemsOf } from './recency/report.js';

/** `CHECKER_SECONDS=60 npm test -- recency` runs each seed for longer; `CHECKER_SEEDS=7,8` runs others. */
const SECONDS = Number(process.env['CHECKER_SECONDS'] ?? 5);
const SEEDS = (process.env['CHECKER_SEEDS'] ?? '1').split(',').map(Number);
/** Most of it is for busy machines. */
const TIME_LIMIT = SECONDS * 1_000 + 300_000;

const small: CheckerOptions = { ...defaultOptions, seconds: SECONDS, readers: 3, writers: 2 };
const ofTheNetwork = faultKinds.filter((kind) => /connection (cut|held|slow|reset|stranded)/.test(kind));

let servers: CheckedServers;

beforeAll(async () => {
  servers = await CheckedServers.start();
});
afterAll(() => servers[Symbol.asyncDispose]());

describe('read-write', () => {
  it.each(SEEDS)(
    'has no stale read whatever fails, seed %i',
    async (seed) => {
      const report = await runChecker({ ...small, seed }, servers);
      // the report says which read, and what led to it
      expect(problemsOf(report).length === 0 ? '' : print(report)).toBe('');
      expect(report.servedBy['store']).toBeGreaterThanOrEqual(10);
      expect(report.writes['committed']).toBeGreaterThanOrEqual(5);
      expect(Object.keys(report.faults).length).toBeGreaterThanOrEqual(4);
    },
    TIME_LIMIT,
  );

  it(
    "has no stale read beyond what 'bypass' allows when the network fails",
    async () => {
      const faults: FaultKind[] = ofTheNetwork;
      const report = await runChecker({ ...small, seed: SEEDS[0]!, onStoreFailure: 'bypass', faults }, servers);
      expect(problemsOf(report).length === 0 ? '' : print(report)).toBe('');
      expect(report.servedBy['store']).toBeGreaterThanOrEqual(10);
    },
    TIME_LIMIT,
  );
});

describe('nonstrict-read-write', () => {
  it.each(SEEDS)(
    'has no read that misses a commit for longer than maxStaleness whatever fails, seed %i',
    async (seed) => {
      const nonstrict = { ...small, strategy: 'nonstrict-read-write', onStoreFailure: 'bypass', seed } as const;
      const report = await runChecker(nonstrict, servers);
      expect(problemsOf(report).length === 0 ? '' : print(report)).toBe('');
      expect(report.servedBy['near-cache']).toBeGreaterThanOrEqual(10);
      expect(report.writes['committed']).toBeGreaterThanOrEqual(5);
      expect(Object.keys(report.faults).length).toBeGreaterThanOrEqual(4);
    },
    TIME_LIMIT,
  );
});

describe('the checker', () => {
  it.each([
    ['no-locks', 'read-write'],
    ['no-leases', 'read-write'],
    ['deaf', 'nonstrict-read-write'],
  ] as const)(
    'finds stale reads of a cache with %s in a %s region',
    async (broken, strategy) => {
      const report = await runChecker(
        { ...small, seconds: 120, seed: 1, faults: [], strategy, broken, stopWhenStale: true },
        servers,
      );
      expect(report.stale.length).toBeGreaterThan(0);
      expect(report.traces).toContainEqual(
        expect.stringMatching(/^stale: reader \d read row-\d .*\n.*acknowledged row-\d v\d+/s),
      );
      expect(problemsOf(report)).toContainEqual(expect.stringMatching(/^\d+ stale reads/));
    },
    TIME_LIMIT,
  );
});

describe('a write that the store could not be told of', () => {
  it('is overdue 2 s later, or 2 s after the end of an outage that began before', () => {
    expect(dueAfter(100, [], [])).toBe(100 + MAKE_UP_US);
    expect(dueAfter(100, [{ from: 50, to: 5_000_000 }], [])).toBe(5_000_000 + MAKE_UP_US);
    expect(dueAfter(100, [{ from: 101 + MAKE_UP_US, to: 9_000_000 }], [])).toBe(100 + MAKE_UP_US);
    expect(dueAfter(100, [{ from: 50, to: 99 }], [])).toBe(100 + MAKE_UP_US);
  });

  it('has as much more time as the machine has given its process no turn', () => {
    expect(dueAfter(100, [], [{ from: 1_000, to: 61_000 }])).toBe(100 + MAKE_UP_US + 60_000);
    expect(dueAfter(1_000, [], [{ from: 0, to: 61_000 }])).toBe(1_000 + MAKE_UP_US + 60_000);
    // not twice for a stall within an outage
    const outage = { from: 2_000, to: 1_000_000 };
    expect(dueAfter(1_000, [outage], [{ from: 3_000, to: 1_000_100 }])).toBe(1_000_000 + MAKE_UP_US + 100);
    expect(dueAfter(1_000, [], [{ from: 9_000_000, to: 9_900_000 }])).toBe(1_000 + MAKE_UP_US);
  });
});

describe('Judge', () => {
  const writer = { name: 'writer', dueAfter: (at: number) => at + 2_000 };
  const reader = { name: 'reader', dueAfter: () => 0 };
  const read = (version: number, start: number): ReadEvent => {
    return { kind: 'read', row: 'row-0', id: 1, version, start, end: start + 1, how: 'name', servedBy: 'store' };
  };
  const commit = (version: number, at: number, released = true): CommitEvent => {
    return { kind: 'committed', row: 'row-0', id: 1, version, begun: at - 1, at, how: 'flush', released };
  };
  const judge = (toleranceMs: number, ...events: (ReadEvent | CommitEvent)[]): Record<string, number> => {
    const judged = new Judge(toleranceMs);
    for (const event of events) judged.add(event, event.kind === 'read' ? reader : writer);
    judged.settle(Infinity);
    const { stale, behind, late, stepsBack } = judged;
    return { stale: stale.length, behind: behind.length, late: late.length, stepsBack: stepsBack.length };
  };
  const fine = { stale: 0, behind: 0, late: 0, stepsBack: 0 };

  it('calls a read stale only if it started after the acknowledgement of a newer version', () => {
    expect(judge(0, commit(2, 100), read(1, 99))).toEqual(fine);
    expect(judge(0, commit(2, 100), read(1, 100))).toEqual({ ...fine, stale: 1 });
    expect(judge(0, commit(2, 100), commit(3, 200), read(2, 150), read(3, 200))).toEqual(fine);
  });

  it('does not depend on the order in which events arrive', () => {
    expect(judge(0, read(2, 250), commit(3, 200), commit(2, 100))).toEqual({ ...fine, stale: 1 });
    expect(judge(0, commit(3, 90), read(2, 95), commit(2, 100))).toEqual({ ...fine, stale: 1 });
  });

  it('allows what a strategy allows, and no more', () => {
    expect(judge(1, commit(2, 100), read(1, 99))).toEqual(fine);
    expect(judge(1, commit(2, 100), read(1, 1_099))).toEqual({ ...fine, behind: 1 });
    expect(judge(1, commit(2, 100), read(1, 1_100))).toEqual({ ...fine, stale: 1 });
  });

  it('calls a read late as long as the store may still be told, and stale after', () => {
    expect(judge(0, commit(2, 100, false), read(1, 2_099))).toEqual({ ...fine, late: 1 });
    expect(judge(0, commit(2, 100, false), read(1, 2_100))).toEqual({ ...fine, stale: 1 });
  });

  it('sees a step back from what another read has seen', () => {
    expect(judge(0, read(2, 100), read(1, 101))).toEqual({ ...fine, stepsBack: 1 });
    expect(judge(0, read(2, 100), read(1, 100))).toEqual(fine);
  });
});

describe('TcpProxy', () => {
  let onTestEnd: () => void = () => undefined;
  afterEach(() => onTestEnd());

  it('passes, holds, cuts, strands and heals connections', async () => {
    const server = createServer((socket) => socket.pipe(socket).on('error', () => undefined));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestEnd = () => server.close();
    const { port } = server.address() as { port: number };
    await using proxy = await TcpProxy.start(`redis://127.0.0.1:${port}`);
    const open = async () => {
      const { port: own } = new URL(proxy.through('redis://127.0.0.1:1'));
      const socket = connect(Number(own), '127.0.0.1');
      socket.on('error', () => undefined);
      await once(socket, 'connect');
      return socket;
    };
    type Sockets = Awaited<ReturnType<typeof open>>;
    const next = async (socket: Sockets): Promise<string> => String((await once(socket, 'data'))[0]);
    const echo = (socket: Sockets, text: string): Promise<string> => {
      socket.write(text);
      return next(socket);
    };
    const nothing = (answer: Promise<string>): Promise<string> => Promise.race([answer, sleep(100, 'nothing')]);

    const first = await open();
    await expect(echo(first, 'a')).resolves.toBe('a');
    proxy.set({ kind: 'held' });
    const held = echo(first, 'b');
    await expect(nothing(held)).resolves.toBe('nothing');
    proxy.open();
    await expect(held).resolves.toBe('b');
    proxy.set({ kind: 'slow', delayMs: 30_000 });
    const slow = echo(first, 'c');
    await expect(nothing(slow)).resolves.toBe('nothing');
    proxy.open();
    await expect(slow).resolves.toBe('c');
    await expect(echo(first, 'd')).resolves.toBe('d');

    proxy.set({ kind: 'stranded' });
    proxy.open();
    await expect(nothing(echo(first, 'e'))).resolves.toBe('nothing');
    const second = await open();
    await expect(echo(second, 'f')).resolves.toBe('f');

    const closed = new Promise((resolve) => second.once('close', resolve));
    proxy.set({ kind: 'cut' });
    await closed;
    proxy.open();
    const third = await open();
    await expect(echo(third, 'g')).resolves.toBe('g');
    first.destroy();
  });
});
