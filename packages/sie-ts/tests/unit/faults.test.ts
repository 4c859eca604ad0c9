/** Every case of the fault table, shared with the Python SDK, over real sockets, with pauses that take no time. */

import { readFileSync } from "node:fs";
import { afterEach, describe, expect, test, vi } from "vitest";
import { SIEClient } from "../../src/index.js";
import { type Case, FaultServer, realTimeout } from "./fault-server.js";
import { ITEMS, QUERY, SCORED } from "./stand-ins.js";

const path = new URL("../../../sie-sdk/tests/fault_table.json", import.meta.url);
const table = JSON.parse(readFileSync(path, "utf8")) as { now: number; groups: { title: string; cases: Case[] }[] };
const afterwards: (() => unknown)[] = [];
afterEach(async () => {
  for (const undo of afterwards.splice(0)) await undo();
  vi.restoreAllMocks();
});

/** Records the pauses of `exchange.ts`, in seconds, and lets them pass at once. */
function pausesOf(server: FaultServer): number[] {
  const pauses: number[] = [];
  const start = performance.now();
  const passed = () => pauses.reduce((sum, seconds) => sum + seconds * 1000, 0);
  vi.spyOn(Math, "random").mockReturnValue(0);
  vi.spyOn(console, "warn").mockImplementation(() => {});
  vi.spyOn(Date, "now").mockReturnValue(table.now * 1000);
  vi.spyOn(performance, "now").mockImplementation(() => start + passed());
  vi.spyOn(globalThis, "setTimeout").mockImplementation(((run: () => void, ms: number, ...rest: unknown[]) => {
    const caller = new Error().stack?.split("\n").find((line, i) => i > 1 && !line.includes("vitest/spy"));
    if (!caller?.includes("exchange.ts")) return realTimeout(run, ms, ...rest);
    pauses.push(ms / 1000);
    return realTimeout(() => server.paused(pauses.length).then(run), 0);
  }) as typeof setTimeout);
  return pauses;
}

async function ask(url: string, { options = {}, calls = 1 }: Case): Promise<unknown> {
  const { timeout_s, provision_timeout_s, wait_for_capacity } = options;
  const client = new SIEClient(url, {
    ...(timeout_s !== undefined && { timeoutMs: timeout_s * 1000 }),
    ...(provision_timeout_s !== undefined && { provisionTimeout: provision_timeout_s * 1000 }),
    ...(wait_for_capacity !== undefined && { waitForCapacity: wait_for_capacity }),
  });
  let result: unknown;
  for (let call = 0; call < calls; call++) {
    result = await client.score("m", QUERY, ITEMS);
    await new Promise((resolve) => realTimeout(resolve, 50));
  }
  return result;
}

describe.each(table.groups)("$title", ({ cases }) => {
  test.each(cases)("$name", async (row) => {
    const server = await FaultServer.start(row);
    afterwards.push(() => server.close());
    const pauses = pausesOf(server);
    const outcome = await ask(server.url, row).catch((error: unknown) => error);
    if (row.raises === undefined) {
      expect(outcome).toMatchObject({ scores: SCORED.scores.map(({ rank }) => ({ rank })) });
    } else {
      const { code, status: statusCode, kind } = row;
      expect(outcome).toMatchObject({ name: row.raises, code, statusCode, ...(kind && { kind }) });
      expect((outcome as Error).message).toContain(row.says ?? "");
      if (row.retry_after_s) expect(outcome).toMatchObject({ retryAfter: row.retry_after_s * 1000 });
    }
    expect(pauses).toEqual(row.waits_s);
    if (server.refused !== true) expect(server.met).toBe(row.waits_s.length - server.refused + (row.calls ?? 1));
  });
});
