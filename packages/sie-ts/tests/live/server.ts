/** Runs `sie-server` on a free port of the loopback interface, and always stops it at the end. */

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { TestProject } from "vitest/node";

export const MODEL = "sentence-transformers/all-MiniLM-L6-v2";
const START_MS = 60_000;
const root = fileURLToPath(new URL("../../../../", import.meta.url));
const python = process.env["SIE_PYTHON"] ?? `${root}.venv/bin/python`;

declare module "vitest" {
  interface ProvidedContext {
    /** Its address. */
    url: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  if (!existsSync(python)) {
    throw new Error(`no Python at ${python}: run "make install", or set SIE_PYTHON to one that has sie_server`);
  }
  const flags = ["--host", "127.0.0.1", "--port", "0", "--preload", MODEL, "--cors-origins", "*"];
  const server = spawn(python, ["-m", "sie_server", "serve", ...flags], {
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, HF_HUB_OFFLINE: "1" },
  });
  project.provide("url", await ready(server));
  return () =>
    new Promise((resolve) => {
      server.once("exit", () => resolve());
      server.kill("SIGTERM");
    });
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
