/** The status stream over a WebSocket, which is reopened when it ends, after the pauses of any other call. */

import { RequestError, SIEConnectionError } from "../errors.js";
import { type Call, type Transport, waitToRetry } from "../http/exchange.js";
import { afterFailure, type Retries } from "../http/retry.js";
import { send } from "../http/transport.js";
import { errorIn } from "../messages/reply.js";
import type { StatusMessage } from "../messages/status.js";
import type { WebSocketClass } from "../websocket.js";

const UPGRADE_REQUIRED = 426;
// Older statuses are dropped if the caller does not keep up.
const MAX_UNREAD = 16;
// The subprotocol that the server chooses, and the prefix of the one that carries a key.
const STATUS = "sie.status";
const KEY = "sie.key.";

/** @throws RangeError unless the mode is one that a single server has. */
export function checkMode(mode: string): void {
  if (mode === "auto" || mode === "worker") return;
  const reason = mode === "cluster" ? ": the status of a cluster comes from a gateway" : "";
  throw new RangeError(`mode must be "auto" or "worker", got ${JSON.stringify(mode)}${reason}`);
}

/** Returns the client's WebSocket class, or else the runtime's. @throws TypeError if there is none. */
export function webSocketClass(given: WebSocketClass | undefined): WebSocketClass {
  const found = given ?? (globalThis as { WebSocket?: WebSocketClass }).WebSocket;
  if (found !== undefined) return found;
  throw new TypeError(
    "this runtime has no WebSocket (Node has one from version 22 on): pass one as webSocket, e.g. that of the package ws",
  );
}

/** Yields statuses forever; rejects with the error that ends them. */
export async function* watchStatuses(
  call: Call<StatusMessage>,
  transport: Transport,
  WebSocket: WebSocketClass,
): AsyncGenerator<StatusMessage, void, undefined> {
  let since = performance.now();
  let retries: Retries = {};
  let offersKey = true;
  for (;;) {
    const connection = new Connection(WebSocket, call, offersKey);
    for await (const text of connection.texts()) {
      yield call.parse({ status: 101, headers: new Headers(), content: new TextEncoder().encode(text) });
      retries = {};
      since = performance.now();
    }
    if (connection.opened) transport.history.reached = true;
    // A server that does not choose among subprotocols fails the connection of a browser that offers some.
    else offersKey = !offersKey;
    call.signal?.throwIfAborted();
    const error = connection.opened ? ended(call) : await whyNot(call, transport);
    const again = afterFailure(error.kind, retries, call.retrying, Math.random());
    await waitToRetry(call, error, again, retries, since, transport.history);
  }
}

/** Sends a plain request to find out why a connection did not open, which a WebSocket does not say. */
async function whyNot(call: Call<unknown>, transport: Transport): Promise<SIEConnectionError> {
  const reply = await send(transport.fetch, call).catch((failure: unknown) => {
    if (failure instanceof SIEConnectionError) return failure;
    throw failure;
  });
  if (reply instanceof SIEConnectionError) return reply;
  transport.history.heard(reply.headers);
  if (reply.status === UPGRADE_REQUIRED || reply.status === 429 || reply.status >= 500) return ended(call);
  const { message, code, statusCode } = errorIn(reply, call.context, 0, undefined);
  throw new RequestError(`no status stream at ${call.url}: ${message}`, { code, statusCode });
}

/** Encodes printable ASCII. */
function base64Url(text: string): string {
  return btoa(text).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

function ended({ url }: Call<unknown>): SIEConnectionError {
  return new SIEConnectionError(`GET ${url}: the connection ended`, "connect");
}

/** One WebSocket connection. */
class Connection {
  opened = false;
  readonly #socket: InstanceType<WebSocketClass>;
  readonly #call: Call<unknown>;
  #unread: string[] = [];
  #over = false;
  #wake = () => {};

  constructor(WebSocket: WebSocketClass, call: Call<unknown>, offersKey: boolean) {
    this.#call = call;
    const url = call.url.replace(/^http/, "ws");
    try {
      this.#socket = new WebSocket(url, { headers: call.headers });
    } catch {
      // In a browser, it takes no headers, but names of subprotocols, of which one can carry the key.
      const key = /^Bearer (.+)$/.exec(call.headers["authorization"] ?? "")?.[1];
      this.#socket = key && offersKey ? new WebSocket(url, [STATUS, KEY + base64Url(key)]) : new WebSocket(url);
    }
    this.#socket.onopen = () => this.#heard(() => (this.opened = true));
    this.#socket.onmessage = ({ data }) => this.#heard(() => this.#unread.push(String(data)));
    this.#socket.onclose = this.#socket.onerror = () => this.#heard(() => (this.#over = true));
  }

  /** Yields messages until the connection ends, is silent for the timeout, or the call's signal is aborted. */
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
    if (this.#unread.length > MAX_UNREAD) this.#unread.shift();
    this.#wake();
  }
}
