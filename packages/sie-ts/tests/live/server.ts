/** Runs `sie-server` on a free port of the loopback interface, and always stops it at the end. */

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { TestProject } from "vitest/node";

export const MODEL = "sentence-transformers/all-MiniLM-L6-v2";
const START_MS = 60_000;
const root = fileURLToPath(new URL("../../../../", import.meta.url));
/** The interpreter that has `sie_server` and `sie_sdk`. */
export const python = process.env["SIE_PYTHON"] ?? `${root}.venv/bin/python`;

declare module "vitest" {
  interface ProvidedContext {
    /** Its address. */
    url: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const { url, stop } = await started(["--preload", MODEL, "--cors-origins", "*"]);
  project.provide("url", url);
  return stop;
}

/** Starts a server; `stop` ends it. */
export async function started(
  flags: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<{ url: string; stop: () => Promise<void> }> {
  if (!existsSync(python)) {
    throw new Error(`no Python at ${python}: run "make install", or set SIE_PYTHON to one that has sie_server`);
  }
  const server = spawn(python, ["-m", "sie_server", "serve", "--host", "127.0.0.1", "--port", "0", ...flags], {
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, HF_HUB_OFFLINE: "1", ...environment },
  });
  const stop = () =>
    new Promise<void>((resolve) => {
      server.once("exit", () => resolve());
      server.kill("SIGTERM");
    });
  return { url: await ready(server), stop };
}

function ready(server: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let log = "";
    const failed = () => {
      server.kill("SIGKILL");
      reject(new Error(`the server did not start:\n${log}`));
    };
    const timer = setTimeout(failed, START_MS);
    server.once("exit", failed);
    createInterface({ input: server.stderr as NodeJS.ReadableStream }).on("line", (line) => {
      log += `${line}\n`;
      const url = /SIE is ready at (\S+)/.exec(line)?.[1];
      if (url === undefined) return;
      clearTimeout(timer);
      server.off("exit", failed);
      resolve(url);
    });
  });
}
