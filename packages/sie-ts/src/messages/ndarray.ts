/**
 * NumPy arrays in MessagePack: a map of `nd` (true), `type` (the dtype), `kind` (empty), `shape` and `data` (C order).
 * A NumPy scalar has `nd` (false), `type` and `data`.
 */

type TypedArray =
  | Float32Array
  | Float64Array
  | Int32Array
  | Uint32Array
  | Int16Array
  | Uint16Array
  | Int8Array
  | Uint8Array;

const READERS: ReadonlyMap<unknown, (bytes: Uint8Array) => TypedArray> = new Map<
  string,
  (bytes: Uint8Array) => TypedArray
>([
  ["<f2", (bytes) => halfToSingle(new Uint16Array(copied(bytes)))],
  ["<f4", (bytes) => new Float32Array(copied(bytes))],
  ["<f8", (bytes) => new Float64Array(copied(bytes))],
  ["<i2", (bytes) => new Int16Array(copied(bytes))],
  ["<i4", (bytes) => new Int32Array(copied(bytes))],
  ["<u2", (bytes) => new Uint16Array(copied(bytes))],
  ["<u4", (bytes) => new Uint32Array(copied(bytes))],
  ["|i1", (bytes) => new Int8Array(copied(bytes))],
  ["|u1", (bytes) => new Uint8Array(copied(bytes))],
  ["|b1", (bytes) => new Uint8Array(copied(bytes))],
]);
const MAX_DIMENSIONS = 8;

/**
 * Returns the array in such a map, or undefined for any other map: a typed array for one dimension, an array of them
 * for two, deeper arrays for more, a number for a scalar.
 *
 * @throws RangeError if the map is an invalid array.
 */
export function arrayIn(map: Readonly<Record<string, unknown>>): unknown {
  const { nd, type, data } = map;
  const keys = Object.keys(map);
  if (typeof nd !== "boolean" || !(data instanceof Uint8Array)) return undefined;
  if (keys.length !== (nd ? 5 : 3)) throw new RangeError("the fields of an array are not those of NumPy");
  const shape = nd ? map["shape"] : [];
  const read = READERS.get(type);
  if (read === undefined) throw new RangeError(`array dtype ${JSON.stringify(type)} is not allowed`);
  if (nd && !(map["kind"] instanceof Uint8Array && map["kind"].length === 0)) {
    throw new RangeError("array kind is not empty");
  }
  if (!isShape(shape)) throw new RangeError(`array shape ${JSON.stringify(shape)} is not allowed`);
  const width = Number(String(type).slice(2));
  if (data.length !== shape.reduce((size, n) => size * n, width)) {
    throw new RangeError(`array data does not have the bytes of shape [${shape}] and dtype ${type}`);
  }
  const values = read(data);
  return shape.length === 0 ? values[0] : nested(values, shape);
}

function nested(values: TypedArray, [length = 0, ...rest]: readonly number[]): unknown {
  if (rest.length === 0) return values;
  // A shape may have any number of empty rows.
  if (values.length === 0) return [];
  const step = values.length / length;
  return Array.from({ length }, (_, row) => nested(values.subarray(row * step, (row + 1) * step), rest));
}

function isShape(shape: unknown): shape is number[] {
  return (
    Array.isArray(shape) && shape.length <= MAX_DIMENSIONS && shape.every((n) => Number.isSafeInteger(n) && n >= 0)
  );
}

// Bytes inside a message begin anywhere; typed arrays must begin at a multiple of their element's size.
function copied(bytes: Uint8Array): ArrayBuffer {
  return new Uint8Array(bytes).buffer;
}

function halfToSingle(halves: Uint16Array): Float32Array {
  const bits = new Uint32Array(halves.length);
  const values = new Float32Array(bits.buffer);
  for (let i = 0; i < halves.length; i++) {
    const half = halves[i] as number;
    // The mantissa and, above it, the exponent, where float32 has them; exponents count from -127 instead of -15.
    bits[i] = (half & 0x7fff) << 13;
    const magnitude = (half & 0x7c00) === 0x7c00 ? (half & 0x3ff ? NaN : Infinity) : (values[i] as number) * 2 ** 112;
    values[i] = half & 0x8000 ? -magnitude : magnitude;
  }
  return values;
}
