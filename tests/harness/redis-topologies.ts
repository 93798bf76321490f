import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import getPort from 'get-port';
import { Redis } from 'ioredis';

/**
 * Starts a server for each path of a configuration that it reads, prints its id, and ends them all, stopped ones too,
 * when its standard input ends: when the test is done, or its process gone, also after SIGKILL. Servers that ended
 * before stay zombies until then, so no id can belong to somebody else by now.
 */
const KEEPER = `
  while read -r config; do "$0" $config </dev/null >/dev/null 2>&1 & servers="$servers $!"; echo $!; done
  [ -z "$servers" ] || kill -KILL $servers
  wait
  rm -rf "$1"`;

/** Sentinels look after replicas every 10 s, and may need a second look. */
const SETTLED_MS = 60_000;

/** A connection to a server that is killed soon must not keep Jest from exiting. */
const CLIENT = { lazyConnect: true, disconnectTimeout: 50 };

/** One redis-server, or sentinel, that can be killed and started again on the same port with the same data. */
export class RedisNode {
  pid = -1;
  #client: Redis | undefined;

  constructor(
    readonly name: string,
    readonly port: number,
    readonly folder: string,
    private readonly launch: () => Promise<number>,
  ) {}

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** A connection for what a test does behind the library's back. Connects at the first command. */
  get client(): Redis {
    this.#client ??= quiet(new Redis(this.port, '127.0.0.1', { ...CLIENT, retryStrategy: () => 50 }));
    return this.#client;
  }

  async start(): Promise<void> {
    // A server that was killed a moment ago may still hold the port.
    await eventually('the port is free', async () => !(await accepts(this.port)));
    this.pid = await this.launch();
    await eventually(`${this.name} answers`, async () => {
      // It may load its data for long, which is for the test to wait for.
      const options = { ...CLIENT, enableReadyCheck: false, retryStrategy: () => null };
      const probe = quiet(new Redis(this.port, '127.0.0.1', options));
      try {
        await probe.connect();
        // Somebody else's server may have had the port first.
        return (await probe.info('server')).includes(`process_id:${this.pid}`);
      } finally {
        probe.disconnect();
      }
    }).catch(async (cause: unknown) => {
      throw new Error(await readFile(join(this.folder, 'log'), 'utf8').catch(() => 'no log'), { cause });
    });
  }

  signal(signal: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'): void {
    process.kill(this.pid, signal);
  }

  disconnect(): void {
    this.#client?.disconnect();
    this.#client = undefined;
  }
}

/** Redis servers of one test, without persistence unless their settings say otherwise. */
export class RedisServers implements AsyncDisposable {
  readonly nodes: RedisNode[] = [];
  readonly #pids: AsyncIterator<string>;

  private constructor(
    readonly folder: string,
    readonly keeper: ChildProcess,
  ) {
    this.#pids = createInterface(keeper.stdout!)[Symbol.asyncIterator]();
  }

  static async open(): Promise<RedisServers> {
    const binary = ['redis-server', 'valkey-server'].find((name) => spawnSync(name, ['--version']).status === 0);
    if (binary === undefined) {
      throw new Error('These tests need redis-server or valkey-server: install one.');
    }
    const folder = await mkdtemp(join(tmpdir(), 'mikro-orm-plus-redis-'));
    // Detached: Ctrl-C in a terminal goes to the whole process group, and the keeper has to survive it to clean up.
    const keeper = spawn('sh', ['-c', KEEPER, binary, folder], { detached: true, stdio: ['pipe', 'pipe', 'ignore'] });
    return new RedisServers(folder, keeper);
  }

