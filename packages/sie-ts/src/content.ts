/** The body of a response, of no more bytes than an answer may have: a few kilobytes of gzip can stand for gigabytes. */

const MOST_BYTES = 2 ** 30;
/** Of an error: it has a code and a message, and what else comes is not read. */
const MOST_ERROR_BYTES = 2 ** 20;
// Vectors and scores do not get this much smaller; a small answer may.
const MOST_TIMES = 32;
const ANY_TIMES_BYTES = 2 ** 26;
// How much was received is known where the response says it, which a proxy that compresses does not.
const MOST_UNPACKED_BYTES = 2 ** 28;

/** A body has more bytes than an answer may have. */
export class UnreadableError extends Error {}

/**
 * All of the body. Of an error (4xx, 5xx) as much as can be read, so that its status always counts.
 *
 * @throws UnreadableError if the body of a success is too large; what `fetch` throws where it breaks off.
 */
export async function contentOf(response: Response): Promise<Uint8Array> {
  const isError = response.status >= 400;
  const most = isError ? MOST_ERROR_BYTES : mostOf(response.headers);
  // Where `fetch` has no streams, as in React Native, there is nothing to stop.
  const reader = response.body?.getReader?.();
  if (reader === undefined) return new Uint8Array(await response.arrayBuffer());
  const pieces: Uint8Array[] = [];
  let size = 0;
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      pieces.push(read.value);
      size += read.value.length;
      if (size > most) {
        reader.cancel().catch(() => {});
        if (!isError) throw new UnreadableError(`the answer has more than the ${most} bytes that it may have`);
        break;
      }
    }
  } catch (failure) {
    if (!isError || !isUnpacking(failure)) throw failure;
  }
  return joined(pieces, Math.min(size, most));
}

function mostOf(headers: Headers): number {
  const encoding = headers.get("content-encoding") ?? "identity";
  if (encoding === "identity" || encoding === "") return MOST_BYTES;
  const received = Number(headers.get("content-length") ?? Number.NaN);
  if (!(received >= 0)) return MOST_UNPACKED_BYTES;
  return Math.min(MOST_BYTES, Math.max(ANY_TIMES_BYTES, MOST_TIMES * received));
}

/** Whether this is zlib's complaint about what it unpacks. Other platforms do not tell it from a body that broke off. */
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
