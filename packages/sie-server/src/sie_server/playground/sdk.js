/*
 * @sie/sdk for the playground. Generated from packages/sie-ts by `make playground`.
 *
 * It contains @msgpack/msgpack, whose license is:
 *
 * Copyright 2019 The MessagePack Community.
 *
 * Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted, provided that the above copyright notice and this permission notice appear in all copies.
 *
 * THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT, INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.
 */

// node_modules/@msgpack/msgpack/dist.esm/utils/utf8.mjs
function utf8Count(str) {
  const strLength = str.length;
  let byteLength = 0;
  let pos = 0;
  while (pos < strLength) {
    let value = str.charCodeAt(pos++);
    if ((value & 4294967168) === 0) {
      byteLength++;
      continue;
    } else if ((value & 4294965248) === 0) {
      byteLength += 2;
    } else {
      if (value >= 55296 && value <= 56319) {
        if (pos < strLength) {
          const extra = str.charCodeAt(pos);
          if ((extra & 64512) === 56320) {
            ++pos;
            value = ((value & 1023) << 10) + (extra & 1023) + 65536;
          }
        }
      }
      if ((value & 4294901760) === 0) {
        byteLength += 3;
      } else {
        byteLength += 4;
      }
    }
  }
  return byteLength;
}
function utf8EncodeJs(str, output, outputOffset) {
  const strLength = str.length;
  let offset = outputOffset;
  let pos = 0;
  while (pos < strLength) {
    let value = str.charCodeAt(pos++);
    if ((value & 4294967168) === 0) {
      output[offset++] = value;
      continue;
    } else if ((value & 4294965248) === 0) {
      output[offset++] = value >> 6 & 31 | 192;
    } else {
      if (value >= 55296 && value <= 56319) {
        if (pos < strLength) {
          const extra = str.charCodeAt(pos);
          if ((extra & 64512) === 56320) {
            ++pos;
            value = ((value & 1023) << 10) + (extra & 1023) + 65536;
          }
        }
      }
      if ((value & 4294901760) === 0) {
        output[offset++] = value >> 12 & 15 | 224;
        output[offset++] = value >> 6 & 63 | 128;
      } else {
        output[offset++] = value >> 18 & 7 | 240;
        output[offset++] = value >> 12 & 63 | 128;
        output[offset++] = value >> 6 & 63 | 128;
      }
    }
    output[offset++] = value & 63 | 128;
  }
}
var sharedTextEncoder = new TextEncoder();
var TEXT_ENCODER_THRESHOLD = 50;
function utf8EncodeTE(str, output, outputOffset) {
  sharedTextEncoder.encodeInto(str, output.subarray(outputOffset));
}
function utf8Encode(str, output, outputOffset) {
  if (str.length > TEXT_ENCODER_THRESHOLD) {
    utf8EncodeTE(str, output, outputOffset);
  } else {
    utf8EncodeJs(str, output, outputOffset);
  }
}
var CHUNK_SIZE = 4096;
function utf8DecodeJs(bytes, inputOffset, byteLength) {
  let offset = inputOffset;
  const end = offset + byteLength;
  const units = [];
  let result = "";
  while (offset < end) {
    const byte1 = bytes[offset++];
    if ((byte1 & 128) === 0) {
      units.push(byte1);
    } else if ((byte1 & 224) === 192) {
      const byte2 = bytes[offset++] & 63;
      units.push((byte1 & 31) << 6 | byte2);
    } else if ((byte1 & 240) === 224) {
      const byte2 = bytes[offset++] & 63;
      const byte3 = bytes[offset++] & 63;
      units.push((byte1 & 31) << 12 | byte2 << 6 | byte3);
    } else if ((byte1 & 248) === 240) {
      const byte2 = bytes[offset++] & 63;
      const byte3 = bytes[offset++] & 63;
      const byte4 = bytes[offset++] & 63;
      let unit = (byte1 & 7) << 18 | byte2 << 12 | byte3 << 6 | byte4;
      if (unit > 65535) {
        unit -= 65536;
        units.push(unit >>> 10 & 1023 | 55296);
        unit = 56320 | unit & 1023;
      }
      units.push(unit);
    } else {
      units.push(byte1);
    }
    if (units.length >= CHUNK_SIZE) {
      result += String.fromCharCode(...units);
      units.length = 0;
    }
  }
  if (units.length > 0) {
    result += String.fromCharCode(...units);
  }
  return result;
}
var sharedTextDecoder = new TextDecoder();
var TEXT_DECODER_THRESHOLD = 200;
function utf8DecodeTD(bytes, inputOffset, byteLength) {
  const stringBytes = bytes.subarray(inputOffset, inputOffset + byteLength);
  return sharedTextDecoder.decode(stringBytes);
}
function utf8Decode(bytes, inputOffset, byteLength) {
  if (byteLength > TEXT_DECODER_THRESHOLD) {
    return utf8DecodeTD(bytes, inputOffset, byteLength);
  } else {
    return utf8DecodeJs(bytes, inputOffset, byteLength);
  }
}

// node_modules/@msgpack/msgpack/dist.esm/ExtData.mjs
var ExtData = class {
  type;
  data;
  constructor(type, data) {
    this.type = type;
    this.data = data;
  }
};

// node_modules/@msgpack/msgpack/dist.esm/DecodeError.mjs
var DecodeError = class _DecodeError extends Error {
  constructor(message) {
    super(message);
    const proto = Object.create(_DecodeError.prototype);
    Object.setPrototypeOf(this, proto);
    Object.defineProperty(this, "name", {
      configurable: true,
      enumerable: false,
      value: _DecodeError.name
    });
  }
};

// node_modules/@msgpack/msgpack/dist.esm/utils/int.mjs
var UINT32_MAX = 4294967295;
function setUint64(view, offset, value) {
  const high = value / 4294967296;
  const low = value;
  view.setUint32(offset, high);
  view.setUint32(offset + 4, low);
}
function setInt64(view, offset, value) {
  const high = Math.floor(value / 4294967296);
  const low = value;
  view.setUint32(offset, high);
  view.setUint32(offset + 4, low);
}
function getInt64(view, offset) {
  const high = view.getInt32(offset);
  const low = view.getUint32(offset + 4);
  return high * 4294967296 + low;
}
function getUint64(view, offset) {
  const high = view.getUint32(offset);
  const low = view.getUint32(offset + 4);
  return high * 4294967296 + low;
}

// node_modules/@msgpack/msgpack/dist.esm/timestamp.mjs
var EXT_TIMESTAMP = -1;
var TIMESTAMP32_MAX_SEC = 4294967296 - 1;
var TIMESTAMP64_MAX_SEC = 17179869184 - 1;
function encodeTimeSpecToTimestamp({ sec, nsec }) {
  if (sec >= 0 && nsec >= 0 && sec <= TIMESTAMP64_MAX_SEC) {
    if (nsec === 0 && sec <= TIMESTAMP32_MAX_SEC) {
      const rv = new Uint8Array(4);
      const view = new DataView(rv.buffer);
      view.setUint32(0, sec);
      return rv;
    } else {
      const secHigh = sec / 4294967296;
      const secLow = sec & 4294967295;
      const rv = new Uint8Array(8);
      const view = new DataView(rv.buffer);
      view.setUint32(0, nsec << 2 | secHigh & 3);
      view.setUint32(4, secLow);
      return rv;
    }
  } else {
    const rv = new Uint8Array(12);
    const view = new DataView(rv.buffer);
    view.setUint32(0, nsec);
    setInt64(view, 4, sec);
    return rv;
  }
}
function encodeDateToTimeSpec(date) {
  const msec = date.getTime();
  const sec = Math.floor(msec / 1e3);
  const nsec = (msec - sec * 1e3) * 1e6;
  const nsecInSec = Math.floor(nsec / 1e9);
  return {
    sec: sec + nsecInSec,
    nsec: nsec - nsecInSec * 1e9
  };
}
function encodeTimestampExtension(object) {
  if (object instanceof Date) {
    const timeSpec = encodeDateToTimeSpec(object);
    return encodeTimeSpecToTimestamp(timeSpec);
  } else {
    return null;
  }
}
function decodeTimestampToTimeSpec(data) {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  switch (data.byteLength) {
    case 4: {
      const sec = view.getUint32(0);
      const nsec = 0;
      return { sec, nsec };
    }
    case 8: {
      const nsec30AndSecHigh2 = view.getUint32(0);
      const secLow32 = view.getUint32(4);
      const sec = (nsec30AndSecHigh2 & 3) * 4294967296 + secLow32;
      const nsec = nsec30AndSecHigh2 >>> 2;
      return { sec, nsec };
    }
    case 12: {
      const sec = getInt64(view, 4);
      const nsec = view.getUint32(0);
      return { sec, nsec };
    }
    default:
      throw new DecodeError(`Unrecognized data size for timestamp (expected 4, 8, or 12): ${data.length}`);
  }
}
function decodeTimestampExtension(data) {
  const timeSpec = decodeTimestampToTimeSpec(data);
  return new Date(timeSpec.sec * 1e3 + timeSpec.nsec / 1e6);
}
var timestampExtension = {
  type: EXT_TIMESTAMP,
  encode: encodeTimestampExtension,
  decode: decodeTimestampExtension
};

// node_modules/@msgpack/msgpack/dist.esm/ExtensionCodec.mjs
var ExtensionCodec = class _ExtensionCodec {
  static defaultCodec = new _ExtensionCodec();
  // ensures ExtensionCodecType<X> matches ExtensionCodec<X>
  // this will make type errors a lot more clear
  // eslint-disable-next-line @typescript-eslint/naming-convention
  __brand;
  // built-in extensions
  builtInEncoders = [];
  builtInDecoders = [];
  // custom extensions
  encoders = [];
  decoders = [];
  constructor() {
    this.register(timestampExtension);
  }
  register({ type, encode: encode2, decode: decode2 }) {
    if (type >= 0) {
      this.encoders[type] = encode2;
      this.decoders[type] = decode2;
    } else {
      const index = -1 - type;
      this.builtInEncoders[index] = encode2;
      this.builtInDecoders[index] = decode2;
    }
  }
  tryToEncode(object, context) {
    for (let i = 0; i < this.builtInEncoders.length; i++) {
      const encodeExt = this.builtInEncoders[i];
      if (encodeExt != null) {
        const data = encodeExt(object, context);
        if (data != null) {
          const type = -1 - i;
          return new ExtData(type, data);
        }
      }
    }
    for (let i = 0; i < this.encoders.length; i++) {
      const encodeExt = this.encoders[i];
      if (encodeExt != null) {
        const data = encodeExt(object, context);
        if (data != null) {
          const type = i;
          return new ExtData(type, data);
        }
      }
    }
    if (object instanceof ExtData) {
      return object;
    }
    return null;
  }
  decode(data, type, context) {
    const decodeExt = type < 0 ? this.builtInDecoders[-1 - type] : this.decoders[type];
    if (decodeExt) {
      return decodeExt(data, type, context);
    } else {
      return new ExtData(type, data);
    }
  }
};

// node_modules/@msgpack/msgpack/dist.esm/utils/typedArrays.mjs
function isArrayBufferLike(buffer) {
  return buffer instanceof ArrayBuffer || typeof SharedArrayBuffer !== "undefined" && buffer instanceof SharedArrayBuffer;
}
function ensureUint8Array(buffer) {
  if (buffer instanceof Uint8Array) {
    return buffer;
  } else if (ArrayBuffer.isView(buffer)) {
    return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  } else if (isArrayBufferLike(buffer)) {
    return new Uint8Array(buffer);
  } else {
    return Uint8Array.from(buffer);
  }
}

