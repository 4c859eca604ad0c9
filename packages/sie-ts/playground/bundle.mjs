/** Bundles this package into the one file that the server's page imports: `node playground/bundle.mjs` writes it. */

import { readFileSync, writeFileSync } from "node:fs";
import { argv } from "node:process";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const at = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));
/** The file, which is committed, so that no one needs npm to install the server. */
export const BUNDLE = at("../../sie-server/src/sie_server/playground/sdk.js");

/** @returns {Promise<string>} what the file must hold: the same bytes from the same sources. */
export async function bundle() {
  const licence = readFileSync(at("../node_modules/@msgpack/msgpack/LICENSE"), "utf8");
  const comment = [
    "@sie/sdk for the playground. Generated from packages/sie-ts by `make playground`.",
    "",
    "It contains @msgpack/msgpack, whose license is:",
    "",
    ...licence.trim().split("\n"),
  ];
  const { outputFiles } = await build({
    absWorkingDir: at(".."),
    entryPoints: ["src/index.ts"],
    bundle: true,
    format: "esm",
    target: "es2022",
    charset: "utf8",
    write: false,
    banner: { js: `/*\n${comment.map((line) => ` * ${line}`.trimEnd()).join("\n")}\n */` },
  });
  return outputFiles[0]?.text ?? "";
}

if (argv[1] === fileURLToPath(import.meta.url)) writeFileSync(BUNDLE, await bundle());
