/** Images as requests carry them: the bytes of a file, and the name of its format. */

import type { MediaInput } from "./types.js";

/** An image file in any of the shapes that programs have them in; a text is base64, or a data URL of it. */
export type ImageInput = Uint8Array | ArrayBuffer | Blob | string;

/** The formats that their first bytes tell. */
export type ImageFormat = "jpeg" | "png" | "webp" | "gif" | "unknown";

/** The format that the first bytes of a file tell. */
export function detectImageFormat(bytes: Uint8Array): ImageFormat {
  const start = String.fromCharCode(...bytes.subarray(0, 12));
  if (start.startsWith("\xff\xd8\xff")) return "jpeg";
  if (start.startsWith("\x89PNG")) return "png";
  if (start.startsWith("GIF8")) return "gif";
  return start.startsWith("RIFF") && start.endsWith("WEBP") ? "webp" : "unknown";
}

/** The bytes of an image file. @throws TypeError for what is none, such as a text that is not base64. */
export async function toImageBytes(image: ImageInput): Promise<Uint8Array> {
  if (image instanceof Uint8Array) return image;
  if (image instanceof ArrayBuffer) return new Uint8Array(image);
  if (image instanceof Blob) return new Uint8Array(await image.arrayBuffer());
  if (typeof image === "string") return fromBase64(image.replace(/^data:[^,]*;base64,/i, ""));
  throw new TypeError(`an image is bytes, a Blob or base64, got ${typeof image}`);
}

/** An image as items hold it, in a format that is told from its bytes unless it is given. */
export async function toImageWireFormat(image: ImageInput, format?: string): Promise<MediaInput> {
  const data = await toImageBytes(image);
  return format === undefined ? wireImage(data) : { data, format };
}

/** An image as a request carries it. */
export function wireImage(image: MediaInput | Uint8Array): MediaInput {
  if (!(image instanceof Uint8Array)) return image;
  const format = detectImageFormat(image);
  return format === "unknown" ? { data: image } : { data: image, format };
}

function fromBase64(text: string): Uint8Array {
  let binary: string;
  try {
    binary = atob(text);
  } catch (cause) {
    throw new TypeError("an image that is a text must be base64, or a data URL of it", { cause });
  }
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}