  async add(name: string, settings: Record<string, string> = {}, mode: '' | '--sentinel' = ''): Promise<RedisNode> {
    const folder = join(this.folder, name);
    await mkdir(folder);
    const port = await getPort();
    const lines = Object.entries({
      bind: '127.0.0.1',
      port: String(port),
      dir: folder,
      logfile: join(folder, 'log'),
      ...(mode === '' && { save: '""', appendonly: 'no', 'enable-debug-command': 'yes' }),
      ...settings,
    });
    const config = join(folder, 'conf');
    await writeFile(config, lines.map(([key, value]) => `${key} ${value}\n`).join(''));
    const node = new RedisNode(name, port, folder, async () => {
      this.keeper.stdin!.write(`${config} ${mode}\n`);
      return Number((await this.#pids.next()).value);
    });
    this.nodes.push(node);
    await node.start();
    return node;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const node of this.nodes) node.disconnect();
    // A client whose server dies while the two say goodbye waits for two seconds, and Jest with it.
    await sleep(50);
    const exited = once(this.keeper, 'exit');
    this.keeper.stdin!.end();
    await exited;
  }
}

/** A Redis Cluster of three primaries, and a replica of each if wanted. */
export async function startRedisCluster({ replicas = false } = {}): Promise<RedisCluster> {
  return orClose(await RedisServers.open(), async (servers) => {
    const primaries = await addAll(servers, ['a', 'b', 'c'], clusterSettings);
    const copies = replicas ? await addAll(servers, ['a2', 'b2', 'c2'], clusterSettings) : [];
    for (const [index, node] of servers.nodes.entries()) {
      await node.client.call('CLUSTER', ['SET-CONFIG-EPOCH', String(index + 1)]);
    }
    for (const node of servers.nodes) {
      const busPort = /^cluster-port (\d+)/m.exec(await readFile(join(node.folder, 'conf'), 'utf8'))![1]!;
      await primaries[0]!.client.call('CLUSTER', ['MEET', '127.0.0.1', String(node.port), busPort]);
    }
    const bounds = [0, 5_461, 10_923, 16_384];
    for (const [index, primary] of primaries.entries()) {
      await primary.client.call('CLUSTER', ['ADDSLOTSRANGE', String(bounds[index]), String(bounds[index + 1]! - 1)]);
    }
    const cluster = new RedisCluster(servers, primaries, copies);
    await cluster.settled();
    for (const [index, copy] of copies.entries()) {
      await copy.client.call('CLUSTER', ['REPLICATE', await nodeId(primaries[index]!)]);
      await inSync(copy);
    }
    return cluster;
  });
}

const clusterSettings = async () => ({
  'cluster-enabled': 'yes',
  // Else it is the port plus 10 000, which may be taken, or no port at all.
  'cluster-port': String(await getPort()),
  'cluster-config-file': 'nodes.conf',
  'cluster-node-timeout': '1000',
  'cluster-replica-validity-factor': '0',
  'repl-diskless-sync-delay': '0',
});

export class RedisCluster implements AsyncDisposable {
  constructor(
    readonly servers: RedisServers,
    readonly primaries: RedisNode[],
    readonly replicas: RedisNode[],
  ) {}

  get url(): string {
    return `redis+cluster://${this.primaries.map(({ address }) => address).join(',')}`;
  }

  /** Waits until every node knows every other one, and has a primary for every slot. */
  async settled(): Promise<void> {
    for (const node of this.servers.nodes) {
      await eventually(`${node.name} finds the cluster complete`, async () => {
        const info = String(await node.client.call('CLUSTER', ['INFO']));
        return info.includes('cluster_state:ok') && info.includes(`cluster_known_nodes:${this.servers.nodes.length}`);
      });
    }
  }

  async slotOf(key: string): Promise<number> {
    return Number(await this.primaries[0]!.client.call('CLUSTER', ['KEYSLOT', key]));
  }

  /** The primary, as the cluster began, of a key's slot. */
  async primaryOf(key: string): Promise<RedisNode> {
    return this.primaries[Math.floor((await this.slotOf(key)) / 5_461.5)]!;
  }