// node_modules/@msgpack/msgpack/dist.esm/Encoder.mjs
var DEFAULT_MAX_DEPTH = 100;
var DEFAULT_INITIAL_BUFFER_SIZE = 2048;
var Encoder = class _Encoder {
  extensionCodec;
  context;
  useBigInt64;
  maxDepth;
  initialBufferSize;
  sortKeys;
  forceFloat32;
  ignoreUndefined;
  forceIntegerToFloat;
  pos;
  view;
  bytes;
  entered = false;
  constructor(options) {
    this.extensionCodec = options?.extensionCodec ?? ExtensionCodec.defaultCodec;
    this.context = options?.context;
    this.useBigInt64 = options?.useBigInt64 ?? false;
    this.maxDepth = options?.maxDepth ?? DEFAULT_MAX_DEPTH;
    this.initialBufferSize = options?.initialBufferSize ?? DEFAULT_INITIAL_BUFFER_SIZE;
    this.sortKeys = options?.sortKeys ?? false;
    this.forceFloat32 = options?.forceFloat32 ?? false;
    this.ignoreUndefined = options?.ignoreUndefined ?? false;
    this.forceIntegerToFloat = options?.forceIntegerToFloat ?? false;
    this.pos = 0;
    this.view = new DataView(new ArrayBuffer(this.initialBufferSize));
    this.bytes = new Uint8Array(this.view.buffer);
  }
  clone() {
    return new _Encoder({
      extensionCodec: this.extensionCodec,
      context: this.context,
      useBigInt64: this.useBigInt64,
      maxDepth: this.maxDepth,
      initialBufferSize: this.initialBufferSize,
      sortKeys: this.sortKeys,
      forceFloat32: this.forceFloat32,
      ignoreUndefined: this.ignoreUndefined,
      forceIntegerToFloat: this.forceIntegerToFloat
    });
  }
  reinitializeState() {
    this.pos = 0;
  }
  /**
   * This is almost equivalent to {@link Encoder#encode}, but it returns an reference of the encoder's internal buffer and thus much faster than {@link Encoder#encode}.
   *
   * @returns Encodes the object and returns a shared reference the encoder's internal buffer.
   */
  encodeSharedRef(object) {
    if (this.entered) {
      const instance = this.clone();
      return instance.encodeSharedRef(object);
    }
    try {
      this.entered = true;
      this.reinitializeState();
      this.doEncode(object, 1);
      return this.bytes.subarray(0, this.pos);
    } finally {
      this.entered = false;
    }
  }
  /**
   * @returns Encodes the object and returns a copy of the encoder's internal buffer.
   */
  encode(object) {
    if (this.entered) {
      const instance = this.clone();
      return instance.encode(object);
    }
    try {
      this.entered = true;
      this.reinitializeState();
      this.doEncode(object, 1);
      return this.bytes.slice(0, this.pos);
    } finally {
      this.entered = false;
    }
  }
  doEncode(object, depth) {
    if (depth > this.maxDepth) {
      throw new Error(`Too deep objects in depth ${depth}`);
    }
    if (object == null) {
      this.encodeNil();
    } else if (typeof object === "boolean") {
      this.encodeBoolean(object);
    } else if (typeof object === "number") {
      if (!this.forceIntegerToFloat) {
        this.encodeNumber(object);
      } else {
        this.encodeNumberAsFloat(object);
      }
    } else if (typeof object === "string") {
      this.encodeString(object);
    } else if (this.useBigInt64 && typeof object === "bigint") {
      this.encodeBigInt64(object);
    } else {
      this.encodeObject(object, depth);
    }
  }
  ensureBufferSizeToWrite(sizeToWrite) {
    const requiredSize = this.pos + sizeToWrite;
    if (this.view.byteLength < requiredSize) {
      this.resizeBuffer(requiredSize * 2);
    }
  }
  resizeBuffer(newSize) {
    const newBuffer = new ArrayBuffer(newSize);
    const newBytes = new Uint8Array(newBuffer);
    const newView = new DataView(newBuffer);
    newBytes.set(this.bytes);
    this.view = newView;
    this.bytes = newBytes;
  }
  encodeNil() {
    this.writeU8(192);
  }
  encodeBoolean(object) {
    if (object === false) {
      this.writeU8(194);
    } else {
      this.writeU8(195);
    }
  }
  encodeNumber(object) {
    if (!this.forceIntegerToFloat && Number.isSafeInteger(object)) {
      if (object >= 0) {
        if (object < 128) {
          this.writeU8(object);
        } else if (object < 256) {
          this.writeU8(204);
          this.writeU8(object);
        } else if (object < 65536) {
          this.writeU8(205);
          this.writeU16(object);
        } else if (object < 4294967296) {
          this.writeU8(206);
          this.writeU32(object);
        } else if (!this.useBigInt64) {
          this.writeU8(207);
          this.writeU64(object);
        } else {
          this.encodeNumberAsFloat(object);
        }
      } else {
        if (object >= -32) {
          this.writeU8(224 | object + 32);
        } else if (object >= -128) {
          this.writeU8(208);
          this.writeI8(object);
        } else if (object >= -32768) {
          this.writeU8(209);
          this.writeI16(object);
        } else if (object >= -2147483648) {
          this.writeU8(210);
          this.writeI32(object);
        } else if (!this.useBigInt64) {
          this.writeU8(211);
          this.writeI64(object);
        } else {
          this.encodeNumberAsFloat(object);
        }
      }
    } else {
      this.encodeNumberAsFloat(object);
    }
  }
  encodeNumberAsFloat(object) {
    if (this.forceFloat32) {
      this.writeU8(202);
      this.writeF32(object);
    } else {
      this.writeU8(203);
      this.writeF64(object);
    }
  }
  encodeBigInt64(object) {
    if (object >= BigInt(0)) {
      this.writeU8(207);
      this.writeBigUint64(object);
    } else {
      this.writeU8(211);
      this.writeBigInt64(object);
    }
  }
  writeStringHeader(byteLength) {
    if (byteLength < 32) {
      this.writeU8(160 + byteLength);
    } else if (byteLength < 256) {
      this.writeU8(217);
      this.writeU8(byteLength);
    } else if (byteLength < 65536) {
      this.writeU8(218);
      this.writeU16(byteLength);
    } else if (byteLength < 4294967296) {
      this.writeU8(219);
      this.writeU32(byteLength);
    } else {
      throw new Error(`Too long string: ${byteLength} bytes in UTF-8`);
    }
  }
  encodeString(object) {
    const maxHeaderSize = 1 + 4;
    const byteLength = utf8Count(object);
    this.ensureBufferSizeToWrite(maxHeaderSize + byteLength);
    this.writeStringHeader(byteLength);
    utf8Encode(object, this.bytes, this.pos);
    this.pos += byteLength;
  }
  encodeObject(object, depth) {
    const ext = this.extensionCodec.tryToEncode(object, this.context);
    if (ext != null) {
      this.encodeExtension(ext);
    } else if (Array.isArray(object)) {
      this.encodeArray(object, depth);
    } else if (ArrayBuffer.isView(object)) {
      this.encodeBinary(object);
    } else if (typeof object === "object") {
      this.encodeMap(object, depth);
    } else {
      throw new Error(`Unrecognized object: ${Object.prototype.toString.apply(object)}`);
    }
  }
  encodeBinary(object) {
    const size = object.byteLength;
    if (size < 256) {
      this.writeU8(196);
      this.writeU8(size);
    } else if (size < 65536) {
      this.writeU8(197);
      this.writeU16(size);
    } else if (size < 4294967296) {
      this.writeU8(198);
      this.writeU32(size);
    } else {
      throw new Error(`Too large binary: ${size}`);
    }
    const bytes = ensureUint8Array(object);
    this.writeU8a(bytes);
  }
  encodeArray(object, depth) {
    const size = object.length;
    if (size < 16) {
      this.writeU8(144 + size);
    } else if (size < 65536) {
      this.writeU8(220);
      this.writeU16(size);
    } else if (size < 4294967296) {
      this.writeU8(221);
      this.writeU32(size);
    } else {
      throw new Error(`Too large array: ${size}`);
    }
    for (const item of object) {
      this.doEncode(item, depth + 1);
    }
  }
  countWithoutUndefined(object, keys) {
    let count = 0;
    for (const key of keys) {
      if (object[key] !== void 0) {
        count++;
      }
    }
    return count;
  }
  encodeMap(object, depth) {
    const keys = Object.keys(object);
    if (this.sortKeys) {
      keys.sort();
    }
    const size = this.ignoreUndefined ? this.countWithoutUndefined(object, keys) : keys.length;
    if (size < 16) {
      this.writeU8(128 + size);
    } else if (size < 65536) {
      this.writeU8(222);
      this.writeU16(size);
    } else if (size < 4294967296) {
      this.writeU8(223);
      this.writeU32(size);
    } else {
      throw new Error(`Too large map object: ${size}`);
    }
    for (const key of keys) {
      const value = object[key];
      if (!(this.ignoreUndefined && value === void 0)) {
        this.encodeString(key);
        this.doEncode(value, depth + 1);
      }
    }
  }
  encodeExtension(ext) {
    if (typeof ext.data === "function") {
      const data = ext.data(this.pos + 6);
      const size2 = data.length;
      if (size2 >= 4294967296) {
        throw new Error(`Too large extension object: ${size2}`);
      }
      this.writeU8(201);
      this.writeU32(size2);
      this.writeI8(ext.type);
      this.writeU8a(data);
      return;
    }
    const size = ext.data.length;
    if (size === 1) {
      this.writeU8(212);
    } else if (size === 2) {
      this.writeU8(213);
    } else if (size === 4) {
      this.writeU8(214);
    } else if (size === 8) {
      this.writeU8(215);
    } else if (size === 16) {
      this.writeU8(216);
    } else if (size < 256) {
      this.writeU8(199);
      this.writeU8(size);
    } else if (size < 65536) {
      this.writeU8(200);
      this.writeU16(size);
    } else if (size < 4294967296) {
      this.writeU8(201);
      this.writeU32(size);
    } else {
      throw new Error(`Too large extension object: ${size}`);
    }
    this.writeI8(ext.type);
    this.writeU8a(ext.data);
  }
  writeU8(value) {
    this.ensureBufferSizeToWrite(1);
    this.view.setUint8(this.pos, value);
    this.pos++;
  }
  writeU8a(values) {
    const size = values.length;
    this.ensureBufferSizeToWrite(size);
    this.bytes.set(values, this.pos);
    this.pos += size;
  }
  writeI8(value) {
    this.ensureBufferSizeToWrite(1);
    this.view.setInt8(this.pos, value);
    this.pos++;
  }
  writeU16(value) {
    this.ensureBufferSizeToWrite(2);
    this.view.setUint16(this.pos, value);
    this.pos += 2;
  }
  writeI16(value) {
    this.ensureBufferSizeToWrite(2);
    this.view.setInt16(this.pos, value);
    this.pos += 2;
  }
  writeU32(value) {
    this.ensureBufferSizeToWrite(4);
    this.view.setUint32(this.pos, value);
    this.pos += 4;
  }
  writeI32(value) {
    this.ensureBufferSizeToWrite(4);
    this.view.setInt32(this.pos, value);
    this.pos += 4;
  }
  writeF32(value) {
    this.ensureBufferSizeToWrite(4);
    this.view.setFloat32(this.pos, value);
    this.pos += 4;
  }
  writeF64(value) {
    this.ensureBufferSizeToWrite(8);
    this.view.setFloat64(this.pos, value);
    this.pos += 8;
  }
  writeU64(value) {
    this.ensureBufferSizeToWrite(8);
    setUint64(this.view, this.pos, value);
    this.pos += 8;
  }
  writeI64(value) {
    this.ensureBufferSizeToWrite(8);
    setInt64(this.view, this.pos, value);
    this.pos += 8;
  }
  writeBigUint64(value) {
    this.ensureBufferSizeToWrite(8);
    this.view.setBigUint64(this.pos, value);
    this.pos += 8;
  }
  writeBigInt64(value) {
    this.ensureBufferSizeToWrite(8);
    this.view.setBigInt64(this.pos, value);
    this.pos += 8;
  }
};

// node_modules/@msgpack/msgpack/dist.esm/encode.mjs
function encode(value, options) {
  const encoder = new Encoder(options);
  return encoder.encodeSharedRef(value);
}

// node_modules/@msgpack/msgpack/dist.esm/utils/prettyByte.mjs
function prettyByte(byte) {
  return `${byte < 0 ? "-" : ""}0x${Math.abs(byte).toString(16).padStart(2, "0")}`;
}

