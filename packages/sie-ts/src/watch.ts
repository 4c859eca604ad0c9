/** A stream of statuses over a WebSocket, which is opened again when it ends, after the pauses that calls make. */

import { RequestError, SIEConnectionError } from "./errors.js";
import { beforeAnother, type Call, type Transport } from "./exchange.js";
import { errorIn } from "./reply.js";
import { afterFailure, type Retries } from "./retry.js";
import type { StatusMessage } from "./status.js";
import { send } from "./transport.js";
import type { WebSocketClass } from "./websocket.js";

const UPGRADE_REQUIRED = 426;
// Of statuses that nobody has looked at yet, the older ones are of no use.
const MOST_UNREAD = 16;

/** @throws RangeError unless the mode is one that a single server has. */
export function checkMode(mode: string): void {
  if (mode === "auto" || mode === "worker") return;
  const reason = mode === "cluster" ? ": the status of a cluster comes from a gateway" : "";
  throw new RangeError(`mode must be "auto" or "worker", got ${JSON.stringify(mode)}${reason}`);
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
  call: Call<StatusMessage>,
  transport: Transport,
  WebSocket: WebSocketClass,
): AsyncGenerator<StatusMessage, void, undefined> {
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
