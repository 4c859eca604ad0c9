/** The view of the requests as commands and as programs. */

import { make } from "./elements.js";
import { rankerName } from "./request.js";
import { snippets } from "./snippets.js";

/** @import { ScoreRequest } from "./request.js" */

const COPIED_MS = 2000;

/**
 * @param {readonly ScoreRequest[]} requests - One, or two to compare.
 * @param {string} url
 * @param {boolean} keyed
 * @param {(name: string) => void} onChoice
 * @param {string} chosen - The name of the language to show.
 * @returns {Node[]}
 */
export function programsView(requests, url, keyed, onChoice, chosen) {
  const all = requests.map((request) => snippets(request, url, keyed));
  const choices = (all[0] ?? []).map(({ name }) => {
    const button = make("button", "", name);
    button.type = "button";
    button.setAttribute("aria-pressed", String(name === chosen));
    button.addEventListener("click", () => onChoice(name));
    return button;
  });
  const group = make("div", "choices", ...choices);
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", "Language");
  const codes = all.map((some) => some.find(({ name }) => name === chosen)?.code ?? "");
  if (requests.length === 1) {
    return [
      make("div", "programs", group, ...codes.map((code) => copyButton(code))),
      ...codes.map((code) => block(code, `The request as ${chosen}`)),
    ];
  }
  return [
    make("div", "programs", group),
    ...requests.flatMap((request, index) => {
      const code = codes[index] ?? "";
      const name = rankerName(request);
      return [
        make("div", "programs", make("h2", "", name), copyButton(code)),
        block(code, `The request to ${name} as ${chosen}`),
      ];
    }),
  ];
}

/**
 * @param {string} code
 * @param {string} label
 */
function block(code, label) {
  const made = make("pre", "", make("code", "", code));
  made.tabIndex = 0;
  made.setAttribute("aria-label", label);
  return made;
}

/** @param {string} text */
function copyButton(text) {
  const label = "Copy";
  const button = make("button", "copy", label);
  button.type = "button";
  button.addEventListener("click", () => void announceCopy(button, label, text));
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
