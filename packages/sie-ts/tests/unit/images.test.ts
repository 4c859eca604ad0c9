/** Images in the shapes that programs have them in, and what of them goes over the wire. */

import { expect, test } from "vitest";
import { detectImageFormat, toImageBytes, toImageWireFormat } from "../../src/index.js";
import { packed, Server } from "./stand-ins.js";

const bytes = (text: string) => Uint8Array.from(text, (character) => character.charCodeAt(0));
const PNG = bytes("\x89PNG\r\n\x1a\n");

test.each([
  ["\xff\xd8\xff\xe0", "jpeg"],
  ["\x89PNG", "png"],
  ["GIF89a", "gif"],
  ["RIFF\n\0\0\0WEBPVP8", "webp"],
  ["RIFF....WAVE", "unknown"],
  ["\xff\xd8", "unknown"],
  ["", "unknown"],
])("%j is %s", (start, format) => expect(detectImageFormat(bytes(start))).toBe(format));

test.each([
  ["bytes", PNG],
  ["a buffer", PNG.buffer as ArrayBuffer],
  ["a Blob", new Blob([PNG])],
  ["base64", btoa(String.fromCharCode(...PNG))],
  ["a data URL", `data:image/png;base64,${btoa(String.fromCharCode(...PNG))}`],
])("%s", async (_, image) => {
  expect(await toImageBytes(image)).toEqual(PNG);
  expect(await toImageWireFormat(image)).toEqual({ data: PNG, format: "png" });
  expect(await toImageWireFormat(image, "apng")).toEqual({ data: PNG, format: "apng" });
});

test.each(["data:image/png,%89", "no base64!", 7])("%s is no image", async (image) => {
  await expect(toImageBytes(image as string)).rejects.toThrow(TypeError);
});

test("in an item", async () => {
  const server = new Server(packed({ model: "m", items: [{}] }));
  const images = [PNG, bytes("?"), { data: PNG }, { data: PNG, format: "x" }];
  await server.client().encode("m", { images });
  expect(server.sent[0]?.body.items[0].images).toEqual([
    { data: PNG, format: "png" },
    { data: bytes("?") },
    { data: PNG },
    { data: PNG, format: "x" },
  ]);
});
