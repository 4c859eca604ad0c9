/** The server that this page comes from: its client, the API key of this tab, and its errors as sentences. */

import { askForKey } from "./key-dialog.js";
import { SIEClient, SIEConnectionError, SIEError } from "./sdk.js";

/** @import { ModelInfo, ScoreResult } from "./sdk.js" */
/** @import { ScoreRequest } from "./request.js" */

// Behind a proxy, the server may be under a path.
const ADDRESS = new URL(".", location.href);
const SAVED = `sie.key ${ADDRESS.pathname}`;

/** Its address, without a slash at the end. */
export const address = `${ADDRESS.origin}${ADDRESS.pathname}`.replace(/\/+$/, "");

/** The server, asked with the key of this tab, which it asks the user for if one is needed. */
export class Server {
  /** Whether requests need a key. */
  keyed = false;
  #key = sessionStorage.getItem(SAVED) ?? "";
  /** @type {Promise<string> | undefined} */
  #asking;
  /** Whether the last request got no answer at all; the client goes on trying. */
  silent = false;
  #client = this.#clientWith(this.#key);

  /** Finds out whether the server wants a key, and asks for it if there is none. */
  async open() {
    const answer = await fetch(`${address}/v1/cluster/auth`).catch(() => undefined);
    const known = answer?.ok ? await answer.json().catch(() => undefined) : undefined;
    this.keyed = known?.auth === true;
    if (this.keyed && !this.#key) await this.askForKey("This server needs a key.");
  }

  /** @returns {Promise<ModelInfo[]>} the models that score. */
  async models() {
    const models = await this.#asked((client) => client.listModels());
    return models.filter(({ score }) => score !== null && score !== undefined);
  }

  /**
   * @param {ScoreRequest} request
   * @param {AbortSignal} signal
   * @returns {Promise<ScoreResult>}
   */
  score({ model, query, items, instruction, options }, signal) {
    return this.#asked((client) => client.score(model, query, items, { instruction, options, signal }));
  }

  /** @param {AbortSignal} signal */
  watch(signal) {
    return this.#client.watch("auto", { signal, provisionTimeout: 0 });
  }

  /**
   * Asks the user for a key, and keeps it in this tab.
   *
   * @param {string} reason
   * @returns {Promise<boolean>} whether one was given.
   */
  async askForKey(reason) {
    // Several calls may be refused at once; one question is enough.
    this.#asking ??= askForKey(reason).finally(() => {
      this.#asking = undefined;
    });
    const key = await this.#asking;
    if (!key) return false;
    this.#client = this.#clientWith(key);
    this.#key = key;
    sessionStorage.setItem(SAVED, key);
    return true;
  }

  /** @param {string} key */
  #clientWith(key) {
    /** @type {typeof fetch} */
    const noted = async (input, init) => {
      try {
        const answer = await fetch(input, init);
        this.silent = false;
        return answer;
      } catch (error) {
        this.silent = !init?.signal?.aborted;
        throw error;
      }
    };
    return new SIEClient(address, { apiKey: key, fetch: noted });
  }

  /**
   * Makes a call; if the server refuses the key, asks for another, until the user gives up.
   *
   * @template T
   * @param {(client: SIEClient) => Promise<T>} call
   * @returns {Promise<T>}
   */
  async #asked(call) {
    for (;;) {
      const key = this.#key;
      try {
        return await call(this.#client);
      } catch (error) {
        if (!(error instanceof SIEError) || error.statusCode !== 401) throw error;
        this.keyed = true;
        sessionStorage.removeItem(SAVED);
        const reason = key ? "The server does not accept this key." : "This server needs a key.";
        if (!(await this.askForKey(reason))) throw error;
      }
    }
  }
}

/** What the page says of a server that is silent. */
export const SILENCE = `The server at ${address} does not answer. Is it still running?`;

/**
 * An error as a sentence for the user.
 *
 * @param {unknown} error
 * @returns {string}
 */
export function sentence(error) {
  if (error instanceof SIEConnectionError) {
    return error.kind === "timeout"
      ? "The server did not answer in time. It may still be working on the request."
      : SILENCE;
  }
  if (error instanceof SIEError && error.statusCode === 401) return "The server needs a valid API key.";
  const message = error instanceof Error ? error.message : String(error);
  // Items are documents here, and people count them from one.
  const named = message
    .replace(/'?\bitems\[(\d+)\](?:\.text)?'?/g, (_, index) => `document ${Number(index) + 1}`)
    .replace(/'?\bquery\.text'?/g, "the query");
  const capital = named.charAt(0).toUpperCase() + named.slice(1);
  const ended = /[.!?…]$/.test(capital) ? capital : `${capital}.`;
  return error instanceof SIEError && error.code ? `${ended} (${error.code})` : ended;
}
