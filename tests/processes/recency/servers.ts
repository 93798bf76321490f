import { Redis } from 'ioredis';
import { Client } from 'pg';
import { startServers, type RunningServers } from '../../harness/servers.js';
import { schemaSql } from './row.js';

/** The servers of one run, which only it uses: a PostgreSQL, and one Redis after the other. */
export class CheckedServers implements AsyncDisposable {
  readonly #postgres: RunningServers;
  readonly #admin: Client;
  #redis: RunningServers;
  #redisAdmin: Redis;
  #next: Promise<RunningServers> | undefined;
  #isNextReady = false;
  #evicted = 0;
  #isRedisBusy = false;

  private constructor(postgres: RunningServers, admin: Client, redis: RunningServers) {
    this.#postgres = postgres;
    this.#admin = admin;
    this.#redis = redis;
    this.#redisAdmin = adminOf(redis);
  }

  static async start(): Promise<CheckedServers> {
    const [postgres, redis] = await Promise.all([startServers({ postgres: true }), startServers({ redis: true })]);
    const admin = new Client(postgres.postgres!.url);
    admin.on('error', () => undefined);
    await admin.connect();
    return new CheckedServers(postgres, admin, redis);
  }

  /** Forgets everything that an earlier run has left. */
  async reset(): Promise<void> {
    await this.#admin.query('drop table if exists checked_row; drop sequence if exists checked_version');
    await this.#admin.query('drop function if exists checked_row_grows, checked_row_commits');
    await this.#admin.query(schemaSql);
    await this.#redisAdmin.flushall();
    this.#evicted = -(await this.#evictedNow());
  }

  get databaseUrl(): string {
    return this.#postgres.postgres!.url;
  }

  get redisUrl(): string {
    return this.#redis.redis!.url;
  }

  /** Does something to the Redis server, unless something else is being done to it; tells whether it was done. */
  async onRedis(work: (redis: Redis) => Promise<void>): Promise<boolean> {
    if (this.#isRedisBusy) return false;
    this.#isRedisBusy = true;
    try {
      await work(this.#redisAdmin);
      return true;
    } finally {
      this.#isRedisBusy = false;
    }
  }

  /** Starts the server that will take the place of the present one. */
  prepareRedis(): void {
    this.#isNextReady = false;
    this.#next = startServers({ redis: true });
    this.#next.then(
      () => (this.#isNextReady = true),
      () => undefined,
    );
  }

  get canReplaceRedis(): boolean {
    return this.#isNextReady;
  }

  /** Kills the present server; `open` puts an empty one in its place. */
  async killRedis(): Promise<{ open: () => Promise<void> }> {
    this.#evicted += await this.#evictedNow();
    this.#redisAdmin.disconnect();
    process.kill(this.#redis.redis!.pid, 'SIGKILL');
    const old = this.#redis;
    return {
      open: async () => {
        this.#redis = await this.#next!;
        this.#redisAdmin = adminOf(this.#redis);
        this.#next = undefined;
        this.#isNextReady = false;
        await old.stop();
      },
    };
  }

  /** Entries that Redis threw out for want of memory. */
  async evicted(): Promise<number> {
    return this.#evicted + (await this.#evictedNow());
  }

  /** What every row really is. */
  async rows(): Promise<{ id: number; version: number }[]> {
    const { rows } = await this.#admin.query<{ id: number; version: number }>('select id, version from checked_row');
    return rows;
  }

  /** Ends connections of one process: those in a transaction, or those whose COMMIT is under way. */
  async terminate(applicationName: string, state: 'in transaction' | 'in commit'): Promise<number> {
    const condition =
      state === 'in transaction' ? `state = 'idle in transaction'` : `state = 'active' and query ilike 'commit%'`;
    const { rowCount } = await this.#admin.query(
      `select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1 and ${condition}`,
      [applicationName],
    );
    return rowCount ?? 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#redisAdmin.disconnect();
    await this.#admin.end();
    const next = await this.#next?.catch(() => undefined);
    await Promise.all([this.#postgres.stop(), this.#redis.stop(), next?.stop()]);
  }

  async #evictedNow(): Promise<number> {
    const statistics = await this.#redisAdmin.info('stats');
    return Number(/evicted_keys:(\d+)/.exec(statistics)?.[1] ?? 0);
  }
}

function adminOf(servers: RunningServers): Redis {
  const client = new Redis(servers.redis!.url);
  client.on('error', () => undefined);
  return client;
}
