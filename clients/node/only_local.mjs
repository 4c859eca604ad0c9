// Refuses connections beyond the loopback interface.
import net from "node:net";

const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...given) {
  const [options] = Array.isArray(given[0]) ? given[0] : given;
  const host = typeof options === "object" ? options.host : undefined;
  if (host !== undefined && !["127.0.0.1", "localhost", "::1"].includes(host)) {
    throw new Error(`a test must not connect to ${host}`);
  }
  return connect.apply(this, given);
};
