import { decode } from "@msgpack/msgpack";
import { expect, test } from "vitest";
import { Packed, packMap, packMessage, unpackMessage } from "../../src/messages/msgpack.js";
import { float32, NdArray, pack } from "./stand-ins.js";

const bytes = (array: ArrayBufferView) => new Uint8Array(array.buffer);
const roundTrip = (value: unknown) => unpackMessage(pack(value));

test.each([
  ["<f4", Float32Array.of(0.5, -1)],
  ["<f8", Float64Array.of(0.1, -1)],
  ["<i4", Int32Array.of(7, -7)],
  ["<u4", Uint32Array.of(7, 2 ** 31)],
  ["<i2", Int16Array.of(7, -7)],
  ["<u2", Uint16Array.of(7, 65535)],
  ["|i1", Int8Array.of(127, -127)],
  ["|u1", Uint8Array.of(0, 255)],
])("%s becomes the typed array of its kind", (dtype, array) => {
  expect(roundTrip(new NdArray(dtype, [2], bytes(array)))).toEqual(array);
});

test("every float16 becomes the float32 of the same value", () => {
  const halves = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const singles = roundTrip(new NdArray("<f2", [65536], bytes(halves))) as Float32Array;
  // IEEE 754: sign, five bits of exponent, ten of mantissa
  halves.forEach((half, i) => {
    const [sign, exponent, mantissa] = [half & 0x8000 ? -1 : 1, (half >> 10) & 31, half & 0x3ff];
    const finite = exponent === 0 ? mantissa * 2 ** -24 : (1024 + mantissa) * 2 ** (exponent - 25);
    const value = sign * (exponent < 31 ? finite : mantissa ? NaN : Infinity);
    if (!Object.is(singles[i], value)) expect(singles[i], `0x${half.toString(16)}`).toBe(value);
  });
});

test("two dimensions are a list of rows, more are lists of lists, zero are a number", () => {
  const values = [1, 2, 3, 4, 5, 6];
  expect(roundTrip(float32(values, [3, 2]))).toEqual(
    [
      [1, 2],
      [3, 4],
      [5, 6],
    ].map((row) => Float32Array.from(row)),
  );
  expect(roundTrip(float32(values, [1, 3, 2]))).toEqual([roundTrip(float32(values, [3, 2]))]);
  expect(roundTrip(float32([], [0, 2]))).toEqual([]);
  expect(roundTrip(float32([], [2 ** 40, 0]))).toEqual([]);
  expect(roundTrip(new NdArray("<f4", null, bytes(Float32Array.of(2.5))))).toBe(2.5);
});

test("an array does not hold on to the message", () => {
  const message = pack({ long: "x".repeat(1000), array: float32([1, 2]) });
  const { array } = unpackMessage(message) as { array: Float32Array };
  expect(array.buffer.byteLength).toBe(8);
});

const data = bytes(Float32Array.of(1, 2));
test.each([
  ["dtype", new NdArray("|O", [2], data)],
  ["dtype", new NdArray(">f4", [2], data)],
  ["bytes", new NdArray("<f4", [3], data)],
  ["bytes", new NdArray("<f4", [2 ** 30, 2 ** 30], data)],
  ["shape", new NdArray("<f4", [-1, -2], data)],
  ["shape", new NdArray("<f4", Array(9).fill(1), data.subarray(4))],
  ["kind", { nd: true, type: "<f4", kind: "O", shape: [2], data }],
  ["fields", { nd: true, type: "<f4", data }],
  ["__proto__", new Map([["__proto__", 1]])],
])("an invalid array or map is refused by its %s", (what, value) => {
  const message = value instanceof Map ? Uint8Array.of(0x81, 0xa9, ...Buffer.from("__proto__"), 1) : pack(value);
  expect(() => unpackMessage(message)).toThrow(what);
});

test("a map that only has a field of that name is a map", () => {
  expect(roundTrip({ nd: "n", a: [float32([1])] })).toEqual({ nd: "n", a: [Float32Array.of(1)] });
});

test("elements that are packed already go in as they are", () => {
  const fields = {
    items: new Packed([packMessage({ text: "ä" }), packMessage(1)]),
    a: undefined,
    params: { x: [null] },
  };
  expect(decode(packMap(fields))).toEqual({ items: [{ text: "ä" }, 1], params: { x: [null] } });
});

test("half a surrogate pair is refused by its path", () => {
  expect(() => packMessage({ metadata: { k: ["\u{1F600}", "a\ud83d"] } }, "items[3]")).toThrow(
    "items[3].metadata.k[1] is not valid Unicode",
  );
  expect(() => packMessage({ "\udc00": 1 }, "query")).toThrow("a key of query is not valid Unicode");
});
