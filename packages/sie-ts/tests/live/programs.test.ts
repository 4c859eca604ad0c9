/** The programs of the documentation and of the page that this SDK is compatible with, against the package as built. */

import { execFile } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { promisify } from "node:util";
import { beforeAll, expect, inject, test } from "vitest";

const run = promisify(execFile);
const at = (path: string) => new URL(path, import.meta.url);
const folder = at("../../.programs/");

const docs = at("../../../../docs/");
const pages = ["../../README.md", "../../../../README.md"].map(at).concat(
  readdirSync(docs)
    .filter((name) => name.endsWith(".md"))
    .map((name) => new URL(name, docs)),
);
const programs = new Map([
  ...readdirSync(at("page/")).map((name): [string, string] => [
    basename(name, ".ts"),
    readFileSync(at(`page/${name}`), "utf8"),
  ]),
  ...pages.flatMap((page, i) =>
    Array.from(readFileSync(page, "utf8").matchAll(/```ts\n(.*?)```/gs), ([, program = ""], j): [string, string] => [
      `${basename(page.pathname, ".md")}-${i}-${j}`,
      program,
    ]),
  ),
]);

const config = {
  extends: "../tsconfig.json",
  compilerOptions: { noEmit: false, noEmitOnError: true, outDir: "js", rootDir: ".", noUnusedLocals: false },
  include: ["*.ts"],
};

beforeAll(async () => {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  for (const [name, program] of programs) {
    writeFileSync(
      new URL(`${name}.ts`, folder),
      `${program.replace("http://localhost:8080", inject("url"))}\nexport {};\n`,
    );
  }
  writeFileSync(new URL("tsconfig.json", folder), JSON.stringify(config));
  // Strictly typed, and "@sie/sdk" found by the package's own exports.
  await run("npx", ["tsc", "-p", "."], { cwd: folder }).catch(({ stdout }) => expect.fail(stdout));
});

const output = async (name: string) => (await run(process.execPath, [`js/${name}.js`], { cwd: folder })).stdout;

test.each([...programs.keys()])("%s runs as it stands", async (name) => {
  expect(await output(name)).not.toBe("");
});

test("the page's programs print the expected output", async () => {
  expect(await output("quick-example")).toMatch(/^Rank 0: \d+\.\d{3}\nRank 1: \d+\.\d{3}\nRank 2: \d+\.\d{3}\n$/);
  expect(await output("two-stage")).toBe("384 10 doc-42\n");
  expect(await output("multi-vector")).toMatch(/^1: /);
});

test("CommonJS programs require it", async () => {
  const program =
    'const { SIEClient } = require("@sie/sdk"); const { maxsim } = require("@sie/sdk/scoring"); console.log(typeof SIEClient, maxsim([[1]], [[2]]))';
  const { stdout } = await run(process.execPath, ["--input-type=commonjs", "-e", program], { cwd: folder });
  expect(stdout).toBe("function 2\n");
});

test("its declarations need neither DOM nor @types/node", async () => {
  const program = `
    import { SIEClient, type EncodeResult } from "@sie/sdk";
    import { maxsim } from "@sie/sdk/scoring";
    export async function embedded(text: string): Promise<EncodeResult> {
      await using client = new SIEClient("http://localhost:8080");
      await client.score("m", text, [text], { topK: maxsim([[1]], [[2]]) });
      return client.encode("m", text);
    }`;
  writeFileSync(new URL("bare.ts", folder), program);
  const options =
    "--ignoreConfig --noEmit --strict --target ES2022 --lib ES2022 --module nodenext --skipLibCheck false";
  await run("npx", ["tsc", ...options.split(" "), "--types", "", "bare.ts"], { cwd: folder }).catch(({ stdout }) =>
    expect.fail(stdout),
  );
});
