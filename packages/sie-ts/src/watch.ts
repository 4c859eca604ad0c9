/** A stream of statuses over a WebSocket, which is opened again when it ends, after the pauses that calls make. */

import { RequestError, SIEConnectionError } from "./errors.js";
import { beforeAnother, type Call, exchange, type Transport } from "./exchange.js";
import { errorIn } from "./reply.js";
import { afterFailure, type Retries } from "./retry.js";
import type { StatusMessage } from "./status.js";
import { send } from "./transport.js";
import type { WatchMode } from "./types.js";
import type { WebSocketClass } from "./websocket.js";

/** `find` says where the stream is, where the caller did not; `stream` is the request for the one of a path. */
export interface Watch {
  readonly path: string | undefined;
  readonly find: Call<string>;
  readonly stream: (path: string) => Call<StatusMessage>;
}

export const CLUSTER_PATH = "/ws/cluster-status";
const PATHS: Readonly<Record<WatchMode, string | undefined>> = {
  auto: undefined,
  worker: "/ws/status",
  cluster: CLUSTER_PATH,
};
const UPGRADE_REQUIRED = 426;
// Of statuses that nobody has looked at yet, the older ones are of no use.
const MOST_UNREAD = 16;

/** Where the stream is; undefined if that is to be found out. @throws RangeError for what is no mode. */
export function pathOf(mode: WatchMode): string | undefined {
  if (!Object.hasOwn(PATHS, mode)) throw new RangeError(`a mode is one of ${Object.keys(PATHS)}, got ${mode}`);
  return PATHS[mode];
}

/** The runtime's own WebSocket, unless the client was given one. @throws TypeError if there is none. */
export function webSocketClass(given: WebSocketClass | undefined): WebSocketClass {
  const found = given ?? (globalThis as { WebSocket?: WebSocketClass }).WebSocket;
  if (found !== undefined) return found;
  throw new TypeError(
    "this runtime has no WebSocket, as Node before 22: give the client one, that of the package ws say, as webSocket",
  );
}

/** Statuses without an end; rejects with what ends them. */
export async function* watching(
  watch: Watch,
  transport: Transport,
  WebSocket: WebSocketClass,
): AsyncGenerator<StatusMessage, void, undefined> {
  const call = watch.stream(watch.path ?? (await found(watch.find, transport)));
  let deadline = performance.now() + call.budgetMs;
  let retries: Retries = {};
  for (;;) {
    const connection = new Connection(WebSocket, call);
    for await (const text of connection.texts()) {
      yield call.parse({ status: 101, headers: new Headers(), content: new TextEncoder().encode(text) });
      retries = {};
      deadline = performance.now() + call.budgetMs;
    }
    call.signal?.throwIfAborted();
    const error = connection.opened ? ended(call) : await whyNot(call, transport);
    const again = afterFailure(error.kind, retries, call.retrying, Math.random());
    await beforeAnother(call, error, again, retries, deadline);
  }
}

async function found(find: Call<string>, transport: Transport): Promise<string> {
  try {
    return await exchange(find, transport);
  } catch (error) {
    if (error instanceof RequestError && error.statusCode === 404) return PATHS.worker as string;
    throw error;
  }
}

/** Why a connection did not open, which no WebSocket says: a plain request may tell. */
async function whyNot(call: Call<unknown>, transport: Transport): Promise<SIEConnectionError> {
  const reply = await send(transport.fetch, call).catch((failure: unknown) => {
    if (failure instanceof SIEConnectionError) return failure;
    throw failure;
  });
  if (reply instanceof SIEConnectionError) return reply;
  if (reply.status === UPGRADE_REQUIRED || reply.status === 429 || reply.status >= 500) return ended(call);
  const { message, code, statusCode } = errorIn(reply, {}, 0, undefined);
  throw new RequestError(`no status stream at ${call.url}: ${message}`, { code, statusCode });
}

function ended({ url }: Call<unknown>): SIEConnectionError {
  return new SIEConnectionError(`GET ${url}: the connection ended`, "connect");
}

/** One connection, from its opening to its end. */
class Connection {
  opened = false;
  readonly #socket: InstanceType<WebSocketClass>;
  readonly #call: Call<unknown>;
  #unread: string[] = [];
  #over = false;
  #wake = () => {};

  constructor(WebSocket: WebSocketClass, call: Call<unknown>) {
    this.#call = call;
    const url = call.url.replace(/^http/, "ws");
    try {
      this.#socket = new WebSocket(url, { headers: call.headers });
    } catch {
      // In a browser it takes no headers.
      this.#socket = new WebSocket(url);
    }
    this.#socket.onopen = () => this.#heard(() => (this.opened = true));
    this.#socket.onmessage = ({ data }) => this.#heard(() => this.#unread.push(String(data)));
    this.#socket.onclose = this.#socket.onerror = () => this.#heard(() => (this.#over = true));
  }

  /** What it says until it ends, has been silent for the timeout, or the call's signal is aborted. */
  async *texts(): AsyncGenerator<string, void, undefined> {
    const { signal, timeoutMs } = this.#call;
    const stop = () => this.#heard(() => (this.#over = true));
    signal?.addEventListener("abort", stop, { once: true });
    try {
      for (;;) {
        for (let text = this.#unread.shift(); text !== undefined; text = this.#unread.shift()) yield text;
        if (this.#over || signal?.aborted) return;
        const timer = setTimeout(stop, timeoutMs);
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        clearTimeout(timer);
      }
    } finally {
      signal?.removeEventListener("abort", stop);
      this.#socket.close();
    }
  }

  #heard(noted: () => void): void {
    noted();
    if (this.#unread.length > MOST_UNREAD) this.#unread.shift();
    this.#wake();
  }
}
