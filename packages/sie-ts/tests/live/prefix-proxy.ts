/** A proxy that serves the server under a path, as balancers do; it takes the path off, and passes WebSockets on. */

import { createServer, request } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";

export interface PrefixProxy {
  readonly url: string;
  /** Cuts all WebSockets. */
  cut(): void;
  close(): void;
}

export async function prefixProxy(target: string, prefix: string): Promise<PrefixProxy> {
  const { hostname, port } = new URL(target);
  const sockets = new Set<Socket>();
  const inner = (path = "/") => (path.startsWith(`${prefix}/`) ? path.slice(prefix.length) : undefined);
  const server = createServer((incoming, outgoing) => {
    const path = inner(incoming.url);
    if (path === undefined) {
      outgoing.writeHead(404).end();
      return;
    }
    const { method, headers } = incoming;
    const onward = request({ hostname, port, path, method, headers }, (reply) => {
      outgoing.writeHead(reply.statusCode ?? 502, reply.headers);
      reply.pipe(outgoing);
    });
    onward.on("error", () => outgoing.destroy());
    incoming.pipe(onward);
  });
  server.on("upgrade", (incoming, client: Socket) => {
    const path = inner(incoming.url);
    const upstream = connect(Number(port), hostname, () => {
      const head = Object.entries(incoming.headers).map(([name, value]) => `${name}: ${value}\r\n`);
      upstream.write(`GET ${path} HTTP/1.1\r\n${head.join("")}\r\n`);
      upstream.pipe(client).pipe(upstream);
    });
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        sockets.delete(socket);
        client.destroy();
        upstream.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}${prefix}/`,
    cut,
    close: () => {
      cut();
      server.closeAllConnections();
      server.close();
    },
  };
}