// node_modules/@msgpack/msgpack/dist.esm/CachedKeyDecoder.mjs
var DEFAULT_MAX_KEY_LENGTH = 16;
var DEFAULT_MAX_LENGTH_PER_KEY = 16;
var CachedKeyDecoder = class {
  hit = 0;
  miss = 0;
  caches;
  maxKeyLength;
  maxLengthPerKey;
  constructor(maxKeyLength = DEFAULT_MAX_KEY_LENGTH, maxLengthPerKey = DEFAULT_MAX_LENGTH_PER_KEY) {
    this.maxKeyLength = maxKeyLength;
    this.maxLengthPerKey = maxLengthPerKey;
    this.caches = [];
    for (let i = 0; i < this.maxKeyLength; i++) {
      this.caches.push([]);
    }
  }
  canBeCached(byteLength) {
    return byteLength > 0 && byteLength <= this.maxKeyLength;
  }
  find(bytes, inputOffset, byteLength) {
    const records = this.caches[byteLength - 1];
    FIND_CHUNK: for (const record of records) {
      const recordBytes = record.bytes;
      for (let j = 0; j < byteLength; j++) {
        if (recordBytes[j] !== bytes[inputOffset + j]) {
          continue FIND_CHUNK;
        }
      }
      return record.str;
    }
    return null;
  }
  store(bytes, value) {
    const records = this.caches[bytes.length - 1];
    const record = { bytes, str: value };
    if (records.length >= this.maxLengthPerKey) {
      records[Math.random() * records.length | 0] = record;
    } else {
      records.push(record);
    }
  }
  decode(bytes, inputOffset, byteLength) {
    const cachedValue = this.find(bytes, inputOffset, byteLength);
    if (cachedValue != null) {
      this.hit++;
      return cachedValue;
    }
    this.miss++;
    const str = utf8DecodeJs(bytes, inputOffset, byteLength);
    const slicedCopyOfBytes = Uint8Array.prototype.slice.call(bytes, inputOffset, inputOffset + byteLength);
    this.store(slicedCopyOfBytes, str);
    return str;
  }
};

// node_modules/@msgpack/msgpack/dist.esm/Decoder.mjs
var STATE_ARRAY = "array";
var STATE_MAP_KEY = "map_key";
var STATE_MAP_VALUE = "map_value";
var mapKeyConverter = (key) => {
  if (typeof key === "string" || typeof key === "number") {
    return key;
  }
  throw new DecodeError("The type of key must be string or number but " + typeof key);
};
var StackPool = class {
  stack = [];
  stackHeadPosition = -1;
  get length() {
    return this.stackHeadPosition + 1;
  }
  top() {
    return this.stack[this.stackHeadPosition];
  }
  pushArrayState(size) {
    const state = this.getUninitializedStateFromPool();
    state.type = STATE_ARRAY;
    state.position = 0;
    state.size = size;
    state.array = new Array(size);
  }
  pushMapState(size) {
    const state = this.getUninitializedStateFromPool();
    state.type = STATE_MAP_KEY;
    state.readCount = 0;
    state.size = size;
    state.map = {};
  }
  getUninitializedStateFromPool() {
    this.stackHeadPosition++;
    if (this.stackHeadPosition === this.stack.length) {
      const partialState = {
        type: void 0,
        size: 0,
        array: void 0,
        position: 0,
        readCount: 0,
        map: void 0,
        key: null
      };
      this.stack.push(partialState);
    }
    return this.stack[this.stackHeadPosition];
  }
  release(state) {
    const topStackState = this.stack[this.stackHeadPosition];
    if (topStackState !== state) {
      throw new Error("Invalid stack state. Released state is not on top of the stack.");
    }
    if (state.type === STATE_ARRAY) {
      const partialState = state;
      partialState.size = 0;
      partialState.array = void 0;
      partialState.position = 0;
      partialState.type = void 0;
    }
    if (state.type === STATE_MAP_KEY || state.type === STATE_MAP_VALUE) {
      const partialState = state;
      partialState.size = 0;
      partialState.map = void 0;
      partialState.readCount = 0;
      partialState.type = void 0;
    }
    this.stackHeadPosition--;
  }
  reset() {
    this.stack.length = 0;
    this.stackHeadPosition = -1;
  }
};
var HEAD_BYTE_REQUIRED = -1;
var EMPTY_VIEW = new DataView(new ArrayBuffer(0));
var EMPTY_BYTES = new Uint8Array(EMPTY_VIEW.buffer);
try {
  EMPTY_VIEW.getInt8(0);
} catch (e) {
  if (!(e instanceof RangeError)) {
    throw new Error("This module is not supported in the current JavaScript engine because DataView does not throw RangeError on out-of-bounds access");
  }
}
var MORE_DATA = new RangeError("Insufficient data");
var sharedCachedKeyDecoder = new CachedKeyDecoder();
var Decoder = class _Decoder {
  extensionCodec;
  context;
  useBigInt64;
  rawStrings;
  maxStrLength;
  maxBinLength;
  maxArrayLength;
  maxMapLength;
  maxExtLength;
  keyDecoder;
  mapKeyConverter;
  totalPos = 0;
  pos = 0;
  view = EMPTY_VIEW;
  bytes = EMPTY_BYTES;
  headByte = HEAD_BYTE_REQUIRED;
  stack = new StackPool();
  entered = false;
  constructor(options) {
    this.extensionCodec = options?.extensionCodec ?? ExtensionCodec.defaultCodec;
    this.context = options?.context;
    this.useBigInt64 = options?.useBigInt64 ?? false;
    this.rawStrings = options?.rawStrings ?? false;
    this.maxStrLength = options?.maxStrLength ?? UINT32_MAX;
    this.maxBinLength = options?.maxBinLength ?? UINT32_MAX;
    this.maxArrayLength = options?.maxArrayLength ?? UINT32_MAX;
    this.maxMapLength = options?.maxMapLength ?? UINT32_MAX;
    this.maxExtLength = options?.maxExtLength ?? UINT32_MAX;
    this.keyDecoder = options?.keyDecoder !== void 0 ? options.keyDecoder : sharedCachedKeyDecoder;
    this.mapKeyConverter = options?.mapKeyConverter ?? mapKeyConverter;
  }
  clone() {
    return new _Decoder({
      extensionCodec: this.extensionCodec,
      context: this.context,
      useBigInt64: this.useBigInt64,
      rawStrings: this.rawStrings,
      maxStrLength: this.maxStrLength,
      maxBinLength: this.maxBinLength,
      maxArrayLength: this.maxArrayLength,
      maxMapLength: this.maxMapLength,
      maxExtLength: this.maxExtLength,
      keyDecoder: this.keyDecoder
    });
  }
  reinitializeState() {
    this.totalPos = 0;
    this.headByte = HEAD_BYTE_REQUIRED;
    this.stack.reset();
  }
  setBuffer(buffer) {
    const bytes = ensureUint8Array(buffer);
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.pos = 0;
  }
  appendBuffer(buffer) {
    if (this.headByte === HEAD_BYTE_REQUIRED && !this.hasRemaining(1)) {
      this.setBuffer(buffer);
    } else {
      const remainingData = this.bytes.subarray(this.pos);
      const newData = ensureUint8Array(buffer);
      const newBuffer = new Uint8Array(remainingData.length + newData.length);
      newBuffer.set(remainingData);
      newBuffer.set(newData, remainingData.length);
      this.setBuffer(newBuffer);
    }
  }
  hasRemaining(size) {
    return this.view.byteLength - this.pos >= size;
  }
  createExtraByteError(posToShow) {
    const { view, pos } = this;
    return new RangeError(`Extra ${view.byteLength - pos} of ${view.byteLength} byte(s) found at buffer[${posToShow}]`);
  }
  /**
   * @throws {@link DecodeError}
   * @throws {@link RangeError}
   */
  decode(buffer) {
    if (this.entered) {
      const instance = this.clone();
      return instance.decode(buffer);
    }
    try {
      this.entered = true;
      this.reinitializeState();
      this.setBuffer(buffer);
      const object = this.doDecodeSync();
      if (this.hasRemaining(1)) {
        throw this.createExtraByteError(this.pos);
      }
      return object;
    } finally {
      this.entered = false;
    }
  }
  *decodeMulti(buffer) {
    if (this.entered) {
      const instance = this.clone();
      yield* instance.decodeMulti(buffer);
      return;
    }
    try {
      this.entered = true;
      this.reinitializeState();
      this.setBuffer(buffer);
      while (this.hasRemaining(1)) {
        yield this.doDecodeSync();
      }
    } finally {
      this.entered = false;
    }
  }
  async decodeAsync(stream) {
    if (this.entered) {
      const instance = this.clone();
      return instance.decodeAsync(stream);
    }
    try {
      this.entered = true;
      let decoded = false;
      let object;
      for await (const buffer of stream) {
        if (decoded) {
          this.entered = false;
          throw this.createExtraByteError(this.totalPos);
        }
        this.appendBuffer(buffer);
        try {
          object = this.doDecodeSync();
          decoded = true;
        } catch (e) {
          if (!(e instanceof RangeError)) {
            throw e;
          }
        }
        this.totalPos += this.pos;
      }
      if (decoded) {
        if (this.hasRemaining(1)) {
          throw this.createExtraByteError(this.totalPos);
        }
        return object;
      }
      const { headByte, pos, totalPos } = this;
      throw new RangeError(`Insufficient data in parsing ${prettyByte(headByte)} at ${totalPos} (${pos} in the current buffer)`);
    } finally {
      this.entered = false;
    }
  }
  decodeArrayStream(stream) {
    return this.decodeMultiAsync(stream, true);
  }
  decodeStream(stream) {
    return this.decodeMultiAsync(stream, false);
  }
  async *decodeMultiAsync(stream, isArray) {
    if (this.entered) {
      const instance = this.clone();
      yield* instance.decodeMultiAsync(stream, isArray);
      return;
    }
    try {
      this.entered = true;
      let isArrayHeaderRequired = isArray;
      let arrayItemsLeft = -1;
      for await (const buffer of stream) {
        if (isArray && arrayItemsLeft === 0) {
          throw this.createExtraByteError(this.totalPos);
        }
        this.appendBuffer(buffer);
        if (isArrayHeaderRequired) {
          arrayItemsLeft = this.readArraySize();
          isArrayHeaderRequired = false;
          this.complete();
        }
        try {
          while (true) {
            yield this.doDecodeSync();
            if (--arrayItemsLeft === 0) {
              break;
            }
          }
        } catch (e) {
          if (!(e instanceof RangeError)) {
            throw e;
          }
        }
        this.totalPos += this.pos;
      }
    } finally {
      this.entered = false;
    }
  }
  doDecodeSync() {
    DECODE: while (true) {
      const headByte = this.readHeadByte();
      let object;
      if (headByte >= 224) {
        object = headByte - 256;
      } else if (headByte < 192) {
        if (headByte < 128) {
          object = headByte;
        } else if (headByte < 144) {
          const size = headByte - 128;
          if (size !== 0) {
            this.pushMapState(size);
            this.complete();
            continue DECODE;
          } else {
            object = {};
          }
        } else if (headByte < 160) {
          const size = headByte - 144;
          if (size !== 0) {
            this.pushArrayState(size);
            this.complete();
            continue DECODE;
          } else {
            object = [];
          }
        } else {
          const byteLength = headByte - 160;
          object = this.decodeString(byteLength, 0);
        }
      } else if (headByte === 192) {
        object = null;
      } else if (headByte === 194) {
        object = false;
      } else if (headByte === 195) {
        object = true;
      } else if (headByte === 202) {
        object = this.readF32();
      } else if (headByte === 203) {
        object = this.readF64();
      } else if (headByte === 204) {
        object = this.readU8();
      } else if (headByte === 205) {
        object = this.readU16();
      } else if (headByte === 206) {
        object = this.readU32();
      } else if (headByte === 207) {
        if (this.useBigInt64) {
          object = this.readU64AsBigInt();
        } else {
          object = this.readU64();
        }
      } else if (headByte === 208) {
        object = this.readI8();
      } else if (headByte === 209) {
        object = this.readI16();
      } else if (headByte === 210) {
        object = this.readI32();
      } else if (headByte === 211) {
        if (this.useBigInt64) {
          object = this.readI64AsBigInt();
        } else {
          object = this.readI64();
        }
      } else if (headByte === 217) {
        const byteLength = this.lookU8();
        object = this.decodeString(byteLength, 1);
      } else if (headByte === 218) {
        const byteLength = this.lookU16();
        object = this.decodeString(byteLength, 2);
      } else if (headByte === 219) {
        const byteLength = this.lookU32();
        object = this.decodeString(byteLength, 4);
      } else if (headByte === 220) {
        const size = this.readU16();
        if (size !== 0) {
          this.pushArrayState(size);
          this.complete();
          continue DECODE;
        } else {
          object = [];
        }
      } else if (headByte === 221) {
        const size = this.readU32();
        if (size !== 0) {
          this.pushArrayState(size);
          this.complete();
          continue DECODE;
        } else {
          object = [];
        }
      } else if (headByte === 222) {
        const size = this.readU16();
        if (size !== 0) {
          this.pushMapState(size);
          this.complete();
          continue DECODE;
        } else {
          object = {};
        }
      } else if (headByte === 223) {
        const size = this.readU32();
        if (size !== 0) {
          this.pushMapState(size);
          this.complete();
          continue DECODE;
        } else {
          object = {};
        }
      } else if (headByte === 196) {
        const size = this.lookU8();
        object = this.decodeBinary(size, 1);
      } else if (headByte === 197) {
        const size = this.lookU16();
        object = this.decodeBinary(size, 2);
      } else if (headByte === 198) {
        const size = this.lookU32();
        object = this.decodeBinary(size, 4);
      } else if (headByte === 212) {
        object = this.decodeExtension(1, 0);
      } else if (headByte === 213) {
        object = this.decodeExtension(2, 0);
      } else if (headByte === 214) {
        object = this.decodeExtension(4, 0);
      } else if (headByte === 215) {
        object = this.decodeExtension(8, 0);
      } else if (headByte === 216) {
        object = this.decodeExtension(16, 0);
      } else if (headByte === 199) {
        const size = this.lookU8();
        object = this.decodeExtension(size, 1);
      } else if (headByte === 200) {
        const size = this.lookU16();
        object = this.decodeExtension(size, 2);
      } else if (headByte === 201) {
        const size = this.lookU32();
        object = this.decodeExtension(size, 4);
      } else {
        throw new DecodeError(`Unrecognized type byte: ${prettyByte(headByte)}`);
      }
      this.complete();
      const stack = this.stack;
      while (stack.length > 0) {
        const state = stack.top();
        if (state.type === STATE_ARRAY) {
          state.array[state.position] = object;
          state.position++;
          if (state.position === state.size) {
            object = state.array;
            stack.release(state);
          } else {
            continue DECODE;
          }
        } else if (state.type === STATE_MAP_KEY) {
          if (object === "__proto__") {
            throw new DecodeError("The key __proto__ is not allowed");
          }
          state.key = this.mapKeyConverter(object);
          state.type = STATE_MAP_VALUE;
          continue DECODE;
        } else {
          state.map[state.key] = object;
          state.readCount++;
          if (state.readCount === state.size) {
            object = state.map;
            stack.release(state);
          } else {
            state.key = null;
            state.type = STATE_MAP_KEY;
            continue DECODE;
          }
        }
      }
      return object;
    }
  }
  readHeadByte() {
    if (this.headByte === HEAD_BYTE_REQUIRED) {
      this.headByte = this.readU8();
    }
    return this.headByte;
  }
  complete() {
    this.headByte = HEAD_BYTE_REQUIRED;
  }
  readArraySize() {
    const headByte = this.readHeadByte();
    switch (headByte) {
      case 220:
        return this.readU16();
      case 221:
        return this.readU32();
      default: {
        if (headByte < 160) {
          return headByte - 144;
        } else {
          throw new DecodeError(`Unrecognized array type byte: ${prettyByte(headByte)}`);
        }
      }
    }
  }
  pushMapState(size) {
    if (size > this.maxMapLength) {
      throw new DecodeError(`Max length exceeded: map length (${size}) > maxMapLengthLength (${this.maxMapLength})`);
    }
    this.stack.pushMapState(size);
  }
  pushArrayState(size) {
    if (size > this.maxArrayLength) {
      throw new DecodeError(`Max length exceeded: array length (${size}) > maxArrayLength (${this.maxArrayLength})`);
    }
    this.stack.pushArrayState(size);
  }
  decodeString(byteLength, headerOffset) {
    if (!this.rawStrings || this.stateIsMapKey()) {
      return this.decodeUtf8String(byteLength, headerOffset);
    }
    return this.decodeBinary(byteLength, headerOffset);
  }
  /**
   * @throws {@link RangeError}
   */
  decodeUtf8String(byteLength, headerOffset) {
    if (byteLength > this.maxStrLength) {
      throw new DecodeError(`Max length exceeded: UTF-8 byte length (${byteLength}) > maxStrLength (${this.maxStrLength})`);
    }
    if (this.bytes.byteLength < this.pos + headerOffset + byteLength) {
      throw MORE_DATA;
    }
    const offset = this.pos + headerOffset;
    let object;
    if (this.stateIsMapKey() && this.keyDecoder?.canBeCached(byteLength)) {
      object = this.keyDecoder.decode(this.bytes, offset, byteLength);
    } else {
      object = utf8Decode(this.bytes, offset, byteLength);
    }
    this.pos += headerOffset + byteLength;
    return object;
  }
  stateIsMapKey() {
    if (this.stack.length > 0) {
      const state = this.stack.top();
      return state.type === STATE_MAP_KEY;
    }
    return false;
  }
  /**
   * @throws {@link RangeError}
   */
  decodeBinary(byteLength, headOffset) {
    if (byteLength > this.maxBinLength) {
      throw new DecodeError(`Max length exceeded: bin length (${byteLength}) > maxBinLength (${this.maxBinLength})`);
    }
    if (!this.hasRemaining(byteLength + headOffset)) {
      throw MORE_DATA;
    }
    const offset = this.pos + headOffset;
    const object = this.bytes.subarray(offset, offset + byteLength);
    this.pos += headOffset + byteLength;
    return object;
  }
  decodeExtension(size, headOffset) {
    if (size > this.maxExtLength) {
      throw new DecodeError(`Max length exceeded: ext length (${size}) > maxExtLength (${this.maxExtLength})`);
    }
    const extType = this.view.getInt8(this.pos + headOffset);
    const data = this.decodeBinary(
      size,
      headOffset + 1
      /* extType */
    );
    return this.extensionCodec.decode(data, extType, this.context);
  }
  lookU8() {
    return this.view.getUint8(this.pos);
  }
  lookU16() {
    return this.view.getUint16(this.pos);
  }
  lookU32() {
    return this.view.getUint32(this.pos);
  }
  readU8() {
    const value = this.view.getUint8(this.pos);
    this.pos++;
    return value;
  }
  readI8() {
    const value = this.view.getInt8(this.pos);
    this.pos++;
    return value;
  }
  readU16() {
    const value = this.view.getUint16(this.pos);
    this.pos += 2;
    return value;
  }
  readI16() {
    const value = this.view.getInt16(this.pos);
    this.pos += 2;
    return value;
  }
  readU32() {
    const value = this.view.getUint32(this.pos);
    this.pos += 4;
    return value;
  }
  readI32() {
    const value = this.view.getInt32(this.pos);
    this.pos += 4;
    return value;
  }
  readU64() {
    const value = getUint64(this.view, this.pos);
    this.pos += 8;
    return value;
  }
  readI64() {
    const value = getInt64(this.view, this.pos);
    this.pos += 8;
    return value;
  }
  readU64AsBigInt() {
    const value = this.view.getBigUint64(this.pos);
    this.pos += 8;
    return value;
  }
  readI64AsBigInt() {
    const value = this.view.getBigInt64(this.pos);
    this.pos += 8;
    return value;
  }
  readF32() {
    const value = this.view.getFloat32(this.pos);
    this.pos += 4;
    return value;
  }
  readF64() {
    const value = this.view.getFloat64(this.pos);
    this.pos += 8;
    return value;
  }
};

