/** Reads the body of a response, up to a maximum size: a few kilobytes of gzip can expand to gigabytes. */

const MAX_BYTES = 2 ** 30;
/** An error is a code and a message; the rest is not read. */
const MAX_ERROR_BYTES = 2 ** 20;
// Vectors and scores are never compressed by more than this; a small response may be.
const MAX_RATIO = 32;
const ANY_RATIO_BYTES = 2 ** 26;
// The limit where the received size is unknown, as behind a proxy that compresses.
const MAX_UNPACKED_BYTES = 2 ** 28;

/** The body is larger than allowed. */
export class UnreadableError extends Error {}

/**
 * Reads the whole body; of an error (4xx, 5xx) as much as can be read, so that its status always counts.
 *
 * @throws UnreadableError if the body of a success is too large; the error of `fetch` if it is cut off.
 */
export async function readBody(response: Response): Promise<Uint8Array> {
  const isError = response.status >= 400;
  const limit = isError ? MAX_ERROR_BYTES : limitOf(response.headers);
  // Without streams, as in React Native, the body can only be read as a whole.
  const reader = response.body?.getReader?.();
  if (reader === undefined) return new Uint8Array(await response.arrayBuffer());
  const pieces: Uint8Array[] = [];
  let size = 0;
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      pieces.push(read.value);
      size += read.value.length;
      if (size > limit) {
        reader.cancel().catch(() => {});
        if (!isError) throw new UnreadableError(`the body exceeds the limit of ${limit} bytes`);
        break;
      }
    }
  } catch (failure) {
    if (!isError || !isUnpacking(failure)) throw failure;
  }
  return joined(pieces, Math.min(size, limit));
}

function limitOf(headers: Headers): number {
  const encoding = headers.get("content-encoding") ?? "identity";
  if (encoding === "identity" || encoding === "") return MAX_BYTES;
  const received = Number(headers.get("content-length") ?? Number.NaN);
  if (!(received >= 0)) return MAX_UNPACKED_BYTES;
  return Math.min(MAX_BYTES, Math.max(ANY_RATIO_BYTES, MAX_RATIO * received));
}

/** Returns whether this is an error of zlib. Other platforms do not distinguish it from a body that was cut off. */
function isUnpacking(failure: unknown): boolean {
  const cause = failure instanceof Error ? (failure.cause ?? failure) : failure;
  return cause instanceof Error && "code" in cause && /^(Z_|ERR_BROTLI|ERR_ZSTD)/.test(String(cause.code));
}

function joined(pieces: readonly Uint8Array[], size: number): Uint8Array {
  const [only] = pieces;
  if (pieces.length === 1 && only !== undefined && only.length === size) return only;
  const whole = new Uint8Array(size);
  let at = 0;
  for (const piece of pieces) {
    const part = piece.subarray(0, size - at);
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
