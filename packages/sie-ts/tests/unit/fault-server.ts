/** A server that answers each request as the fault table says. */

import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { gzipSync } from "node:zlib";
import { pack, SCORED } from "./stand-ins.js";

export interface Answer {
  status?: number;
  headers?: Record<string, string>;
  code?: string;
  text?: string;
  raw?: string;
  stall?: "before" | "halfway";
  after_s?: number;
  trickle_s?: number;
  gzip?: boolean;
  broken_gzip?: boolean;
  chunked?: boolean;
  keep?: boolean;
  cut?: boolean;
  hang_up?: boolean;
}

export interface Case {
  name: string;
  refused?: number | true;
  answers?: ("ranking" | Answer)[];
  options?: { timeout_s?: number; provision_timeout_s?: number; wait_for_capacity?: boolean };
  calls?: number;
  waits_s: number[];
  raises?: string;
  code?: string;
  status?: number;
  kind?: string;
  retry_after_s?: number;
  says?: string;
}

const ranking = Buffer.from(pack(SCORED));
/** Tests may replace the global one. */
export const realTimeout = globalThis.setTimeout;

/** Answers the n-th request with the n-th answer; refuses connections until `refused` pauses have passed. */
export class FaultServer {
  met = 0;
  url = "";
  readonly #port: number;
  readonly #server: Server;
  readonly #open = new Set<Socket>();

  private constructor(
    readonly answers: Answer[],
    readonly refused: number | true,
    port: number,
  ) {
    this.#port = port;
    this.url = `http://127.0.0.1:${port}`;
    this.#server = createServer((socket) => {
      this.#open.add(socket);
      socket.on("error", () => {});
      let received = Buffer.alloc(0);
      socket.on("data", (data) => {
        received = Buffer.concat([received, data]);
        if (complete(received)) this.#meet(socket);
      });
    });
  }

  static async start({ answers = [], refused = 0 }: Case): Promise<FaultServer> {
    const reserved = createServer();
    await new Promise<void>((resolve) => reserved.listen(0, "127.0.0.1", resolve));
    const { port } = reserved.address() as AddressInfo;
    await new Promise((resolve) => reserved.close(resolve));
    const said = answers.map((answer) => (answer === "ranking" ? {} : answer));
    const server = new FaultServer(said, refused, port);
    await server.paused(0);
    return server;
  }

  async paused(pauses: number): Promise<void> {
    if (pauses === this.refused)
      await new Promise<void>((resolve) => this.#server.listen(this.#port, "127.0.0.1", resolve));
  }

  close(): void {
    for (const socket of this.#open) socket.destroy();
    this.#server.close();
  }

  #meet(socket: Socket): void {
    const answer = this.answers[Math.min(this.met++, this.answers.length - 1)] as Answer;
    const whole = bytes(answer);
    const part = answer.stall || answer.cut ? whole.subarray(0, whole.length - Math.ceil(ranking.length / 2)) : whole;
    if (answer.hang_up) socket.destroy();
    else if (answer.trickle_s) trickle(socket, whole, answer.trickle_s * 1000);
    else if (answer.stall) socket.write(answer.stall === "before" ? "" : part);
    else if (answer.after_s) realTimeout(() => socket.end(part), answer.after_s * 1000);
    else socket.end(part);
  }
}

function trickle(socket: Socket, whole: Buffer, ms: number): void {
  const part = Math.ceil(whole.length / 10);
  socket.write(whole.subarray(0, part));
  if (whole.length > part && !socket.destroyed) realTimeout(() => trickle(socket, whole.subarray(part), ms), ms / 10);
}

function complete(received: Buffer): boolean {
  const end = received.indexOf("\r\n\r\n");
  const length = /^content-length: (\d+)/im.exec(received.subarray(0, end).toString("latin1"))?.[1];
  return end >= 0 && received.length - end - 4 >= Number(length);
}

/** Returns the bytes of the whole response. */
function bytes(answer: Answer): Buffer {
  if (answer.raw !== undefined) return Buffer.from(answer.raw);
  let body = ranking;
  const headers: Record<string, string> = { "Content-Type": "application/msgpack" };
  if (!answer.keep) headers["Connection"] = "close";
  if (answer.code !== undefined) {
    body = Buffer.from(JSON.stringify({ detail: { code: answer.code, message: "no" } }));
    headers["Content-Type"] = "application/json";
  } else if (answer.text !== undefined) {
    body = Buffer.from(answer.text);
    headers["Content-Type"] = "text/html";
  }
  if (answer.gzip || answer.broken_gzip) {
    body = answer.gzip ? gzipSync(body) : Buffer.from("no gzip");
    headers["Content-Encoding"] = "gzip";
  }
  Object.assign(headers, answer.headers);
  if (answer.chunked) {
    headers["Transfer-Encoding"] = "chunked";
    body = Buffer.concat([Buffer.from(`${body.length.toString(16)}\r\n`), body, Buffer.from("\r\n0\r\n\r\n")]);
  } else {
    headers["Content-Length"] = String(body.length);
  }
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.concat([Buffer.from(`HTTP/1.1 ${answer.status ?? 200} Said\r\n${lines.join("")}\r\n`), body]);
}
