// Run the calls of the clients for Node against a server, and write down what became of each: as ../calls/run.py.
import { appendFileSync, readFileSync } from "node:fs";
import { calls, WrongError } from "./harness.mjs";
import "./cohere.mjs";
import "./ai_sdk.mjs";
import "./openai.mjs";
import "./voyageai.mjs";

const target = JSON.parse(readFileSync(0, "utf8"));
const chosen = process.argv[3] ?? "";
for (const { client, call, attempt } of calls) {
  if (!client.includes(chosen)) continue;
  const started = performance.now();
  let verdict = "works";
  let said = "";
  try {
    await attempt(target);
  } catch (error) {
    verdict = error instanceof WrongError ? "wrong" : "error";
    said = `${error.name}: ${error.message} ${error.responseBody ?? ""}`;
  }
  const seconds = Math.round(performance.now() - started) / 1000;
  const line = { client, call, verdict, said: said.slice(0, 2000), seconds };
  appendFileSync(process.argv[2], `${JSON.stringify(line)}\n`);
}
process.exit(0);
