/** Types of the WebSocket that the status stream uses. */

/** The part of a WebSocket that the status stream uses; browsers, Node, Bun, Deno and the package `ws` have it. */
export interface WebSocketLike {
  // biome-ignore lint/suspicious/noExplicitAny: each of them has event classes of its own
  onopen: ((event: any) => void) | null;
  // biome-ignore lint/suspicious/noExplicitAny: as above
  onmessage: ((event: any) => void) | null;
  // biome-ignore lint/suspicious/noExplicitAny: as above
  onclose: ((event: any) => void) | null;
  // biome-ignore lint/suspicious/noExplicitAny: as above
  onerror: ((event: any) => void) | null;
  close(): void;
}

/** A constructor of WebSockets; outside of browsers its second argument is `{ headers }`. */
// biome-ignore lint/suspicious/noExplicitAny: they differ in the second argument
export type WebSocketClass = new (url: string, options?: any) => WebSocketLike;
