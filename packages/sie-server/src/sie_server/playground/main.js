/** The playground: ranks what the form holds, and shows the rankings. */

import { comparisonView } from "./comparison.js";
import { readDocuments } from "./documents.js";
import { byId, counted, duration, make } from "./elements.js";
import { EXAMPLES } from "./example.js";
import { Form } from "./form.js";
import { fragmentOf, stateOf } from "./link.js";
import { announceCopy, programsView } from "./programs.js";
import { ranked, rankingView } from "./ranking.js";
import { contender, scoreRequest } from "./request.js";
import { address, Server, sentence } from "./server.js";
import { showStatus } from "./status.js";
import { enableTabs, panel, show } from "./views.js";

/** @import { Ranked } from "./ranking.js" */
/** @import { ScoreRequest } from "./request.js" */

const PAUSE_MS = 400;
const MANY_CHARACTERS = 50_000;
const NO_SIDES = "Choose a model under “Side by side with”, and rank.";
const isMac = /^Mac|^iP/.test(navigator.platform);
const server = new Server();
const form = new Form(changed);
const rank = byId("rank", HTMLButtonElement);
const stop = byId("stop", HTMLButtonElement);
const message = byId("message", HTMLElement);
const problem = byId("error", HTMLElement);
let example = 0;
let language = "curl";
/** @type {AbortController | undefined} */
let running;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let drawing;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let writing;
// The requests whose rankings are on the page.
let shown = { requests: "", message: "" };
// The fragment that this page wrote itself, so that it is not read again.
let written = "";

/** Keeps the request and the link in step with the form; what takes long waits for a pause in typing. */
function changed() {
  clearTimeout(drawing);
  if (form.state.documents.length < MANY_CHARACTERS) compareWithShown();
  else drawing = setTimeout(compareWithShown, PAUSE_MS);
  clearTimeout(writing);
  writing = setTimeout(() => void writeLink().catch(() => undefined), PAUSE_MS);
}

/** @returns {Promise<string>} the address of the page in its present state. */
async function writeLink() {
  try {
    written = await fragmentOf(form.state);
    history.replaceState(null, "", `#${written}`);
  } catch (error) {
    // A link to something else would be wrong.
    written = "";
    history.replaceState(null, "", location.pathname + location.search);
    throw error;
  }
  return location.href;
}

/**
 * The requests that the form stands for: one, or two to compare.
 *
 * @returns {ScoreRequest[]}
 * @throws {Error} whose message is a sentence.
 */
function requests() {
  const { query, documents: typed, model, against, long, instruction, why } = form.state;
  const { documents } = readDocuments(typed);
  if (query.trim() === "") throw new Error("Enter a query.");
  if (documents.length === 0) throw new Error("Enter at least one document.");
  if (!model) throw new Error("This server has no model that scores.");
  return [model, against].filter(Boolean).map((name) => {
    const chosen = contender(name);
    const matches = form.info(chosen.model)?.score === "maxsim" && ["", "colbert"].includes(chosen.mode);
    return scoreRequest(chosen, { query, documents, instruction, long, explain: why && matches });
  });
}

/** Says whether the rankings on the page are those of the form, and shows its request. */
function compareWithShown() {
  if (shown.requests && !running) {
    const isCurrent = requestsOrNone() === shown.requests;
    message.textContent = isCurrent ? shown.message : `Changed since; ${isMac ? "⌘" : "Ctrl"} ↵ ranks again`;
  }
  showRequest();
}

function requestsOrNone() {
  try {
    return JSON.stringify(requests());
  } catch {
    return "";
  }
}

/** Shows the request in its view, if that is visible. */
function showRequest() {
  if (panel("request").hidden) return;
  const choose = (/** @type {string} */ name) => {
    language = name;
    showRequest();
    panel("request")
      .querySelector(/** @type {"button"} */ ('button[aria-pressed="true"]'))
      ?.focus();
  };
  try {
    const [request] = requests();
    if (request) panel("request").replaceChildren(...programsView(request, address, server.keyed, choose, language));
  } catch (error) {
    panel("request").replaceChildren(make("p", "empty", sentence(error)));
  }
}

async function rankNow() {
  running?.abort();
  const own = new AbortController();
  running = own;
  problem.hidden = true;
  let waiting;
  try {
    const asked = requests();
    const started = performance.now();
    rank.setAttribute("aria-busy", "true");
    waiting = setInterval(() => sayWhy(asked, performance.now() - started), 250);
    const rankings = [];
    // One after the other: together, each would take time from the other.
    for (const request of asked) {
      const result = await server.score(request, own.signal);
      rankings.push(ranked(request, result, form.info(request.model)?.score === "probability"));
      if (own.signal.aborted) return;
      showRankings(rankings, asked.length);
    }
    clearInterval(waiting);
    const count = counted(asked[0]?.items.length ?? 0, "document");
    shown = { requests: JSON.stringify(asked), message: `${count} ranked in ${duration(performance.now() - started)}` };
    message.textContent = shown.message;
    await writeLink().catch(() => undefined);
  } catch (error) {
    if (running !== own) return;
    message.textContent = own.signal.aborted ? "Stopped." : "";
    if (!own.signal.aborted) complain(sentence(error));
  } finally {
    clearInterval(waiting);
    if (running === own) {
      rank.removeAttribute("aria-busy");
      stop.hidden = true;
      running = undefined;
    }
  }
}

