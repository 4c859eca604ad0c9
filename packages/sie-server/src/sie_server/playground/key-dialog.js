/** The dialog that asks for an API key. */

import { byId } from "./elements.js";

/**
 * Asks the user for a key.
 *
 * @param {string} reason
 * @returns {Promise<string>} the key; empty if none was given.
 */
export function askForKey(reason) {
  const dialog = byId("key-dialog", HTMLDialogElement);
  const input = byId("key", HTMLInputElement);
  byId("key-reason", HTMLElement).textContent = reason;
  input.value = "";
  const over = new AbortController();
  const { signal } = over;
  return new Promise((resolve) => {
    const close = (/** @type {string} */ key) => {
      over.abort();
      input.value = "";
      dialog.close();
      resolve(key);
    };
    byId("key-form", HTMLFormElement).addEventListener(
      "submit",
      (event) => {
        event.preventDefault();
        close(input.value.trim());
      },
      { signal },
    );
    byId("key-cancel", HTMLButtonElement).addEventListener("click", () => close(""), { signal });
    dialog.addEventListener("cancel", () => close(""), { signal });
    dialog.showModal();
  });
}
