/** The form: what is to be ranked, and by which model. */

import { readDocuments } from "./documents.js";
import { byId, counted, make } from "./elements.js";

/** @import { ModelInfo, StatusMessage } from "./sdk.js" */
/** @import { State } from "./link.js" */

const MOST_FILE_BYTES = 2 * 2 ** 20;
const MEANING = /** @type {Record<string, string>} */ ({
  maxsim: "MaxSim: the sum of the query’s best matches",
  probability: "probability, from 0 to 1",
  logit: "logit: any number, higher is better",
  log_probability: "logarithm of a probability, below 0",
  similarity: "similarity of embeddings",
  tanh: "from −1 to 1",
  relu: "from 0 up",
});
const MODES = /** @type {Record<string, string>} */ ({ dense: "dense", sparse: "sparse", multivector: "colbert" });

const query = byId("query", HTMLTextAreaElement);
const documents = byId("documents", HTMLTextAreaElement);
const model = byId("model", HTMLSelectElement);
const against = byId("against", HTMLSelectElement);
const long = byId("long", HTMLSelectElement);
const instruction = byId("instruction", HTMLInputElement);
const why = byId("why", HTMLInputElement);

/** The controls of the form. */
export class Form {
  /** @type {Map<string, ModelInfo>} */
  #models = new Map();
  /** @param {() => void} onChange - Called after each change. */
  constructor(onChange) {
    const changed = () => {
      this.describe();
      onChange();
    };
    byId("form", HTMLFormElement).addEventListener("input", changed);
    byId("open", HTMLButtonElement).addEventListener("click", () => byId("file", HTMLInputElement).click());
    byId("file", HTMLInputElement).addEventListener("change", async ({ currentTarget }) => {
      const input = /** @type {HTMLInputElement} */ (currentTarget);
      const [file] = input.files ?? [];
      if (file) await this.#read(file, changed);
      input.value = "";
    });
    documents.addEventListener("dragover", (event) => {
      event.preventDefault();
      documents.classList.add("dropping");
    });
    documents.addEventListener("dragleave", () => documents.classList.remove("dropping"));
    documents.addEventListener("drop", async (event) => {
      documents.classList.remove("dropping");
      const file = event.dataTransfer?.files[0];
      if (!file) return;
      event.preventDefault();
      await this.#read(file, changed);
    });
  }

  /** @returns {State} */
  get state() {
    return {
      query: query.value,
      documents: documents.value,
      model: model.value,
      against: against.value,
      long: long.value,
      instruction: instruction.value,
      why: why.checked,
    };
  }