  /** Moves a slot with its keys, one key at a time, as `redis-cli --cluster reshard` does. */
  async moveSlot(
    slot: number,
    from: RedisNode,
    to: RedisNode,
    meanwhile = async (): Promise<void> => {},
  ): Promise<void> {
    const [fromId, toId] = [await nodeId(from), await nodeId(to)];
    await to.client.call('CLUSTER', ['SETSLOT', String(slot), 'IMPORTING', fromId]);
    await from.client.call('CLUSTER', ['SETSLOT', String(slot), 'MIGRATING', toId]);
    for (;;) {
      const keys = (await from.client.call('CLUSTER', ['GETKEYSINSLOT', String(slot), '1'])) as string[];
      if (keys.length === 0) break;
      await from.client.call('MIGRATE', ['127.0.0.1', String(to.port), keys[0]!, '0', '5000', 'REPLACE']);
      await meanwhile();
    }
    await meanwhile();
    for (const node of [to, from, ...this.primaries]) {
      await node.client.call('CLUSTER', ['SETSLOT', String(slot), 'NODE', toId]);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.servers[Symbol.asyncDispose]();
  }
}

/** A primary, two replicas and three sentinels, which call the primary `main`. */
export async function startSentinel(): Promise<SentinelSetup> {
  return orClose(await RedisServers.open(), async (servers) => {
    const settings = {
      'repl-diskless-sync-delay': '0',
      // As docs/operations.md recommends: an old primary that comes back after its failover is one for some seconds.
      'min-replicas-to-write': '1',
      'min-replicas-max-lag': '2',
    };
    const primary = await servers.add('primary', settings);
    const replicas = await addAll(servers, ['replica1', 'replica2'], async () => ({
      ...settings,
      replicaof: `127.0.0.1 ${primary.port}`,
    }));
    const watch = {
      'sentinel monitor': `main 127.0.0.1 ${primary.port} 2`,
      'sentinel down-after-milliseconds': 'main 800',
      'sentinel failover-timeout': 'main 3000',
    };
    const sentinels = await addAll(servers, ['sentinel1', 'sentinel2', 'sentinel3'], async () => watch, '--sentinel');
    for (const sentinel of sentinels) {
      await eventually(`${sentinel.name} knows everybody`, async () => {
        const reply = (await sentinel.client.call('SENTINEL', ['MASTER', 'main'])) as Record<string, string> | string[];
        const value = (name: string) => (Array.isArray(reply) ? reply[reply.indexOf(name) + 1] : reply[name]);
        return value('num-slaves') === '2' && value('num-other-sentinels') === '2';
      });
    }
    await Promise.all(replicas.map(inSync));
    const url = `redis+sentinel://${sentinels.map(({ address }) => address).join(',')}/main`;
    return { servers, primary, replicas, sentinels, url };
  });
}

export interface SentinelSetup {
  readonly servers: RedisServers;
  readonly primary: RedisNode;
  readonly replicas: RedisNode[];
  readonly sentinels: RedisNode[];
  readonly url: string;
}

async function addAll(
  servers: RedisServers,
  names: string[],
  settings: () => Promise<Record<string, string>>,
  mode?: '--sentinel',
): Promise<RedisNode[]> {
  const nodes: RedisNode[] = [];
  for (const name of names) nodes.push(await servers.add(name, await settings(), mode));
  return nodes;
}

/** Ends the servers when what is made of them can't be made: nobody else could. */
async function orClose<T>(servers: RedisServers, make: (servers: RedisServers) => Promise<T>): Promise<T> {
  try {
    return await make(servers);
  } catch (error) {
    await servers[Symbol.asyncDispose]();
    throw error;
  }
}

function inSync(replica: RedisNode): Promise<void> {
  return eventually(`${replica.name} is in sync`, async () =>
    (await replica.client.info('replication')).includes('master_link_status:up'),
  );
}

/** Tries until `check` says yes. What it throws counts as no. */
export async function eventually(what: string, check: () => Promise<boolean>, withinMs = SETTLED_MS): Promise<void> {
  const deadline = performance.now() + withinMs;
  let cause: unknown;
  while (performance.now() < deadline) {
    try {
      if (await check()) return;
    } catch (error) {
      cause = error;
    }
    await sleep(25);
  }
  throw new Error(`Not within ${withinMs} ms: ${what}`, { cause });
}

async function accepts(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

function nodeId(node: RedisNode): Promise<string> {
  return node.client.call('CLUSTER', ['MYID']) as Promise<string>;
}

function quiet(client: Redis): Redis {
  client.on('error', () => {});
  return client;
}