// node_modules/@msgpack/msgpack/dist.esm/decode.mjs
function decode(buffer, options) {
  const decoder = new Decoder(options);
  return decoder.decode(buffer);
}

// src/errors.ts
var SIEError = class extends Error {
  name = "SIEError";
  /** The server's error code, e.g. `"MODEL_NOT_FOUND"`. */
  code;
  /** The HTTP status. */
  statusCode;
  /** Details of the request from the response headers. */
  request;
  /** The server's Retry-After, in milliseconds. */
  retryAfter;
  constructor(message, details = {}) {
    super(message, details.cause === void 0 ? void 0 : { cause: details.cause });
    this.code = details.code;
    this.statusCode = details.statusCode;
    this.request = details.request;
    this.retryAfter = details.retryAfter;
  }
  /** Id of the request, for bug reports, if the server sent one. */
  get requestId() {
    return this.request?.id;
  }
};
var SIEConnectionError = class extends SIEError {
  name = "SIEConnectionError";
  kind;
  constructor(message, kind = "other", details = {}) {
    super(message, details);
    this.kind = kind;
  }
};
var RequestError = class extends SIEError {
  name = "RequestError";
  /** The invalid field, if the server named one. */
  param;
  constructor(message, details = {}) {
    super(message, details);
    this.param = details.param;
  }
};
var InputTooLongError = class extends RequestError {
  name = "InputTooLongError";
};
var RateLimitError = class extends RequestError {
  name = "RateLimitError";
};
var InsufficientCreditsError = class extends RequestError {
  name = "InsufficientCreditsError";
};
var SpendLimitError = class extends RequestError {
  name = "SpendLimitError";
};
var AccountInactiveError = class extends RequestError {
  name = "AccountInactiveError";
};
var RelayUnavailableError = class extends RequestError {
  name = "RelayUnavailableError";
};
var ServerError = class extends SIEError {
  name = "ServerError";
};
var ModelLoadFailedError = class extends ServerError {
  name = "ModelLoadFailedError";
  model;
  errorClass;
  permanent;
  attempts;
  constructor(message, details = {}) {
    super(message, details);
    const { error_class, permanent, attempts } = details.fields ?? {};
    this.model = details.model;
    this.errorClass = typeof error_class === "string" ? error_class : void 0;
    this.permanent = typeof permanent === "boolean" ? permanent : void 0;
    this.attempts = typeof attempts === "number" ? attempts : void 0;
  }
};
var ResourceExhaustedError = class extends ServerError {
  name = "ResourceExhaustedError";
  model;
  retries;
  constructor(message, details = {}) {
    super(message, details);
    this.model = details.model;
    this.retries = details.retries ?? 0;
  }
};
var IncompleteBatchError = class extends ServerError {
  name = "IncompleteBatchError";
  expected;
  received;
  missingIds;
  constructor(message, counts, details = {}) {
    super(message, details);
    this.expected = counts.expected;
    this.received = counts.received;
    this.missingIds = counts.missingIds;
  }
};
var AccountStateUnavailableError = class extends ServerError {
  name = "AccountStateUnavailableError";
};
var ProvisioningError = class extends SIEError {
  name = "ProvisioningError";
  gpu;
  constructor(message, details = {}) {
    super(message, details);
    this.gpu = details.gpu;
  }
};
var ModelLoadingError = class extends SIEError {
  name = "ModelLoadingError";
  model;
  constructor(message, details = {}) {
    super(message, details);
    this.model = details.model;
  }
};
var LoraLoadingError = class extends SIEError {
  name = "LoraLoadingError";
  lora;
  model;
  constructor(message, details = {}) {
    super(message, details);
    this.lora = details.lora;
    this.model = details.model;
  }
};
var PoolError = class extends SIEError {
  constructor(message, poolName, state, details = {}) {
    super(message, details);
    this.poolName = poolName;
    this.state = state;
  }
  poolName;
  state;
  name = "PoolError";
};
var REQUEST_ERRORS = /* @__PURE__ */ new Map([
  ["INPUT_TOO_LONG", InputTooLongError],
  ["RATE_LIMIT", RateLimitError],
  ["INSUFFICIENT_CREDITS", InsufficientCreditsError],
  ["SPEND_LIMIT_EXCEEDED", SpendLimitError],
  ["ACCOUNT_SUSPENDED", AccountInactiveError],
  ["RELAY_UNAVAILABLE", RelayUnavailableError]
]);
var SERVER_ERRORS = /* @__PURE__ */ new Map([
  ["MODEL_LOAD_FAILED", ModelLoadFailedError],
  ["RESOURCE_EXHAUSTED", ResourceExhaustedError],
  ["ACCOUNT_STATE_UNAVAILABLE", AccountStateUnavailableError],
  ["PROVISIONING", ProvisioningError],
  ["MODEL_LOADING", ModelLoadingError],
  ["LORA_LOADING", LoraLoadingError]
]);
function errorClass(status, code) {
  if (status >= 500) return SERVER_ERRORS.get(code) ?? ServerError;
  if (status === 429) return RateLimitError;
  return REQUEST_ERRORS.get(code) ?? RequestError;
}

