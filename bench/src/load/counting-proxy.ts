import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

/** What has gone through a proxy. */
export interface Traffic {
  /** Statements that PostgreSQL was asked to run, or commands for Redis. */
  readonly requests: number;
  /** How often a client sent something after the server had had its say, i.e. waited for the network. */
  readonly roundTrips: number;
}

/** A server's stand-in that counts what clients send. Timed slices don't go through it. */
export interface CountingProxy extends AsyncDisposable {
  readonly url: string;
  /** What has gone through since the last time. */
  take(): Traffic;
}

/** Counts in the bytes of one connection; a request may be cut in two anywhere. */
type Counter = (chunk: Buffer) => number;

export async function startCountingProxy(url: string): Promise<CountingProxy> {
  const target = new URL(url);
  const isPostgres = target.protocol.startsWith('postgres');
  const sockets = new Set<Socket>();
  let requests = 0;
  let roundTrips = 0;
  const server = createServer((client) => {
    const upstream = connect(Number(target.port), target.hostname);
    const count = isPostgres ? postgresCounter() : redisCounter();
    let serverSpoke = true;
    client.on('data', (chunk) => {
      const seen = count(chunk);
      requests += seen;
      if (serverSpoke && seen > 0) roundTrips += 1;
      if (seen > 0) serverSpoke = false;
    });
    upstream.on('data', () => (serverSpoke = true));
    client.pipe(upstream).pipe(client);
    for (const socket of [client, upstream]) {
      socket.setNoDelay(true);
      sockets.add(socket);
      socket.on('error', () => socket.destroy());
      socket.on('close', () => {
        sockets.delete(socket);
        (socket === client ? upstream : client).destroy();
      });
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const proxied = new URL(url);
  proxied.host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url: proxied.href,
    take: () => {
      const traffic = { requests, roundTrips };
      requests = 0;
      roundTrips = 0;
      return traffic;
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

/** Query (`Q`) and Execute (`E`) messages; the first message of a connection has no type byte. */
export function postgresCounter(): Counter {
  let pending = Buffer.alloc(0);
  let started = false;
  return (chunk) => {
    pending = Buffer.concat([pending, chunk]);
    let count = 0;
    for (;;) {
      const head = started ? 1 : 0;
      if (pending.length < head + 4) return count;
      const end = head + pending.readUInt32BE(head);
      if (pending.length < end) return count;
      if (started && (pending[0] === 0x51 || pending[0] === 0x45)) count += 1;
      // after a request for TLS or for a cancellation comes another message without a type
      started ||= pending.readUInt32BE(4) >> 16 === 3;
      pending = pending.subarray(end);
    }
  };
}

/** Commands: arrays of bulk strings. */
export function redisCounter(): Counter {
  let pending = Buffer.alloc(0);
  let bulks = 0;
  return (chunk) => {
    pending = Buffer.concat([pending, chunk]);
    let count = 0;
    for (;;) {
      const end = pending.indexOf('\r\n');
      if (end < 0) return count;
      const length = Number(pending.toString('latin1', 1, end));
      if (bulks === 0) {
        bulks = length;
        pending = pending.subarray(end + 2);
        continue;
      }
      if (pending.length < end + 2 + length + 2) return count;
      pending = pending.subarray(end + 2 + length + 2);
      bulks -= 1;
      if (bulks === 0) count += 1;
    }
  };
}
