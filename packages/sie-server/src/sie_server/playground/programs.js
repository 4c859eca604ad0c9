/** The view of the request as a command and as programs. */

import { make } from "./elements.js";
import { snippets } from "./snippets.js";

/** @import { ScoreRequest } from "./request.js" */

const COPIED_MS = 2000;

/**
 * @param {ScoreRequest} request
 * @param {string} url
 * @param {boolean} keyed
 * @param {(name: string) => void} onChoice
 * @param {string} chosen - The name of the one to show.
 * @returns {Node[]}
 */
export function programsView(request, url, keyed, onChoice, chosen) {
  const all = snippets(request, url, keyed);
  const { name, code } = all.find((each) => each.name === chosen) ?? { name: "", code: "" };
  const choices = all.map((each) => {
    const button = make("button", "", each.name);
    button.type = "button";
    button.setAttribute("aria-pressed", String(each.name === name));
    button.addEventListener("click", () => onChoice(each.name));
    return button;
  });
  const block = make("pre", "", make("code", "", code));
  block.tabIndex = 0;
  block.setAttribute("aria-label", `The request as ${name}`);
  const group = make("div", "choices", ...choices);
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", "Language");
  return [
    make(
      "div",
      "programs",
      group,
      copyButton(() => code, "Copy"),
    ),
    block,
  ];
}

/**
 * @param {() => string | Promise<string>} text
 * @param {string} label
 */
function copyButton(text, label) {
  const button = make("button", "copy", label);
  button.type = "button";
  button.addEventListener("click", async () => {
    await announceCopy(button, label, text());
  });
  return button;
}

/**
 * Copies a text, and says so on the button for a moment.
 *
 * @param {HTMLButtonElement} button
 * @param {string} label
 * @param {string | Promise<string>} text
 */
export async function announceCopy(button, label, text) {
  const copied = await copy(await text);
  button.textContent = copied ? "Copied" : "Press Ctrl C";
  setTimeout(() => {
    button.textContent = label;
  }, COPIED_MS);
}

/**
 * @param {string} text
 * @returns {Promise<boolean>}
 */
async function copy(text) {
  try {
    // Only pages of https and of this machine have a clipboard.
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = make("textarea", "spoken", text);
    area.value = text;
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    return copied;
  }
}
