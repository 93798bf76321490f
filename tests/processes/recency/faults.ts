import { setTimeout as sleep } from 'node:timers/promises';
import type { LinkState } from '../../harness/tcp-proxy.js';
import type { Member } from './crew.js';
import { commitPoints, readPoints, type FaultPoint, type WorkerEvent } from './protocol.js';
import type { Random } from './random.js';
import type { CheckedServers } from './servers.js';

/** What a fault can reach. */
export interface World {
  readonly members: readonly Member[];
  readonly servers: CheckedServers;
  readonly random: Random;
  /** Life of a soft lock in milliseconds. */
  readonly softLockTtl: number;
  /** Notes for the trace what is being done. */
  tell(text: string): void;
  /** Whether a run that lasts this much longer is still going on. */
  hasTime(ms: number): boolean;
  /** The next trap that a member falls into; `undefined` if it doesn't within `ms`. */
  nextTrap(member: Member, ms: number): Promise<Extract<WorkerEvent, { kind: 'trap' }> | undefined>;
}

/** Does one fault and heals it again; `false` if there was nobody to do it to. */
type Fault = (world: World) => Promise<boolean>;

const TRAP_MS = 1_500;
const STRANDED_MS = 7_000;

/** Every kind of fault, with its weight. A seed determines which come, when, and to whom. */
const kinds = {
  'kill a writer in its commit': [10, (world) => trap(world, 'writer', world.random.pick(commitPoints), 'kill')],
  'kill a reader in a fill': [3, (world) => trap(world, 'reader', world.random.pick(readPoints), 'kill')],
  'kill at any time': [2, (world) => onMember(world, undefined, async (member) => member.signal('SIGKILL'))],
  'stop a writer in its commit': [8, (world) => trap(world, 'writer', world.random.pick(commitPoints), 'stop')],
  'stop a reader in a fill': [8, (world) => trap(world, 'reader', world.random.pick(readPoints), 'stop')],
  'stop at any time': [4, stopAnywhere],
  'delay in a commit': [8, (world) => trap(world, 'writer', world.random.pick(commitPoints), 'delay')],
  'delay in a fill': [8, (world) => trap(world, 'reader', world.random.pick(readPoints), 'delay')],
  'Redis FLUSHALL': [8, flushAll],
  'Redis restart': [4, restartRedis],
  'Redis eviction': [5, evictUnderPressure],
  'Redis connection cut': [6, (world) => link(world, { kind: 'cut' }, 100, 1_500)],
  'Redis connection held': [6, (world) => link(world, { kind: 'held' }, 50, 1_500)],
  'Redis connection stranded': [2, strandRedis],
  'Redis connection slow': [
    3,
    (world) => link(world, { kind: 'slow', delayMs: world.random.whole(5, 150) }, 300, 1_000),
  ],
  'Redis connection reset': [5, resetRedis],
  'backend terminated before COMMIT': [5, (world) => terminate(world, 'in transaction')],
  'backend terminated during COMMIT': [5, (world) => terminate(world, 'in commit')],
  'COMMIT acknowledgement lost': [6, loseAcknowledgement],
  'COMMIT acknowledgement late': [3, delayAcknowledgement],
} as const satisfies Record<string, readonly [weight: number, fault: Fault]>;

export type FaultKind = keyof typeof kinds;
export const faultKinds = Object.keys(kinds) as FaultKind[];

export function weightOf(kind: FaultKind): number {
  return kinds[kind][0];
}

export function inject(kind: FaultKind, world: World): Promise<boolean> {
  return kinds[kind][1](world);
}

async function onMember(
  world: World,
  role: Member['role'] | undefined,
  work: (member: Member) => Promise<unknown>,
): Promise<boolean> {
  const free = world.members.filter((member) => member.isFree && (!role || member.role === role));
  if (free.length === 0) return false;
  const member = world.random.pick(free);
  member.isBusy = true;
  try {
    return (await work(member)) !== false;
  } finally {
    member.isBusy = false;
  }
}

function trap(
  world: World,
  role: Member['role'],
  point: FaultPoint,
  kind: 'kill' | 'stop' | 'delay',
): Promise<boolean> {
  // shorter and longer than the soft lock
  const ms = world.random.whole(20, world.softLockTtl * 2.5);
  return onMember(world, role, async (member) => {
    member.order({ kind: 'arm', point, trap: kind === 'kill' ? { kind } : { kind, ms } });
    const reached = await world.nextTrap(member, TRAP_MS);
    if (!reached) {
      member.order({ kind: 'disarm' });
      return false;
    }
    if (kind === 'kill') return true;
    await (kind === 'stop' ? member.resumeAfter(ms) : member.during(() => sleep(ms)));
    return true;
  });
}

function stopAnywhere(world: World): Promise<boolean> {
  const ms = world.random.whole(20, world.softLockTtl * 2.5);
  return onMember(world, undefined, async (member) => {
    world.tell(`SIGSTOP of ${member.name} for ${ms} ms`);
    member.signal('SIGSTOP');
    await member.during(() => sleep(ms));
    member.signal('SIGCONT');
  });
}

