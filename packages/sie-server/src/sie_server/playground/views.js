/** The tabs of the results. */

import { byId } from "./elements.js";

/** @typedef {"ranking" | "sides" | "request"} View */

/** @type {readonly View[]} */
const VIEWS = ["ranking", "sides", "request"];

/** @param {View} view */
export function panel(view) {
  return byId(`view-${view}`, HTMLElement);
}

/**
 * Shows one panel. It gets the event "show", and may draw itself then.
 *
 * @param {View} view
 */
export function show(view) {
  for (const each of VIEWS) {
    const tab = byId(`tab-${each}`, HTMLButtonElement);
    tab.setAttribute("aria-selected", String(each === view));
    tab.tabIndex = each === view ? 0 : -1;
    panel(each).hidden = each !== view;
  }
  panel(view).dispatchEvent(new Event("show"));
}

/** Lets the pointer, the arrow keys, Home and End choose a tab. */
export function enableTabs() {
  VIEWS.forEach((view, index) => {
    const tab = byId(`tab-${view}`, HTMLButtonElement);
    tab.addEventListener("click", () => show(view));
    tab.addEventListener("keydown", (event) => {
      const { key } = event;
      const last = VIEWS.length - 1;
      const to = { ArrowRight: index + 1, ArrowLeft: index + last, Home: 0, End: last }[key];
      if (to === undefined) return;
      const next = VIEWS[to % VIEWS.length] ?? view;
      event.preventDefault();
      show(next);
      byId(`tab-${next}`, HTMLButtonElement).focus();
    });
  });
}
