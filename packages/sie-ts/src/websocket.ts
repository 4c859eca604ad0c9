/** The WebSocket that a status stream comes over. */

/** What a status stream needs of a WebSocket: those of browsers, Node, Bun, Deno and of the package `ws` have it. */
export interface WebSocketLike {
  // biome-ignore lint/suspicious/noExplicitAny: the events of each of them are of classes of its own
  onopen: ((event: any) => void) | null;
  // biome-ignore lint/suspicious/noExplicitAny: as above
  onmessage: ((event: any) => void) | null;
  // biome-ignore lint/suspicious/noExplicitAny: as above
  onclose: ((event: any) => void) | null;
  // biome-ignore lint/suspicious/noExplicitAny: as above
  onerror: ((event: any) => void) | null;
  close(): void;
}

/** Makes a WebSocket; outside of browsers the second argument is `{ headers }`. */
// biome-ignore lint/suspicious/noExplicitAny: they differ in what else that may be
export type WebSocketClass = new (url: string, options?: any) => WebSocketLike;