// src/messages/ndarray.ts
var READERS = /* @__PURE__ */ new Map([
  ["<f2", (bytes) => halfToSingle(new Uint16Array(copied(bytes)))],
  ["<f4", (bytes) => new Float32Array(copied(bytes))],
  ["<f8", (bytes) => new Float64Array(copied(bytes))],
  ["<i2", (bytes) => new Int16Array(copied(bytes))],
  ["<i4", (bytes) => new Int32Array(copied(bytes))],
  ["<u2", (bytes) => new Uint16Array(copied(bytes))],
  ["<u4", (bytes) => new Uint32Array(copied(bytes))],
  ["|i1", (bytes) => new Int8Array(copied(bytes))],
  ["|u1", (bytes) => new Uint8Array(copied(bytes))],
  ["|b1", (bytes) => new Uint8Array(copied(bytes))]
]);
var MAX_DIMENSIONS = 8;
function arrayIn(map) {
  const { nd, type, data } = map;
  const keys = Object.keys(map);
  if (typeof nd !== "boolean" || !(data instanceof Uint8Array)) return void 0;
  if (keys.length !== (nd ? 5 : 3)) throw new RangeError("the fields of an array are not those of NumPy");
  const shape = nd ? map["shape"] : [];
  const read = READERS.get(type);
  if (read === void 0) throw new RangeError(`array dtype ${JSON.stringify(type)} is not allowed`);
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
function nested(values, [length = 0, ...rest]) {
  if (rest.length === 0) return values;
  if (values.length === 0) return [];
  const step = values.length / length;
  return Array.from({ length }, (_, row) => nested(values.subarray(row * step, (row + 1) * step), rest));
}
function isShape(shape) {
  return Array.isArray(shape) && shape.length <= MAX_DIMENSIONS && shape.every((n) => Number.isSafeInteger(n) && n >= 0);
}
function copied(bytes) {
  return new Uint8Array(bytes).buffer;
}
function halfToSingle(halves) {
  const bits = new Uint32Array(halves.length);
  const values = new Float32Array(bits.buffer);
  for (let i = 0; i < halves.length; i++) {
    const half = halves[i];
    bits[i] = (half & 32767) << 13;
    const magnitude = (half & 31744) === 31744 ? half & 1023 ? NaN : Infinity : values[i] * 2 ** 112;
    values[i] = half & 32768 ? -magnitude : magnitude;
  }
  return values;
}

// src/messages/msgpack.ts
var CONTENT_TYPE = "application/msgpack";
var Packed = class {
  constructor(elements) {
    this.elements = elements;
  }
  elements;
};
function packMessage(value, path = "") {
  const lone = loneSurrogate(value, path);
  if (lone !== void 0) throw new TypeError(`${lone} is not valid Unicode: it has a lone surrogate`);
  return encode(value, { ignoreUndefined: true });
}
function packMap(fields) {
  const present2 = Object.entries(fields).filter(([, value]) => value !== void 0);
  const pieces = [Uint8Array.of(128 | present2.length)];
  for (const [name, value] of present2) {
    pieces.push(packMessage(name));
    if (value instanceof Packed) pieces.push(arrayHeader(value.elements.length), ...value.elements);
    else pieces.push(packMessage(value, name));
  }
  const packed = new Uint8Array(pieces.reduce((size, piece) => size + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    packed.set(piece, at);
    at += piece.length;
  }
  return packed;
}
function unpackMessage(bytes) {
  return withArrays(decode(bytes, { mapKeyConverter: textKey }));
}
function unpackBody(content, what) {
  let body;
  try {
    body = unpackMessage(content);
  } catch (error) {
    throw malformed(what, error instanceof Error ? error.message : String(error), error);
  }
  if (!isMap(body)) throw malformed(what, "expected a map");
  return body;
}
function malformed(what, reason, cause) {
  return new RequestError(`Malformed ${what} MessagePack response (${reason})`, { cause });
}
function isMap(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value);
}
function textKey(key) {
  const text = key instanceof Uint8Array ? String.fromCharCode(...key.subarray(0, 16)) : key;
  if (typeof text !== "string" || text === "__proto__") throw new RangeError("a map key is neither text nor bytes");
  return text;
}
function withArrays(value) {
  if (Array.isArray(value)) return value.map(withArrays);
  if (!isMap(value)) return value;
  const array = "nd" in value ? arrayIn(value) : void 0;
  if (array !== void 0) return array;
  for (const key of Object.keys(value)) value[key] = withArrays(value[key]);
  return value;
}
function arrayHeader(length) {
  if (length < 16) return Uint8Array.of(144 | length);
  if (length < 2 ** 16) return Uint8Array.of(220, length >> 8, length);
  return Uint8Array.of(221, length >> 24, length >> 16, length >> 8, length);
}
function loneSurrogate(value, path) {
  if (typeof value === "string") return LONE_SURROGATE.test(value) ? path || "a text" : void 0;
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return void 0;
  for (const [key, element] of Object.entries(value)) {
    const below = Array.isArray(value) ? `${path}[${key}]` : path ? `${path}.${key}` : key;
    const found = LONE_SURROGATE.test(key) ? `a key of ${path}` : loneSurrogate(element, below);
    if (found !== void 0) return found;
  }
  return void 0;
}
var LONE_SURROGATE = /\p{Surrogate}/u;

// src/messages/reply.ts
var UNITS = "x-sie-units-";
var EXCERPT_CHARS = 200;
var VERSION = /\/v1(\/.*)?$/s;
function requestInfo(headers) {
  const info = {};
  const id = headers.get("x-sie-request-id");
  const modelRevision = headers.get("x-sie-model-revision");
  const credits = headers.get("x-sie-credits-debited");
  if (id) info.id = id;
  if (modelRevision) info.modelRevision = modelRevision;
  if (credits && Number.isFinite(Number(credits))) info.creditsDebited = Number(credits);
  headers.forEach((value, name) => {
    if (name.startsWith(UNITS) && Number.isFinite(Number(value))) {
      info.units = { ...info.units, [name.slice(UNITS.length)]: Number(value) };
    }
  });
  return Object.keys(info).length > 0 ? info : void 0;
}
var TIMES = {
  totalMs: "x-total-time",
  queueMs: "x-queue-time",
  tokenizationMs: "x-tokenization-time",
  inferenceMs: "x-inference-time",
  postprocessingMs: "x-postprocessing-time"
};
function timingInfo(headers) {
  const timing = {};
  for (const [name, header] of Object.entries(TIMES)) {
    const ms = Number.parseFloat(headers.get(header) ?? "");
    if (Number.isFinite(ms)) timing[name] = ms;
  }
  return Object.keys(timing).length > 0 ? timing : void 0;
}
function errorIn(reply, context, retries, retryAfter) {
  const { code, message, fields } = serverMessage(reply);
  const lacksRoute = reply.status === 404 && (code === void 0 || code === "NOT_FOUND");
  const text = withInputIndex(message, context);
  return new (errorClass(reply.status, code))(lacksRoute ? withoutRoute(text, context) : text, {
    code,
    statusCode: reply.status || void 0,
    request: requestInfo(reply.headers),
    retryAfter,
    param: typeof fields["param"] === "string" ? withInputIndex(fields["param"], context) : void 0,
    model: context.model,
    lora: context.lora,
    retries,
    fields
  });
}
function withoutRoute(message, { baseUrl, route }) {
  const origin = baseUrl.split("/", 3).join("/");
  const path = baseUrl.slice(origin.length);
  if (path === "") return `${message} (${baseUrl}${route}); check that ${baseUrl} is the address of an SIE server`;
  const nearest = VERSION.test(path) ? origin + path.replace(VERSION, "") : origin;
  return `${message} (${baseUrl}${route}); the nearest route is ${nearest}${route}: try the base URL ${nearest}`;
}
function serverMessage(reply) {
  const text = new TextDecoder().decode(reply.content);
  const body = parsedJson(text);
  const faults = isMap(body) ? [body["detail"], body["error"]].filter((fault2) => fault2 !== void 0) : [];
  const fault = faults.find(isMap) ?? faults[0];
  const inner = isMap(fault) && isMap(fault["error"]) ? fault["error"] : fault;
  const fields = isMap(inner) ? inner : {};
  const message = typeof inner === "string" ? inner : fields["message"];
  return {
    code: reply.headers.get("x-sie-error-code") || codeIn(fields) || (isMap(body) ? codeIn(body) : void 0),
    message: typeof message === "string" && message ? message : fallbackMessage(reply, text),
    fields
  };
}
function codeIn(fields) {
  return typeof fields["code"] === "string" && fields["code"] ? fields["code"] : void 0;
}
function parsedJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return void 0;
  }
}
function excerptOf(text) {
  return text.replace(/\s+/g, " ").trim().slice(0, EXCERPT_CHARS);
}
function fallbackMessage(reply, text) {
  const { status, headers } = reply;
  if (status < 400) {
    const target = headers.get("location") ?? "another address";
    return `HTTP ${status || 302}: redirected to ${target}; redirects are not followed, so check the base URL`;
  }
  const extract = excerptOf(text);
  return extract ? `HTTP ${status}: ${extract}` : `HTTP ${status} with an empty body`;
}
function withInputIndex(text, context) {
  return text.replace(
    /\bitems\[(\d{1,9})\]/g,
    (_, index) => `items[${Number(index) + (context.firstItem ?? 0)}]`
  );
}

// src/messages/results.ts
function scoreResult(reply) {
  const { model, scores, query_id, usage } = bodyOf(reply, "score");
  if (typeof model !== "string" || !Array.isArray(scores)) {
    throw malformed("score", "expected the fields 'model' and 'scores'");
  }
  const result = { model, scores: scores.map(scoreEntry) };
  if (typeof query_id === "string") result.queryId = query_id;
  if (isMap(usage)) result.usage = camelCased(usage);
  const timing = timingInfo(reply.headers);
  if (timing) result.timing = timing;
  return withRequest(result, reply);
}
function mergedScores(parts, topK) {
  const [first] = parts;
  if (parts.length === 1) return first;
  const entries2 = parts.flatMap((part) => part.scores).sort((a, b) => b.score - a.score);
  const kept = typeof topK === "number" ? entries2.slice(0, topK) : entries2;
  const result = { ...first, scores: kept.map((entry, rank) => ({ ...entry, rank })) };
  const usage = summed(parts.map((part) => part.usage));
  const timing = summed(parts.map((part) => part.timing));
  const request = summed(parts.map((part) => part.request));
  return { ...result, ...usage && { usage }, ...timing && { timing }, ...request && { request } };
}
function encodeResults(reply, chunk) {
  const body = bodyOf(reply, "encode");
  const timing = isMap(body["timing"]) ? camelCased(body["timing"]) : void 0;
  return complete(entries(body, "encode"), chunk, reply).map((entry) => {
    const result = {};
    if (typeof entry["id"] === "string") result.id = entry["id"];
    if (entry["dense"] != null) result.dense = vector(entry["dense"], "values", "dense");
    if (entry["sparse"] != null) result.sparse = sparse(entry["sparse"]);
    if (entry["multivector"] != null) result.multivector = vectors(entry["multivector"]);
    if (typeof body["model"] === "string") result.model = body["model"];
    if (timing) result.timing = timing;
    return withRequest(result, reply);
  });
}
function extractResults(reply, chunk) {
  return complete(entries(bodyOf(reply, "extract"), "extract"), chunk, reply);
}
function modelInfos(reply) {
  const models = jsonMap(reply)["models"];
  if (!Array.isArray(models) || !models.every(isMap)) {
    throw new RequestError("Malformed models JSON response (expected a list under 'models')");
  }
  return models.map((model) => camelCased(model));
}
function modelInfo(reply) {
  return camelCased(jsonMap(reply));
}
function statusMessage(reply) {
  return jsonMap(reply, "status");
}
function scoreEntry(entry, index) {
  const { itemId, score, rank } = isMap(entry) ? camelCased(entry) : {};
  if (typeof itemId !== "string" || typeof score !== "number" || !Number.isInteger(rank)) {
    throw malformed("score", `scores[${index}] must have an item_id, a score and a rank`);
  }
  return camelCased(entry);
}
function bodyOf(reply, what) {
  try {
    return unpackBody(reply.content, what);
  } catch (error) {
    const { cause } = error;
    if (cause instanceof RangeError && reply.headers.get("transfer-encoding") === "chunked") {
      throw new SIEConnectionError(`the ${what} response was cut off`, "connect", { cause });
    }
    const contentType = reply.headers.get("content-type");
    const extract = excerptOf(new TextDecoder().decode(reply.content));
    if (!extract || !contentType || contentType.includes("msgpack")) throw error;
    throw malformed(what, `it is ${contentType}: ${extract}`, cause);
  }
}
function entries(body, what) {
  const items = body["items"];
  if (!Array.isArray(items) || !items.every(isMap)) throw malformed(what, "expected a list of maps under 'items'");
  return items;
}
function complete(results, chunk, reply) {
  const [expected, received] = [chunk.ids.length, results.length];
  if (expected === received) return results;
  const answered = new Set(results.map((result) => result["id"]));
  const missingIds = chunk.ids.filter((id) => id !== void 0 && !answered.has(id));
  const message = `the response has ${received} results for ${expected} items`;
  const details = { statusCode: reply.status, request: requestInfo(reply.headers) };
  throw new IncompleteBatchError(message, { expected, received, missingIds }, details);
}
function vector(embedding, field, kind) {
  const values = isMap(embedding) ? embedding[field] : void 0;
  if (!isVector(values)) throw malformed("encode", `expected a one-dimensional NumPy array for ${kind}.${field}`);
  return values;
}
function vectors(embedding) {
  const values = isMap(embedding) ? embedding["values"] : void 0;
  if (!Array.isArray(values) || !values.every(isVector)) {
    throw malformed("encode", "expected a two-dimensional NumPy array for multivector.values");
  }
  return values;
}
function sparse(embedding) {
  const indices = vector(embedding, "indices", "sparse");
  const values = vector(embedding, "values", "sparse");
  if (indices.length !== values.length) {
    throw malformed("encode", `sparse has ${indices.length} indices but ${values.length} values`);
  }
  return {
    indices: indices instanceof Int32Array ? indices : Int32Array.from(indices),
    values: values instanceof Float32Array ? values : Float32Array.from(values)
  };
}
function isVector(value) {
  return ArrayBuffer.isView(value);
}
function withRequest(result, reply) {
  const request = requestInfo(reply.headers);
  if (request) result.request = request;
  return result;
}
function jsonMap(reply, what = "models") {
  const body = parsedJson(new TextDecoder().decode(reply.content));
  if (!isMap(body)) throw new RequestError(`Malformed ${what} JSON response (expected an object)`);
  return body;
}
function camelCased(map) {
  const renamed = Object.entries(map).map(([name, value]) => [
    name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase()),
    value
  ]);
  return Object.fromEntries(renamed);
}
function summed(parts) {
  const present2 = parts.filter((part) => part !== void 0);
  if (present2.length > 0 && present2.every((part) => typeof part === "number")) return present2.reduce((a, b) => a + b);
  if (!present2.every(isMap) || present2.length === 0) return present2[0];
  const names = new Set(present2.flatMap((part) => Object.keys(part)));
  return Object.fromEntries(Array.from(names, (name) => [name, summed(present2.map((part) => part[name]))]));
}

