/** The playground: ranks what the form holds, and shows the rankings. */

import { comparisonView } from "./comparison.js";
import { readDocuments } from "./documents.js";
import { byId, counted, duration, make } from "./elements.js";
import { EXAMPLES } from "./example.js";
import { Form } from "./form.js";
import { fragmentOf, stateOf } from "./link.js";
import { announceCopy, programsView } from "./programs.js";
import { ranked, rankingView } from "./ranking.js";
import { contender, rankerName, scoreRequest } from "./request.js";
import { address, Server, SILENCE, sentence } from "./server.js";
import { showStatus } from "./status.js";
import { enableTabs, panel, show } from "./views.js";

/** @import { Ranked } from "./ranking.js" */
/** @import { ScoreRequest } from "./request.js" */

const PAUSE_MS = 400;
const MANY_CHARACTERS = 50_000;
const LONG_WAIT_MS = 800;
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
// The rankings that are on the page, and their requests.
let shown = { rankings: /** @type {Ranked[]} */ ([]), requests: "", message: "" };
// The fragment that this page wrote itself, so that it is not read again.
let written = "";
// Whether the page's address is a link that could not be read. It stays as it is until the user ranks.
let damaged = false;

/** Keeps the request and the link in step with the form; what takes long waits for a pause in typing. */
function changed() {
  problem.hidden = true;
  clearTimeout(drawing);
  if (form.state.documents.length < MANY_CHARACTERS) compareWithShown();
  else drawing = setTimeout(compareWithShown, PAUSE_MS);
  clearTimeout(writing);
  writing = setTimeout(() => void keepLink(), PAUSE_MS);
}

/** Keeps the page's address in step with the form, if that fits into a link. */
async function keepLink() {
  if (!damaged) await writeLink().catch(() => undefined);
}

/** @returns {Promise<string>} the address of the page in its present state. */
async function writeLink() {
  damaged = false;
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
    if (isCurrent) markEarlier(false);
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
    panel("request").replaceChildren(...programsView(requests(), address, server.keyed, choose, language));
  } catch (error) {
    panel("request").replaceChildren(make("p", "empty", sentence(error)));
  }
}

/** Ranks because the user says so. */
async function rankNow() {
  problem.hidden = true;
  damaged = false;
  await rankForm();
}

async function rankForm() {
  running?.abort();
  const own = new AbortController();
  running = own;
  const second = make("p", "empty", "The second ranking is awaited.");
  /** @type {Ranked[]} */
  const rankings = [];
  let waiting;
  try {
    const asked = requests();
    const started = performance.now();
    rank.setAttribute("aria-busy", "true");
    waiting = setInterval(() => sayWhy(asked, performance.now() - started, rankings.length > 0), 250);
    // One after the other: together, each would take time from the other.
    for (const request of asked) {
      const result = await server.score(request, own.signal);
      rankings.push(ranked(request, result, form.info(request.model)?.score === "probability"));
      own.signal.throwIfAborted();
      const count = counted(request.items.length, "document");
      const took = duration(performance.now() - started);
      // If the second fails, the first is still on the page.
      const requests = JSON.stringify(asked.slice(0, rankings.length));
      shown = { rankings: [...rankings], requests, message: `${count} ranked in ${took}` };
      showRankings(shown.rankings, asked.length > 1 ? second : undefined);
    }
    clearInterval(waiting);
    message.textContent = shown.message;
    await keepLink();
  } catch (error) {
    const reason = own.signal.aborted ? "Stopped." : sentence(error);
    second.textContent = `There is no second ranking. ${reason}`;
    if (running !== own) return;
    message.textContent = own.signal.aborted ? reason : "";
    if (!own.signal.aborted) complain(reason);
    if (rankings.length === 0) markEarlier(true);
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
 * @param {HTMLElement | undefined} awaited - Stands for the second one, if two were asked for.
 */
function showRankings([first, second], awaited) {
  markEarlier(false);
  if (first) panel("ranking").replaceChildren(...rankingView(first));
  if (first && second) panel("sides").replaceChildren(...comparisonView(first, second));
  else panel("sides").replaceChildren(awaited ?? make("p", "empty", NO_SIDES));
  if (second) show("sides");
  else if (!awaited && panel("request").hidden) show("ranking");
}

/**
 * Says of the rankings on the page, if there are any, that they answer an earlier request, or takes it back.
 *
 * @param {boolean} isEarlier
 */
function markEarlier(isEarlier) {
  const [first] = shown.rankings;
  for (const view of /** @type {const} */ (["ranking", "sides"])) {
    const rankers = view === "ranking" ? shown.rankings.slice(0, 1) : shown.rankings;
    const holds = first !== undefined && (view === "ranking" || rankers.length > 1);
    panel(view).classList.toggle("earlier", isEarlier && holds);
    const said = panel(view).querySelector(":scope > .caveat");
    if (said && isEarlier) continue;
    said?.remove();
    if (!isEarlier || !holds) continue;
    const names = rankers.map(({ request }) => rankerName(request)).join(" and ");
    panel(view).prepend(make("p", "caveat", `Of the earlier request “${first.request.query}”, ranked by ${names}:`));
  }
}

/**
 * Says what a request waits for.
 *
 * @param {readonly ScoreRequest[]} asked
 * @param {number} ms
 * @param {boolean} hasBegun - Whether the first ranking has arrived.
 */
function sayWhy(asked, ms, hasBegun) {
  const loading = asked.find(({ model }) => form.info(model)?.loaded === false);
  const text = server.silent
    ? `${SILENCE} Trying again…`
    : loading
      ? `The model ${loading.model} is loading…`
      : "Ranking…";
  if (message.firstChild?.textContent !== text) message.replaceChildren(text);
  stop.hidden = ms < LONG_WAIT_MS;
  if (ms >= LONG_WAIT_MS && !hasBegun) markEarlier(true);
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
  // The address of the results themselves, for those who skip to them without this script.
  if (fragment === "" || fragment === "results" || fragment === written) return false;
  problem.hidden = true;
  try {
    const complaint = form.fill(await stateOf(fragment));
    if (complaint) complain(complaint);
    written = fragment;
    damaged = false;
    showRequest();
    return true;
  } catch (error) {
    damaged = true;
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
  if (names.length > 0 && names.every((name) => form.info(contender(name).model)?.loaded)) await rankForm();
}

function listen() {
  enableTabs();
  panel("request").addEventListener("show", showRequest);
  byId("form", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    void rankNow();
  });
  stop.addEventListener("click", () => running?.abort());
  const skip = /** @type {HTMLAnchorElement} */ (document.querySelector("a.skip"));
  skip.addEventListener("click", (event) => {
    // The fragment of the address holds the state.
    event.preventDefault();
    byId("results", HTMLElement).focus();
  });
  if (isMac) for (const key of document.querySelectorAll("kbd")) key.textContent = key.textContent.replace("Ctrl", "⌘");
  byId("example", HTMLButtonElement).addEventListener("click", () => {
    fillExample();
    damaged = false;
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
  problem.hidden = true;
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
