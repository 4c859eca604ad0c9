/** Every row of the retry table, which is shared with the Python SDK. */

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { errorClass, type FailureKind } from "../../src/errors.js";
import { afterFailure, afterResponse, parseRetryAfter, type Retries } from "../../src/http/retry.js";

interface Row {
  name: string;
  status?: number;
  code?: string;
  header?: string;
  failure?: FailureKind;
  retries?: Retries;
  wait_for_capacity?: boolean;
  max_oom_retries?: number;
  inference?: boolean;
  delay_s?: number;
  jitter?: boolean;
  raise?: string;
}

const path = new URL("../../../sie-sdk/tests/retry_table.json", import.meta.url);
const table = JSON.parse(readFileSync(path, "utf8")) as {
  now: number;
  retry_after: { header: string | null; seconds: number | null }[];
  decisions: Row[];
};
const nowMs = table.now * 1000;

function decide(row: Row, draw: number) {
  const options = {
    waitForCapacity: row.wait_for_capacity ?? true,
    maxOomRetries: row.max_oom_retries ?? 3,
    inference: row.inference ?? true,
  };
  const retries = row.retries ?? {};
  if (row.failure) return afterFailure(row.failure, retries, options, draw);
  return afterResponse(row.status ?? 0, row.code, parseRetryAfter(row.header ?? null, nowMs), retries, options, draw);
}

test.each(table.decisions)("$name", (row) => {
  const [patient, hasty] = [decide(row, 0), decide(row, 1)];
  if (row.raise) {
    expect(patient).toBeUndefined();
    expect(hasty).toBeUndefined();
    const thrown = row.failure ? "SIEConnectionError" : new (errorClass(row.status ?? 0, row.code))("", {}).name;
    expect(thrown).toBe(row.raise);
  } else {
    const delayMs = (row.delay_s as number) * 1000;
    expect(patient?.delayMs).toBeCloseTo(delayMs);
    expect(hasty?.delayMs).toBeCloseTo(delayMs * (row.jitter ? 0.75 : 1));
  }
});

test.each(table.retry_after)("Retry-After $header", ({ header, seconds }) => {
  expect(parseRetryAfter(header, nowMs)).toBe(seconds === null ? undefined : seconds * 1000);
});

test.each(["Wed, 21 Xan 2015 07:28:30 GMT", "2015-10-21T07:28:30Z"])("no HTTP date: %s", (date) =>
  expect(parseRetryAfter(date, nowMs)).toBeUndefined(),
);