function flushAll(world: World): Promise<boolean> {
  return world.servers.onRedis(async (redis) => {
    world.tell('FLUSHALL');
    await redis.flushall();
  });
}

async function restartRedis(world: World): Promise<boolean> {
  const { servers, members, random } = world;
  if (!servers.canReplaceRedis) return false;
  return servers.onRedis(async () => {
    const replaced = replace();
    await Promise.all(members.map((member) => member.during(() => replaced)));
    if (world.hasTime(8_000)) servers.prepareRedis();
  });

  async function replace(): Promise<void> {
    world.tell('Redis is killed');
    const next = await servers.killRedis();
    await sleep(random.whole(0, 1_200));
    await next.open();
    for (const member of members) member.redis.retarget(servers.redisUrl);
    world.tell('an empty Redis is back');
  }
}

/** Lets Redis throw out other keys for the ballast: sequences, leases, locks and rows. */
function evictUnderPressure(world: World): Promise<boolean> {
  const policy = world.random.pick(['allkeys-lru', 'allkeys-random']);
  const rounds = world.random.whole(5, 15);
  return world.servers.onRedis(async (redis) => {
    world.tell(`eviction, ${policy}`);
    try {
      const used = Number(/used_memory:(\d+)/.exec(await redis.info('memory'))![1]);
      await redis.config('SET', 'maxmemory-policy', policy);
      await redis.config('SET', 'maxmemory', String(used + 200_000));
      for (let round = 0; round < rounds; round++) {
        const pipeline = redis.pipeline();
        for (let index = 0; index < 40; index++) {
          pipeline.set(`ballast:${round % 3}:${index}`, 'x'.repeat(8_000), 'EX', 60);
        }
        await pipeline.exec();
        await sleep(60);
      }
    } finally {
      await redis.config('SET', 'maxmemory', '0');
      const ballast = await redis.keys('ballast:*');
      if (ballast.length > 0) await redis.unlink(...ballast);
    }
  });
}

function link(world: World, state: LinkState, lowMs: number, highMs: number): Promise<boolean> {
  const ms = world.random.whole(lowMs, highMs);
  return onMember(world, undefined, async (member) => {
    world.tell(`${member.name}: Redis connection ${state.kind} for ${ms} ms`);
    await member.during(async () => {
      member.redis.set(state);
      await sleep(ms);
      member.redis.open();
    });
    world.tell(`${member.name}: Redis connection open`);
  });
}

/** The writer is left alone afterwards for longer than it may take to make up for it. */
function strandRedis(world: World): Promise<boolean> {
  return onMember(world, 'writer', async (member) => {
    world.tell(`${member.name}: Redis connection stranded`);
    await member.during(async () => member.redis.set({ kind: 'stranded' }));
    member.redis.open();
    await sleep(STRANDED_MS);
  });
}

function resetRedis(world: World): Promise<boolean> {
  return onMember(world, undefined, async (member) => {
    world.tell(`${member.name}: Redis connection reset`);
    await member.during(async () => member.redis.reset());
  });
}

function terminate(world: World, state: 'in transaction' | 'in commit'): Promise<boolean> {
  const slowCommitMs = state === 'in commit' ? 150 : 0;
  return onMember(world, 'writer', async (member) => {
    member.order({ kind: 'arm', point: 'commit:before', trap: { kind: 'ask' }, slowCommitMs });
    const reached = await world.nextTrap(member, TRAP_MS);
    if (!reached) {
      member.order({ kind: 'disarm' });
      return false;
    }
    if (state === 'in commit') {
      member.order({ kind: 'go' });
      await sleep(world.random.whole(10, 100));
    }
    const ended = await world.servers.terminate(member.incarnation.name, state);
    world.tell(`${member.name}: ${ended} backends terminated ${state}`);
    member.order({ kind: 'go' });
    return ended > 0;
  });
}

function loseAcknowledgement(world: World): Promise<boolean> {
  return onNextCommit(world, (member) => {
    world.tell(`${member.name}: the acknowledgement of COMMIT is lost`);
    return { loses: true };
  });
}

function delayAcknowledgement(world: World): Promise<boolean> {
  const ms = world.random.whole(20, world.softLockTtl * 2);
  return onNextCommit(world, (member) => {
    world.tell(`${member.name}: the acknowledgement of COMMIT is ${ms} ms late`);
    return { ms };
  });
}

function onNextCommit(world: World, decide: (member: Member) => { loses: true } | { ms: number }): Promise<boolean> {
  return onMember(world, 'writer', async (member) => {
    const met = Promise.withResolvers<true>();
    member.postgres.onClientData = (chunk, connection) => {
      // the simple protocol's message: type, length, text, zero
      if (chunk.subarray(5).toString('latin1').toLowerCase() !== 'commit\0') return;
      member.postgres.onClientData = undefined;
      const decided = decide(member);
      if ('loses' in decided) connection.loseReply();
      else connection.delayReplies(decided.ms);
      met.resolve(true);
    };
    const done = await Promise.race([met.promise, sleep(TRAP_MS, false, { ref: false })]);
    member.postgres.onClientData = undefined;
    return done;
  });
}
