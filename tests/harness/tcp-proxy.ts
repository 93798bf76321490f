import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/** How a proxy treats what passes through it. */
export type LinkState =
  | { readonly kind: 'open' }
  /** Connections are reset, and new ones refused. */
  | { readonly kind: 'cut' }
  /** Nothing arrives in either direction; it arrives late, in order, when the link opens again (as TCP resends it). */
  | { readonly kind: 'held' }
  /** Connections of before are dead without knowing it, for good; new ones work (a router lost its table). */
  | { readonly kind: 'stranded' }
  /** Everything arrives this much later. */
  | { readonly kind: 'slow'; readonly delayMs: number };

/** Looks at what a client sends; `undefined` passes it on. */
export type Interceptor = (chunk: Buffer, link: Link) => void;

/** One connection through the proxy. */
export interface Link {
  /** Drops everything that the server answers from here on, then resets the client once the server has said something. */
  loseReply(): void;
  /** Holds everything that the server answers from here on for this long. */
  delayReplies(delayMs: number): void;
}

const OPEN: LinkState = { kind: 'open' };

/** A TCP proxy on a free port of this machine, for faults between a process and a server. */
export class TcpProxy implements AsyncDisposable {
  /** Sees every chunk that a client sends, before it is passed on. */
  onClientData: Interceptor | undefined;
  /** Sees every chunk that the server answers, when it arrives at the proxy. */
  onServerData: Interceptor | undefined;
  readonly #server: Server;
  readonly #pairs = new Set<Pair>();
  #target: { host: string; port: number };
  #state: LinkState = OPEN;

  private constructor(server: Server, target: { host: string; port: number }) {
    this.#server = server;
    this.#target = target;
    server.on('connection', (client) => this.#accept(client));
  }

  /** @param url of the server behind the proxy; only host and port count */
  static async start(url: string): Promise<TcpProxy> {
    const server = createServer({ noDelay: true, pauseOnConnect: true });
    const proxy = new TcpProxy(server, addressOf(url));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return proxy;
  }

  /** `url` with the proxy's host and port. */
  through(url: string): string {
    const { port } = this.#server.address() as AddressInfo;
    const changed = new URL(url);
    changed.hostname = '127.0.0.1';
    changed.port = String(port);
    return changed.href;
  }

  /** New connections go to another server from now on; those that are open stay. */
  retarget(url: string): void {
    this.#target = addressOf(url);
  }

  get state(): LinkState {
    return this.#state;
  }

  set(state: LinkState): void {
    this.#state = state;
    if (state.kind === 'cut') this.reset();
    for (const pair of this.#pairs) {
      if (state.kind === 'stranded') pair.isDead = true;
      pair.flow(state);
    }
  }

  /** Everything passes at once again. */
  open(): void {
    this.set(OPEN);
  }

  /** Resets all connections; new ones are welcome. */
  reset(): void {
    for (const pair of this.#pairs) pair.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.reset();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #accept(client: Socket): void {
    if (this.#state.kind === 'cut') {
      client.on('error', () => undefined);
      client.resetAndDestroy();
      return;
    }
    const pair = new Pair(client, connect({ ...this.#target, noDelay: true }), {
      client: (chunk, link) => this.onClientData?.(chunk, link),
      server: (chunk, link) => this.onServerData?.(chunk, link),
    });
    this.#pairs.add(pair);
    pair.flow(this.#state.kind === 'stranded' ? OPEN : this.#state);
    pair.whenClosed(() => this.#pairs.delete(pair));
  }
}

/** A client's connection and the one to the server that belongs to it. */
class Pair implements Link {
  isDead = false;
  readonly #client: Socket;
  readonly #server: Socket;
  readonly #toServer: Pipe;
  readonly #toClient: Pipe;
  #losesReply = false;

  constructor(client: Socket, server: Socket, intercept: Record<'client' | 'server', Interceptor>) {
    this.#client = client;
    this.#server = server;
    this.#toServer = new Pipe(server);
    this.#toClient = new Pipe(client);
    client.on('data', (chunk) => {
      intercept.client(chunk, this);
      if (!this.isDead) this.#toServer.send(chunk);
    });
    server.on('data', (chunk) => {
      intercept.server(chunk, this);
      if (this.#losesReply) this.destroy();
      else if (!this.isDead) this.#toClient.send(chunk);
    });
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      socket.on('error', () => undefined);
      // what a stranded connection's other end does isn't seen any more
      socket.on('close', () => {
        if (!this.isDead || socket === client) other.destroy();
      });
      socket.on('end', () => {
        if (!this.isDead) other.end();
      });
    }
    client.resume();
  }

  flow(state: LinkState): void {
    const delayMs = state.kind === 'held' ? Infinity : state.kind === 'slow' ? state.delayMs : 0;
    this.#toServer.delay(delayMs);
    this.#toClient.delay(delayMs);
  }

  loseReply(): void {
    this.#losesReply = true;
  }

  delayReplies(delayMs: number): void {
    this.#toClient.delay(Infinity);
    setTimeout(() => this.#toClient.delay(0), delayMs).unref();
  }

  destroy(): void {
    this.#client.resetAndDestroy();
    this.#server.destroy();
  }

  whenClosed(callback: () => void): void {
    this.#client.on('close', callback);
  }
}

/** One direction of a connection: keeps the order of what it delays. */
class Pipe {
  readonly #target: Socket;
  readonly #queue: { chunk: Buffer; dueMs: number }[] = [];
  #delayMs = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(target: Socket) {
    this.#target = target;
    target.on('close', () => clearTimeout(this.#timer));
  }

  send(chunk: Buffer): void {
    if (this.#delayMs === 0 && this.#queue.length === 0) {
      this.#target.write(chunk);
      return;
    }
    this.#queue.push({ chunk, dueMs: performance.now() + this.#delayMs });
    this.#deliver();
  }

  delay(delayMs: number): void {
    this.#delayMs = delayMs;
    const dueMs = performance.now() + delayMs;
    for (const item of this.#queue) {
      if (delayMs === Infinity || item.dueMs > dueMs) item.dueMs = dueMs;
    }
    this.#deliver();
  }

  #deliver(): void {
    clearTimeout(this.#timer);
    for (let [first] = this.#queue; first && first.dueMs <= performance.now(); [first] = this.#queue) {
      this.#queue.shift();
      this.#target.write(first.chunk);
    }
    const [next] = this.#queue;
    if (!next || next.dueMs === Infinity || this.#target.destroyed) return;
    this.#timer = setTimeout(() => this.#deliver(), Math.max(1, next.dueMs - performance.now()));
  }
}

function addressOf(url: string): { host: string; port: number } {
  const { hostname, port } = new URL(url);
  return { host: hostname, port: Number(port) };
}
