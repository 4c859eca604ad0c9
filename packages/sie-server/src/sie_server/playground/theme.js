/** The chosen theme, set before the page is drawn; without a choice, the system's. */

const saved = localStorage.getItem("sie.theme");
if (saved === "light" || saved === "dark") document.documentElement.dataset["theme"] = saved;
