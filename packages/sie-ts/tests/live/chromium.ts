/** The Chromium of this machine, where there is one. */

import { existsSync } from "node:fs";
import { type Browser, chromium } from "playwright-core";

const flags = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const executablePath = process.env["SIE_CHROMIUM"] ?? "/usr/bin/chromium";

/** Whether there is one; if not, tests that need it are skipped, and the log says so. */
export const present = existsSync(executablePath);
if (!present) console.warn(`SKIPPED: tests in a browser, for there is no Chromium at ${executablePath} (SIE_CHROMIUM)`);

export function launched(): Promise<Browser> {
  return chromium.launch({ executablePath, args: flags });
}