// src/version.ts
var SDK_VERSION = "0.5.0";
var CONTRACT_VERSION = "0.10.1";

// src/http/retry.ts
var MAX_LORA_RETRIES = 10;
var JITTER = 0.25;
var SHORTEST_DELAY_MS = 100;
var LONGEST_DELAY_MS = 31536e6;
function afterResponse(status, code, askedMs, retries, options, draw) {
  const retry = (reason, defaultMs) => ({
    reason,
    delayMs: Math.max(askedMs ?? jittered(defaultMs, draw), SHORTEST_DELAY_MS)
  });
  if (status === 429) return retry("busy", 1e3);
  if (status === 504) return options.waitForCapacity && options.inference ? retry("gateway", 5e3) : void 0;
  if (status !== 503) return void 0;
  switch (code) {
    case "QUEUE_FULL":
    case "BILLING_CAPACITY_UNAVAILABLE":
      return retry("busy", 1e3);
    case "QUEUE_UNAVAILABLE":
    case "transport_failure":
    case void 0:
      return askedMs === void 0 ? void 0 : retry("busy", askedMs);
    case "PROVISIONING":
      return options.waitForCapacity ? retry("capacity", 5e3) : void 0;
    case "MODEL_LOADING":
      return retry("loading", 5e3);
    case "LORA_LOADING":
      return (retries.lora ?? 0) < MAX_LORA_RETRIES ? retry("lora", 1e3) : void 0;
    case "RESOURCE_EXHAUSTED": {
      const times = retries.memory ?? 0;
      if (times >= options.maxOomRetries) return void 0;
      return times === 0 ? retry("memory", 5e3) : { reason: "memory", delayMs: jittered(doubled(5e3, times, 3e4), draw) };
    }
    default:
      return void 0;
  }
}
function afterFailure(kind, retries, options, draw) {
  if (kind !== "connect" || !options.waitForCapacity) return void 0;
  return { reason: "connection", delayMs: jittered(doubled(500, retries.connection ?? 0, 8e3), draw) };
}
function parseRetryAfter(value, nowMs) {
  const text = (value ?? "").trim();
  if (/^[0-9]+(\.[0-9]*)?$/.test(text)) {
    const ms = Number(text) * 1e3;
    return Number.isFinite(ms) ? Math.min(ms, LONGEST_DELAY_MS) : void 0;
  }
  const date = parseHttpDate(text);
  return date === void 0 ? void 0 : Math.min(Math.max(0, date - nowMs), LONGEST_DELAY_MS);
}
var MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec";
var TIME = "(?<time>\\d{2}:\\d{2}:\\d{2})";
var HTTP_DATES = [
  new RegExp(`^[A-Z][a-z]{2}, (?<day>\\d{2}) (?<month>[A-Z][a-z]{2}) (?<year>\\d{4}) ${TIME} GMT$`),
  new RegExp(`^[A-Z][a-z]+day, (?<day>\\d{2})-(?<month>[A-Z][a-z]{2})-(?<year>\\d{2}) ${TIME} GMT$`),
  new RegExp(`^[A-Z][a-z]{2} (?<month>[A-Z][a-z]{2}) (?<day>[ \\d]\\d) ${TIME} (?<year>\\d{4})$`)
];
function parseHttpDate(text) {
  for (const form of HTTP_DATES) {
    const { day = "", month = "", year = "", time } = form.exec(text)?.groups ?? {};
    if (time === void 0 || MONTHS.indexOf(month) % 3 !== 0) continue;
    const number = String(MONTHS.indexOf(month) / 3 + 1).padStart(2, "0");
    const century = year.length === 4 ? "" : Number(year) < 69 ? "20" : "19";
    const ms = Date.parse(`${century}${year}-${number}-${day.replace(" ", "0")}T${time}Z`);
    return Number.isNaN(ms) ? void 0 : ms;
  }
  return void 0;
}
function doubled(firstMs, times, capMs) {
  return Math.min(capMs, firstMs * 2 ** times);
}
function jittered(delayMs, draw) {
  return delayMs * (1 - JITTER * draw);
}

// src/http/response-body.ts
var MAX_BYTES = 2 ** 30;
var MAX_ERROR_BYTES = 2 ** 20;
var MAX_RATIO = 32;
var ANY_RATIO_BYTES = 2 ** 26;
var MAX_UNPACKED_BYTES = 2 ** 28;
var UnreadableError = class extends Error {
};
async function readBody(response) {
  const isError = response.status >= 400;
  const limit = isError ? MAX_ERROR_BYTES : limitOf(response.headers);
  const reader = response.body?.getReader?.();
  if (reader === void 0) return new Uint8Array(await response.arrayBuffer());
  const pieces = [];
  let size = 0;
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      pieces.push(read.value);
      size += read.value.length;
      if (size > limit) {
        reader.cancel().catch(() => {
        });
        if (!isError) throw new UnreadableError(`the body exceeds the limit of ${limit} bytes`);
        break;
      }
    }
  } catch (failure) {
    if (!isError || !isUnpacking(failure)) throw failure;
  }
  return joined(pieces, Math.min(size, limit));
}
function limitOf(headers) {
  const encoding = headers.get("content-encoding") ?? "identity";
  if (encoding === "identity" || encoding === "") return MAX_BYTES;
  const received = Number(headers.get("content-length") ?? Number.NaN);
  if (!(received >= 0)) return MAX_UNPACKED_BYTES;
  return Math.min(MAX_BYTES, Math.max(ANY_RATIO_BYTES, MAX_RATIO * received));
}
function isUnpacking(failure) {
  const cause = failure instanceof Error ? failure.cause ?? failure : failure;
  return cause instanceof Error && "code" in cause && /^(Z_|ERR_BROTLI|ERR_ZSTD)/.test(String(cause.code));
}
function joined(pieces, size) {
  const [only] = pieces;
  if (pieces.length === 1 && only !== void 0 && only.length === size) return only;
  const whole = new Uint8Array(size);
  let at = 0;
  for (const piece of pieces) {
    const part = piece.subarray(0, size - at);
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

// src/http/transport.ts
async function send(fetch, attempt) {
  const { method, url, headers, body, timeoutMs, signal } = attempt;
  signal?.throwIfAborted();
  const abort = new AbortController();
  const forward = () => abort.abort(signal?.reason);
  signal?.addEventListener("abort", forward, { once: true });
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    abort.abort();
  }, timeoutMs);
  try {
    const response = await fetch(url, {
      method,
      headers,
      body: body ?? null,
      redirect: "manual",
      signal: abort.signal
    });
    return { status: response.status, headers: response.headers, content: await readBody(response) };
  } catch (cause) {
    signal?.throwIfAborted();
    const kind = timedOut ? "timeout" : failureKind(cause);
    const reason = timedOut ? `no response within ${Number((timeoutMs / 1e3).toPrecision(3))} s` : explained(cause);
    throw new SIEConnectionError(`${method} ${url.replace(/\/\/[^/]*@/, "//")}: ${reason}`, kind, { cause });
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", forward);
  }
}
var GONE = /^(E(CONN\w+|NOTFOUND|AI_AGAIN|PIPE|TIMEDOUT|HOSTUNREACH|NETUNREACH|NETDOWN)|UND_ERR_(SOCKET|CONNECT_TIMEOUT|RES_CONTENT_LENGTH_MISMATCH)|HPE_\w+|Connection(Refused|Closed|Reset)|FailedToOpenSocket)$/;
var LATE = /^UND_ERR_(HEADERS|BODY)_TIMEOUT$/;
function failureKind(error) {
  if (error instanceof UnreadableError) return "other";
  const code = errorCode(error);
  if (code === void 0) return error instanceof TypeError ? "connect" : "other";
  if (LATE.test(code)) return "timeout";
  return GONE.test(code) ? "connect" : "other";
}
function errorCode(error) {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if ("code" in cause && typeof cause.code === "string") return cause.code;
  }
  return void 0;
}
function explained(error) {
  if (!(error instanceof Error)) return String(error);
  const { cause, message } = error;
  const why = cause instanceof Error ? cause.message || errorCode(cause) : void 0;
  return why ? `${message} (${why})` : message;
}

// src/http/exchange.ts
async function exchange(call, { fetch, history }) {
  const since = performance.now();
  const retries = {};
  for (; ; ) {
    const leftMs = call.budgetMs === 0 ? Infinity : Math.max(since + call.budgetMs - performance.now(), 1);
    let error;
    let again;
    try {
      const reply = await send(fetch, { ...call, timeoutMs: Math.min(call.timeoutMs, leftMs) });
      history.heard(reply.headers);
      if (reply.status >= 200 && reply.status < 300) return call.parse(reply);
      const askedMs = parseRetryAfter(reply.headers.get("retry-after"), Date.now());
      error = errorIn(reply, call.context, retries.memory ?? 0, askedMs);
      again = afterResponse(reply.status, error.code, askedMs, retries, call.retrying, Math.random());
    } catch (failure) {
      if (!(failure instanceof SIEConnectionError)) throw failure;
      error = failure;
      again = afterFailure(failure.kind, retries, call.retrying, Math.random());
    }
    await waitToRetry(call, error, again, retries, since, history);
  }
}
async function waitToRetry(call, error, again, retries, since, { reached }) {
  const budgetMs = reached ? call.budgetMs : Math.min(call.budgetMs, call.unreachedMs);
  const deadline = since + budgetMs;
  if (again === void 0 || performance.now() + again.delayMs >= deadline) throw error;
  if (again.reason === "connection" && !retries.connection) announce(error, budgetMs);
  retries[again.reason] = (retries[again.reason] ?? 0) + 1;
  await pause(again.delayMs, call.signal);
  if (performance.now() >= deadline) throw error;
}
function announce(error, budgetMs) {
  console.warn(`sie: ${error.message}; retrying for up to ${budgetMs / 1e3} s`);
}
var LONGEST_TIMER_MS = 2 ** 31 - 1;
function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(
      () => {
        signal?.removeEventListener("abort", stop);
        resolve();
      },
      Math.min(ms, LONGEST_TIMER_MS)
    );
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}