  /**
   * @param {State} state
   * @returns {string} a sentence about a model that this server does not have, or nothing.
   */
  fill(state) {
    query.value = state.query;
    documents.value = state.documents;
    long.value = state.long;
    instruction.value = state.instruction;
    why.checked = state.why;
    model.value = state.model;
    against.value = state.against;
    const missing = [state.model, state.against].find((name) => name && !this.#has(name));
    if (model.value === "") model.value = this.preferred;
    if (against.value !== state.against) against.value = "";
    if (state.instruction || state.long !== "truncate") document.querySelector("details")?.setAttribute("open", "");
    this.describe();
    return missing ? `This server does not have the model ${missing} of the link.` : "";
  }

  /** @param {readonly ModelInfo[]} models */
  offer(models) {
    const before = this.state;
    this.#models = new Map(models.map((each) => [each.name, each]));
    const sorted = [...models].sort((a, b) => Number(b.loaded) - Number(a.loaded));
    const groups = /** @type {const} */ ([
      ["In memory", sorted.filter(({ loaded }) => loaded)],
      ["Loaded when they are used", sorted.filter(({ loaded }) => !loaded)],
    ]);
    const lists = () =>
      groups.flatMap(([title, some]) => {
        if (some.length === 0) return [];
        const group = make("optgroup", "");
        group.label = title;
        group.append(...some.flatMap(options));
        return [group];
      });
    model.replaceChildren(...lists());
    against.replaceChildren(new Option("no other model", ""), ...lists());
    model.value = this.#has(before.model) ? before.model : this.preferred;
    against.value = this.#has(before.against) ? before.against : "";
    this.describe();
  }

  /**
   * Takes over the state of the models; rebuilds the lists if one has been loaded or unloaded.
   *
   * @param {StatusMessage} status
   */
  follow(status) {
    let moved = false;
    for (const { name, state } of status.models) {
      const known = this.#models.get(name);
      if (known === undefined || known.state === state) continue;
      const loaded = state === "loaded" || state === "unloading";
      moved ||= loaded !== known.loaded;
      this.#models.set(name, { ...known, state, loaded });
    }
    // A list that is open would close.
    if (moved && document.activeElement !== model && document.activeElement !== against)
      this.offer([...this.#models.values()]);
    else this.#describeModel();
  }

  /** The model to begin with: one in memory, if there is any. */
  get preferred() {
    const models = [...this.#models.values()];
    return (models.find(({ loaded }) => loaded) ?? models[0])?.name ?? "";
  }

  /** @param {string} name */
  info(name) {
    return this.#models.get(name);
  }

  /** Says below the controls what they hold. */
  describe() {
    const note = byId("documents-note", HTMLElement);
    try {
      const { documents: read, form } = readDocuments(documents.value);
      note.textContent =
        read.length > 0 ? `${counted(read.length, "document")}, ${form}` : "One per line, or JSON; or drop a file here";
      documents.setAttribute("aria-invalid", "false");
    } catch (error) {
      note.textContent = error instanceof Error ? error.message : String(error);
      documents.setAttribute("aria-invalid", "true");
    }
    this.#describeModel();
  }

  #describeModel() {
    const info = this.#models.get(model.value.split("#")[0] ?? "");
    const note = byId("model-note", HTMLElement);
    const facts = info && [
      MEANING[info.score ?? ""] ?? info.score ?? "",
      ...(info.maxSequenceLength ? [`${info.maxSequenceLength.toLocaleString("en")} tokens`] : []),
      {
        available: "not in memory yet",
        loading: "loading…",
        loaded: "in memory",
        unloading: "unloading",
        failed: `failed to load${info.lastError ? `: ${info.lastError.message}` : ""}`,
      }[info.state],
    ];
    const text = facts?.join(" · ") ?? "";
    if (note.textContent !== text) note.textContent = text;
  }

  /** @param {string} name */
  #has(name) {
    return [...model.options].some(({ value }) => value === name);
  }

  /**
   * @param {File} file
   * @param {() => void} changed
   */
  async #read(file, changed) {
    const note = byId("documents-note", HTMLElement);
    if (file.size > MOST_FILE_BYTES) {
      const size = (file.size / 2 ** 20).toFixed(1);
      note.textContent = `${file.name} has ${size} MiB; this page reads 2 MiB at most. For more, use sie-server rerank.`;
      return;
    }
    try {
      documents.value = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    } catch {
      note.textContent = `${file.name} is not a text in UTF-8.`;
      return;
    }
    changed();
  }
}

/**
 * The entries of a model: itself, and the other ways in which it can compare two texts.
 *
 * @param {ModelInfo} info
 */
function options({ name, outputs, score }) {
  const modes = outputs.flatMap((output) => MODES[output] ?? []);
  const own = score === "maxsim" ? "colbert" : "dense";
  const others = modes.length > 1 ? [...modes, "hybrid"].filter((mode) => mode !== own) : [];
  const possible = modes.length === 3 ? others : others.filter((mode) => mode !== "hybrid");
  return [
    new Option(name, name),
    ...possible.map((mode) => new Option(`${name.split("/").at(-1)} · ${mode}`, `${name}#${mode}`)),
  ];
}