/**
 * @param {readonly Ranked[]} rankings - Those that have arrived.
 * @param {number} count - Of those that were asked for.
 */
function showRankings([first, second], count) {
  if (first) panel("ranking").replaceChildren(...rankingView(first));
  if (first && second) panel("sides").replaceChildren(...comparisonView(first, second));
  else panel("sides").replaceChildren(make("p", "empty", count === 2 ? "The second ranking is awaited." : NO_SIDES));
  if (second) show("sides");
  else if (count === 1 && panel("request").hidden) show("ranking");
}

/**
 * Says what a request waits for.
 *
 * @param {readonly ScoreRequest[]} asked
 * @param {number} ms
 */
function sayWhy(asked, ms) {
  const loading = asked.find(({ model }) => form.info(model)?.loaded === false);
  const text = loading ? `The model ${loading.model} is loading…` : "Ranking…";
  if (message.firstChild?.textContent !== text) message.replaceChildren(text);
  stop.hidden = ms < 800;
  if (ms < 2000) return;
  // Seen, but not read aloud second by second.
  const elapsed = make("span", "", ` ${Math.round(ms / 1000)} s`);
  elapsed.setAttribute("aria-hidden", "true");
  message.replaceChildren(message.firstChild ?? text, elapsed);
}

/** @param {string} text */
function complain(text) {
  problem.textContent = text;
  problem.hidden = false;
  problem.scrollIntoView({ block: "nearest" });
}

/** Fills the form from the page's address. @returns {Promise<boolean>} whether there was something in it. */
async function readLink() {
  const fragment = location.hash.slice(1);
  if (fragment === "" || fragment === written) return false;
  problem.hidden = true;
  try {
    const complaint = form.fill(await stateOf(fragment));
    if (complaint) complain(complaint);
    written = fragment;
    showRequest();
    return true;
  } catch (error) {
    complain(sentence(error));
    return false;
  }
}

function fillExample() {
  const { query, documents, long } = EXAMPLES[example++ % EXAMPLES.length] ?? {
    query: "",
    documents: "",
    long: "truncate",
  };
  const { model, against, why } = form.state;
  form.fill({ query, documents, long, model, against, instruction: "", why });
  showRequest();
}

/** Ranks at once if that needs no load. */
async function rankIfLoaded() {
  const names = [form.state.model, form.state.against].filter(Boolean);
  if (names.length > 0 && names.every((name) => form.info(contender(name).model)?.loaded)) await rankNow();
}

function listen() {
  enableTabs();
  panel("request").addEventListener("show", showRequest);
  byId("form", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    void rankNow();
  });
  stop.addEventListener("click", () => running?.abort());
  if (isMac) for (const key of document.querySelectorAll("kbd")) key.textContent = key.textContent.replace("Ctrl", "⌘");
  byId("example", HTMLButtonElement).addEventListener("click", () => {
    fillExample();
    changed();
    void rankIfLoaded();
  });
  const link = byId("link", HTMLButtonElement);
  link.addEventListener("click", () => {
    const address = writeLink();
    address.then(
      () => announceCopy(link, "Copy link", address),
      (error) => complain(sentence(error)),
    );
  });
  byId("theme", HTMLButtonElement).addEventListener("click", () => {
    const { dataset } = document.documentElement;
    const dark = dataset["theme"] ? dataset["theme"] === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    dataset["theme"] = dark ? "light" : "dark";
    localStorage.setItem("sie.theme", dataset["theme"]);
  });
  byId("key-change", HTMLButtonElement).addEventListener("click", async () => {
    if (await server.askForKey("Another key for this server:")) await start();
  });
  document.addEventListener("keydown", (event) => {
    const { key, ctrlKey, metaKey, target } = event;
    const typing = target instanceof HTMLTextAreaElement || target instanceof HTMLInputElement;
    if (key === "Enter" && (ctrlKey || metaKey)) void rankNow();
    else if (key === "Escape" && running) running.abort();
    else if (key === "/" && !typing) byId("query", HTMLTextAreaElement).focus();
    else return;
    event.preventDefault();
  });
  addEventListener("hashchange", async () => {
    if (await readLink()) await rankIfLoaded();
  });
}

/** Gets what the server has, and ranks for the first time. */
async function start() {
  try {
    await server.open();
    byId("key-change", HTMLButtonElement).hidden = !server.keyed;
    form.offer(await server.models());
    byId("key-change", HTMLButtonElement).hidden = !server.keyed;
    if (!form.state.query && !(await readLink())) fillExample();
    showRequest();
    await rankIfLoaded();
  } catch (error) {
    complain(sentence(error));
  }
}

listen();
await start();
void showStatus(server, (status) => form.follow(status));