// src/calls/watch.ts
var UPGRADE_REQUIRED = 426;
var MAX_UNREAD = 16;
var STATUS = "sie.status";
var KEY = "sie.key.";
function checkMode(mode) {
  if (mode === "auto" || mode === "worker") return;
  const reason = mode === "cluster" ? ": the status of a cluster comes from a gateway" : "";
  throw new RangeError(`mode must be "auto" or "worker", got ${JSON.stringify(mode)}${reason}`);
}
function webSocketClass(given) {
  const found = given ?? globalThis.WebSocket;
  if (found !== void 0) return found;
  throw new TypeError(
    "this runtime has no WebSocket (Node has one from version 22 on): pass one as webSocket, e.g. that of the package ws"
  );
}
async function* watchStatuses(call, transport, WebSocket) {
  let since = performance.now();
  let retries = {};
  let offersKey = true;
  for (; ; ) {
    const connection = new Connection(WebSocket, call, offersKey);
    for await (const text of connection.texts()) {
      yield call.parse({ status: 101, headers: new Headers(), content: new TextEncoder().encode(text) });
      retries = {};
      since = performance.now();
    }
    if (connection.opened) transport.history.reached = true;
    else offersKey = !offersKey;
    call.signal?.throwIfAborted();
    const error = connection.opened ? ended(call) : await whyNot(call, transport);
    const again = afterFailure(error.kind, retries, call.retrying, Math.random());
    await waitToRetry(call, error, again, retries, since, transport.history);
  }
}
async function whyNot(call, transport) {
  const reply = await send(transport.fetch, call).catch((failure) => {
    if (failure instanceof SIEConnectionError) return failure;
    throw failure;
  });
  if (reply instanceof SIEConnectionError) return reply;
  transport.history.heard(reply.headers);
  if (reply.status === UPGRADE_REQUIRED || reply.status === 429 || reply.status >= 500) return ended(call);
  const { message, code, statusCode } = errorIn(reply, call.context, 0, void 0);
  throw new RequestError(`no status stream at ${call.url}: ${message}`, { code, statusCode });
}
function base64Url(text) {
  return btoa(text).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}
function ended({ url }) {
  return new SIEConnectionError(`GET ${url}: the connection ended`, "connect");
}
var Connection = class {
  opened = false;
  #socket;
  #call;
  #unread = [];
  #over = false;
  #wake = () => {
  };
  constructor(WebSocket, call, offersKey) {
    this.#call = call;
    const url = call.url.replace(/^http/, "ws");
    try {
      this.#socket = new WebSocket(url, { headers: call.headers });
    } catch {
      const key = /^Bearer (.+)$/.exec(call.headers["authorization"] ?? "")?.[1];
      this.#socket = key && offersKey ? new WebSocket(url, [STATUS, KEY + base64Url(key)]) : new WebSocket(url);
    }
    this.#socket.onopen = () => this.#heard(() => this.opened = true);
    this.#socket.onmessage = ({ data }) => this.#heard(() => this.#unread.push(String(data)));
    this.#socket.onclose = this.#socket.onerror = () => this.#heard(() => this.#over = true);
  }
  /** Yields messages until the connection ends, is silent for the timeout, or the call's signal is aborted. */
  async *texts() {
    const { signal, timeoutMs } = this.#call;
    const stop = () => this.#heard(() => this.#over = true);
    signal?.addEventListener("abort", stop, { once: true });
    try {
      for (; ; ) {
        for (let text = this.#unread.shift(); text !== void 0; text = this.#unread.shift()) yield text;
        if (this.#over || signal?.aborted) return;
        const timer = setTimeout(stop, timeoutMs);
        await new Promise((resolve) => {
          this.#wake = resolve;
        });
        clearTimeout(timer);
      }
    } finally {
      signal?.removeEventListener("abort", stop);
      this.#socket.close();
    }
  }
  #heard(noted) {
    noted();
    if (this.#unread.length > MAX_UNREAD) this.#unread.shift();
    this.#wake();
  }
};

// src/calls/endpoint.ts
var DEFAULT_TIMEOUT_MS = 15e4;
var DEFAULT_BUDGET_MS = 9e5;
var DEFAULT_UNREACHED_MS = 5e3;
var DEFAULT_OOM_RETRIES = 3;
var IGNORED_OPTIONS = ["gpu", "controlPlaneUrl", "org"];
var Endpoint = class {
  baseUrl;
  #options;
  #headers;
  #timeoutMs;
  #warned = false;
  constructor(baseUrl, options) {
    this.baseUrl = checkedBaseUrl(baseUrl ?? environment("SIE_BASE_URL"));
    this.#options = options;
    this.#warnIgnored(options);
    this.#timeoutMs = checkedTimeout(options.timeoutMs ?? options.timeout ?? DEFAULT_TIMEOUT_MS);
    const key = (options.apiKey ?? environment("SIE_API_KEY") ?? "").trim();
    this.#headers = checkedHeaders({
      ...options.headers,
      "x-sie-sdk-version": CONTRACT_VERSION,
      ...key && { authorization: `Bearer ${key}` }
    });
  }
  /** Returns the options of a call on top of the client's; undefined if there are none. */
  options(given, own) {
    const fields = [this.#options.options, given, own].flatMap((options) => Object.entries(options ?? {}));
    const present2 = fields.filter(([, value]) => value !== void 0);
    return present2.length > 0 ? Object.fromEntries(present2) : void 0;
  }
  /** Returns the function that makes the request for one chunk of items; `fields` is the rest of its body. */
  inference(task, model, fields, asked, parse) {
    this.#warnIgnored(asked);
    const lora = { ...this.#options.options, ...asked.options }["lora_id"];
    const path = modelPath(model);
    const route = `/v1/${task}/${path}`;
    const shared = {
      method: "POST",
      url: this.baseUrl + route,
      headers: {
        ...this.#headers,
        "content-type": CONTENT_TYPE,
        accept: CONTENT_TYPE,
        // The model again, for balancers that route by a header: as the Python SDK writes it.
        "x-sie-model": path.replace(/%(2F|3A|40)/g, decodeURIComponent)
      },
      retrying: {
        waitForCapacity: this.#waits(asked),
        maxOomRetries: asked.maxOomRetries ?? DEFAULT_OOM_RETRIES,
        inference: true
      },
      ...this.#budgets(asked),
      timeoutMs: checkedTimeout(asked.timeoutMs ?? this.#timeoutMs)
    };
    return (chunk, signal) => ({
      ...shared,
      body: packMap({ items: new Packed(chunk.packed), ...fields }),
      parse: (reply) => parse(reply, chunk),
      context: {
        baseUrl: this.baseUrl,
        route,
        model,
        lora: typeof lora === "string" ? lora : void 0,
        firstItem: chunk.start
      },
      signal
    });
  }
  /** Returns the request for the status stream, which ends with `signal`. */
  watch(mode, asked, signal) {
    checkMode(mode);
    return {
      ...this.lookUp("/ws/status", void 0, statusMessage, asked),
      signal,
      retrying: { waitForCapacity: this.#waits(asked), maxOomRetries: 0, inference: false },
      ...this.#budgets(asked)
    };
  }
  /** Returns a GET request for something that needs no model, answered in JSON. It does not wait for a server. */
  lookUp(path, model, parse, asked) {
    return {
      method: "GET",
      url: this.baseUrl + path,
      headers: { ...this.#headers, accept: "application/json" },
      body: void 0,
      parse,
      context: { baseUrl: this.baseUrl, route: path, model },
      retrying: { waitForCapacity: false, maxOomRetries: 0, inference: false },
      ...this.#budgets({}),
      timeoutMs: checkedTimeout(asked.timeoutMs ?? this.#timeoutMs),
      signal: asked.signal
    };
  }
  /** Warns, once per client, of options that programs for the public SDK may give. */
  #warnIgnored(options) {
    const names = IGNORED_OPTIONS.filter((name) => options[name] !== void 0);
    if (this.#warned || names.length === 0) return;
    this.#warned = true;
    const verb = names.length === 1 ? "has" : "have";
    console.warn(`sie: ${names.join(", ")} ${verb} no effect: this SDK talks to one server, not to a gateway`);
  }
  #waits(asked) {
    return asked.waitForCapacity ?? this.#options.waitForCapacity ?? true;
  }
  /** Returns the time for a call, and for reaching a server that has never responded. */
  #budgets(asked) {
    const given = asked.provisionTimeout ?? this.#options.provisionTimeout;
    if (given === void 0) return { budgetMs: DEFAULT_BUDGET_MS, unreachedMs: DEFAULT_UNREACHED_MS };
    return { budgetMs: checkedBudget(given), unreachedMs: given };
  }
};
function modelPath(model) {
  if (!model || model.split("/").some((segment) => segment === "" || segment === "." || segment === "..")) {
    throw new TypeError(`invalid model id: ${JSON.stringify(model)}`);
  }
  return encodeURIComponent(model);
}
function checkedBaseUrl(baseUrl) {
  if (!baseUrl) throw new TypeError("no server given: pass a base URL or set SIE_BASE_URL");
  let url;
  try {
    url = new URL(baseUrl);
  } catch (cause) {
    throw new TypeError(`the base URL ${JSON.stringify(baseUrl)} is not a URL`, { cause });
  }
  if (!/^https?:$/.test(url.protocol) || url.search || url.hash) {
    throw new TypeError(
      `the base URL must be an http or https URL without query or fragment, got ${JSON.stringify(baseUrl)}`
    );
  }
  if (url.username || url.password) {
    throw new TypeError("the base URL must not contain a password, which fetch refuses: use apiKey or headers");
  }
  return baseUrl.replace(/\/+$/, "");
}
function checkedHeaders(headers) {
  const entries2 = Object.entries(headers).map(([name, value]) => {
    if (!/^[\x20-\x7e]*$/.test(value)) throw new TypeError(`the ${name.toLowerCase()} header must be printable ASCII`);
    return [name.toLowerCase(), value];
  });
  return Object.fromEntries(entries2);
}
function checkedTimeout(ms) {
  if (!(ms > 0 && ms < 2 ** 31))
    throw new RangeError(`a timeout must be a positive number of milliseconds below 2147483648, got ${ms}`);
  return ms;
}
function checkedBudget(ms) {
  if (!(Number.isFinite(ms) && ms >= 0))
    throw new RangeError(`provisionTimeout must be 0 or a positive number of milliseconds, got ${ms}`);
  return ms;
}
function environment(name) {
  const { process } = globalThis;
  try {
    return process?.env?.[name];
  } catch {
    return void 0;
  }
}

// src/messages/chunks.ts
var VECTOR_CHUNK = { items: 256, bytes: 2 ** 20 };
var SCORE_CHUNK = { items: 1e3, bytes: 2 ** 24 };
var MEDIA = ["images", "audio", "video", "document"];
function asItem(item) {
  return typeof item === "string" ? { text: item } : item;
}
var Chunk = class {
  constructor(start, limit) {
    this.start = start;
    this.limit = limit;
  }
  start;
  limit;
  ids = [];
  packed = [];
  #size = 0;
  /** Index of the first item after this chunk. */
  get end() {
    return this.start + this.packed.length;
  }
  /** Returns whether one more item fits. An item that is too large for any chunk gets one to itself. */
  fits(packed) {
    const { length } = this.packed;
    return length === 0 || length < this.limit.items && this.#size + packed.length <= this.limit.bytes;
  }
  append(item, packed) {
    this.ids.push(item?.id ?? void 0);
    this.packed.push(packed);
    this.#size += packed.length;
  }
};
var Chunker = class {
  constructor(hasIds) {
    this.hasIds = hasIds;
    this.#limit = hasIds ? SCORE_CHUNK : VECTOR_CHUNK;
    this.#chunk = new Chunk(0, this.#limit);
  }
  hasIds;
  #limit;
  #chunk;
  /** Adds the next item, or the text of one; returns the chunk before it if the item does not fit there. */
  add(given) {
    const item = asItem(given);
    let packed = this.#packed(item);
    let full;
    if (!this.#chunk.fits(packed)) {
      full = this.#chunk;
      this.#chunk = new Chunk(full.end, this.#limit);
      packed = this.#packed(item);
    }
    this.#chunk.append(item, packed);
    return full;
  }
  /** Returns the last chunk after all items were added; it is empty only if there were none. */
  last() {
    return this.#chunk;
  }
  #packed(item) {
    const index = this.#chunk.end;
    const sent = item;
    checkTextOnly(sent, `items[${index}]`);
    const needsId = this.hasIds && this.#chunk.start > 0 && isMap(sent) && sent["id"] == null;
    return packMessage(needsId ? { ...sent, id: `item-${index}` } : sent, `items[${index}]`);
  }
};
function checkTextOnly(item, path) {
  if (!isMap(item)) return;
  const medium = MEDIA.find((name) => item[name] != null && !(Array.isArray(item[name]) && item[name].length === 0));
  if (medium !== void 0) throw new TypeError(`Field '${path}.${medium}' is not supported: models read text only`);
}

// src/calls/pipeline.ts
var IN_FLIGHT = 4;
async function* pipeline(stream, transport) {
  const { signal, onProgress } = stream;
  const stop = new AbortController();
  const forward = () => stop.abort(signal?.reason);
  signal?.throwIfAborted();
  signal?.addEventListener("abort", forward, { once: true });
  const inFlight = [];
  const start = (chunk) => {
    const results = exchange(stream.call(chunk, stop.signal), transport);
    results.catch(() => {
    });
    inFlight.push({ chunk, results });
  };
  const chunks = split(stream);
  try {
    for (let ended2 = false; ; ) {
      while (!ended2 && inFlight.length < IN_FLIGHT) {
        const { done, value } = await chunks.next();
        if (done) ended2 = true;
        else start(value);
      }
      const first = inFlight.shift();
      if (first === void 0) return;
      const results = await first.results;
      onProgress?.(first.chunk.end);
      yield* results;
    }
  } finally {
    signal?.removeEventListener("abort", forward);
    stop.abort();
    await chunks.return(void 0);
  }
}
async function* split({ items, hasIds, sendsEmpty }) {
  const chunker = new Chunker(hasIds);
  for await (const item of items) {
    const full = chunker.add(item);
    if (full !== void 0) yield full;
  }
  const last = chunker.last();
  if (last.packed.length > 0 || sendsEmpty) yield last;
}

// src/http/server-history.ts
var ServerHistory = class {
  /** Whether the server has responded, in whatever way. */
  reached = false;
  #warned = false;
  #ignored = /* @__PURE__ */ new Set();
  /** Notes a response. */
  heard(headers) {
    this.reached = true;
    this.#checkVersion(headers.get("x-sie-server-version"));
    for (const name of (headers.get("x-sie-ignored") ?? "").split(",").map((part) => part.trim())) {
      if (name === "" || this.#ignored.has(name)) continue;
      this.#ignored.add(name);
      console.warn(`sie: the server does not know ${name}, and ignored it`);
    }
  }
  #checkVersion(server) {
    if (this.#warned || server === null || !skewed(server, CONTRACT_VERSION)) return;
    this.#warned = true;
    console.warn(`sie: the server implements version ${server}; this SDK is for ${CONTRACT_VERSION}`);
  }
};
function skewed(one, other) {
  const [[major, minor], [otherMajor, otherMinor]] = [numbers(one), numbers(other)];
  if (Number.isNaN(major + minor + otherMajor + otherMinor)) return false;
  return major !== otherMajor || Math.abs(minor - otherMinor) > 1;
}
function numbers(version) {
  const found = /^(\d+)\.(\d+)/.exec(version);
  return [Number(found?.[1]), Number(found?.[2])];
}

// src/client.ts
var SIEClient = class {
  #endpoint;
  #transport;
  #webSocket;
  #closed = new AbortController();
  /**
   * @param baseUrl - Address of the server, e.g. `"http://localhost:8080"`; by default the environment variable
   *   `SIE_BASE_URL`. Redirects are not followed.
   * @throws TypeError or RangeError if there is no base URL, or an argument is invalid.
   */
  constructor(baseUrl, options = {}) {
    this.#endpoint = new Endpoint(baseUrl, options);
    const send2 = (input, init) => (options.fetch ?? globalThis.fetch)(input, init);
    this.#webSocket = options.webSocket;
    this.#transport = { fetch: send2, history: new ServerHistory() };
  }
  /**
   * Ranks documents by their relevance to a query.
   *
   * @param model - Id of a reranker or a late-interaction model, e.g. `"BAAI/bge-reranker-v2-m3"`.
   * @param query - An item or a text.
   * @param items - The documents, items or texts.
   * @returns The documents in descending order of score; documents with equal scores stay in their order.
   */
  async score(model, query, items, options = {}) {
    const asked = this.#endpoint.options(options.options, { top_k: options.topK });
    checkTextOnly(query, "query");
    const fields = { query: asItem(query), instruction: options.instruction, options: asked };
    const call = this.#endpoint.inference("score", model, fields, options, (reply) => [scoreResult(reply)]);
    const { signal } = options;
    const stream = { items: listed(items), call, hasIds: true, sendsEmpty: true, signal, onProgress: void 0 };
    return mergedScores(await all(pipeline(stream, this.#transport)), asked?.["top_k"]);
  }
  async encode(model, items, options = {}) {
    return likeInput(items, await all(this.#encoded(model, batch(items), true, options)));
  }
  /**
   * Yields the embeddings of items, sync or async, in their order. It reads at most four requests ahead, so it can
   * process a whole collection.
   */
  encodeStream(model, items, options = {}) {
    return this.#encoded(model, items, false, options);
  }
  async extract(model, items, options = {}) {
    const { labels, outputSchema, instruction, signal } = options;
    const asked = this.#endpoint.options(options.options, {});
    const params = { labels, output_schema: outputSchema, instruction, options: asked };
    const call = this.#endpoint.inference("extract", model, withParams(params), options, extractResults);
    const stream = { items: batch(items), call, hasIds: true, sendsEmpty: true, signal, onProgress: void 0 };
    return likeInput(items, await all(pipeline(stream, this.#transport)));
  }
  /**
   * Yields the status of the server several times a second, until the client is closed, the signal is aborted, or the
   * loop is left. A connection that breaks is reopened, after the pauses of any other call.
   *
   * @throws TypeError if the runtime has no `WebSocket` and the client was given none.
   */
  watch(mode = "auto", options = {}) {
    const stop = new AbortController();
    const call = this.#endpoint.watch(mode, options, stop.signal);
    return this.#until(stop, options.signal, watchStatuses(call, this.#transport, webSocketClass(this.#webSocket)));
  }
  /** Lists the models that the server knows, loaded or not. */
  async listModels(options = {}) {
    return this.#send(this.#endpoint.lookUp("/v1/models", void 0, modelInfos, options));
  }
  /** Describes one model. Rejects with a RequestError of code `MODEL_NOT_FOUND` if the server does not know it. */
  async getModel(name, options = {}) {
    return this.#send(this.#endpoint.lookUp(`/v1/models/${modelPath(name)}`, name, modelInfo, options));
  }
  /** Returns the server's address, without a trailing slash. */
  getBaseUrl() {
    return this.#endpoint.baseUrl;
  }
  /** Ends `watch` loops. Other connections belong to the runtime's `fetch`. */
  async close() {
    this.#closed.abort();
  }
  async [Symbol.asyncDispose]() {
    await this.close();
  }
  [Symbol.dispose]() {
    this.#closed.abort();
  }
  /** Yields statuses until `stop`, which follows `signal` (then it rejects) and the client (then it ends). */
  async *#until(stop, signal, statuses) {
    const closed = this.#closed.signal;
    const forward = () => stop.abort(signal?.aborted ? signal.reason : closed);
    for (const source of [signal, closed]) source?.addEventListener("abort", forward, { once: true });
    try {
      if (signal?.aborted || closed.aborted) forward();
      stop.signal.throwIfAborted();
      yield* statuses;
    } catch (error) {
      if (error !== closed) throw error;
    } finally {
      for (const source of [signal, closed]) source?.removeEventListener("abort", forward);
    }
  }
  #encoded(model, items, sendsEmpty, options) {
    const { outputTypes, outputDtype, instruction, isQuery, signal, onProgress } = options;
    const asked = this.#endpoint.options(options.options, { is_query: isQuery });
    const params = { output_types: outputTypes, output_dtype: outputDtype, instruction, options: asked };
    const call = this.#endpoint.inference("encode", model, withParams(params), options, encodeResults);
    return pipeline({ items: listed(items), call, hasIds: false, sendsEmpty, signal, onProgress }, this.#transport);
  }
  #send(call) {
    return exchange(call, this.#transport);
  }
};
function withParams(params) {
  return Object.values(params).some((value) => value !== void 0) ? { params } : {};
}
function batch(items) {
  return isList(items) ? items : [items];
}
function likeInput(items, results) {
  return isList(items) ? results : results[0];
}
function isList(items) {
  return Array.isArray(items);
}
function listed(items) {
  if (typeof items !== "object" || !(Symbol.iterator in items || Symbol.asyncIterator in items)) {
    throw new TypeError(`items must be a list of items or texts, got ${typeof items}`);
  }
  return items;
}
async function all(results) {
  const list = [];
  for await (const result of results) list.push(result);
  return list;
}

// src/messages/embeddings.ts
function denseEmbedding(result) {
  return present(result.dense, "dense");
}
function multivectorEmbedding(result) {
  return present(result.multivector, "multivector");
}
function sparseEmbedding(result) {
  return present(result.sparse, "sparse");
}
function sparseEmbeddingMap(result) {
  const { indices, values } = sparseEmbedding(result);
  return new Map(Array.from(indices, (index, i) => [index, values[i]]));
}
function normalizeSparseVector({ indices, values }) {
  const length = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
  return { indices, values: length > 0 ? values.map((value) => value / length) : values };
}
function toNumberArray(vector2) {
  return Array.from(vector2);
}
function toFloat32Array(vector2) {
  return vector2 instanceof Float32Array ? vector2 : Float32Array.from(vector2);
}
function spanText(text, [start, end]) {
  return Array.from(text).slice(start, end).join("");
}
function present(embedding, kind) {
  if (embedding === void 0) {
    throw new RangeError(`the result has no ${kind} embedding; request it with outputTypes: ["${kind}"]`);
  }
  return embedding;
}

// src/scoring.ts
function dotProduct(a, b) {
  const length = a.length;
  if (b.length !== length) throw new RangeError(`vectors must have equal dimensions, got ${length} and ${b.length}`);
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  let i = 0;
  for (; i + 3 < length; i += 4) {
    s0 += a[i] * b[i];
    s1 += a[i + 1] * b[i + 1];
    s2 += a[i + 2] * b[i + 2];
    s3 += a[i + 3] * b[i + 3];
  }
  for (; i < length; i++) s0 += a[i] * b[i];
  return s0 + s1 + s2 + s3;
}
function maxsim(query, document) {
  if (document.length === 0) return 0;
  let score = 0;
  for (const token of query) {
    let best = -Infinity;
    for (const other of document) best = Math.max(best, dotProduct(token, other));
    score += best;
  }
  return score;
}
function maxsimDocuments(query, documents) {
  return documents.map((document) => maxsim(query, document));
}
function maxsimBatch(queries, documents) {
  return Float32Array.from(queries.flatMap((query) => maxsimDocuments(query, documents)));
}
export {
  AccountInactiveError,
  AccountStateUnavailableError,
  IncompleteBatchError,
  InputTooLongError,
  InsufficientCreditsError,
  LoraLoadingError,
  ModelLoadFailedError,
  ModelLoadingError,
  PoolError,
  ProvisioningError,
  RateLimitError,
  RelayUnavailableError,
  RequestError,
  ResourceExhaustedError,
  SDK_VERSION,
  SIEClient,
  SIEConnectionError,
  SIEError,
  ServerError,
  SpendLimitError,
  denseEmbedding,
  dotProduct,
  maxsim,
  maxsimBatch,
  maxsimDocuments,
  multivectorEmbedding,
  normalizeSparseVector,
  packMessage,
  spanText,
  sparseEmbedding,
  sparseEmbeddingMap,
  toFloat32Array,
  toNumberArray,
  unpackMessage
};
