// The table of a section of the live page: a row for each column, and of many GPUs or the like a row for each of them.

import { swatch } from "./page_figures.js";
import { element, put } from "./page_parts.js";

const NUMBERS = ["now", "mean", "peak"];

const head = (/** @type {(Node | string)[]} */ ...titles) =>
  element("thead", {}, element("tr", {}, ...titles.map((title) => element("th", { scope: "col" }, title))));

/** @param {Element} place @param {Section} section */
export function makeTable(place, { title, rows = [], grid }) {
  const places = grid?.places ?? [];
  const inGrid = new Set(places.flatMap(({ metrics }) => metrics));
  const lines = rows.flatMap(({ name, label, about, color, dash }, at) =>
    inGrid.has(at)
      ? []
      : element(
          "tr",
          { "data-column": name, "data-about": `${name}. ${about}`, title: `${name}. ${about}` },
          element("th", { scope: "row" }, ...(color ? [swatch({ color, dash })] : []), label),
          ...NUMBERS.map(() => element("td")),
        ),
  );
  const table = element(
    "table",
    { class: "perfmon-table", "aria-label": title },
    head("column", ...NUMBERS),
    element("tbody", {}, ...lines),
  );
  place.replaceChildren(...(places.length ? [makeGrid(title, rows, grid)] : []), ...(lines.length ? [table] : []));
}

/** @param {string} title @param {Row[]} rows @param {Section["grid"]} grid */
function makeGrid(title, rows, { columns = [], places = [] } = {}) {
  // Which number the cells show.
  const choice = element(
    "select",
    { "aria-label": `${title}: number shown for each` },
    ...NUMBERS.map((name) => element("option", {}, name)),
  );
  const lines = places.map(({ label, metrics }) => {
    const own = metrics.map((at) => rows[at]);
    // Its lines have its colour in all figures.
    const look = own.find((row) => row?.color);
    return element(
      "tr",
      {},
      element(
        "th",
        { scope: "row" },
        ...(look?.color ? [swatch({ color: look.color, dash: look.dash })] : []),
        label,
        element("span", { class: "perfmon-why" }),
      ),
      ...own.map((row) =>
        row
          ? element("td", { "data-column": row.name, "data-about": `${row.label}. ${row.about}` })
          : element("td"),
      ),
    );
  });
  const grid = element(
    "table",
    { class: "perfmon-table perfmon-grid", "aria-label": `${title}, one by one` },
    head(choice, ...columns),
    element("tbody", {}, ...lines),
  );
  choice.addEventListener("change", () => {
    for (const cell of grid.querySelectorAll("td")) showNumber(cell, choice.selectedIndex);
  });
  return grid;
}

/** @type {WeakMap<Element, string[]>} the numbers of each cell of a grid */
const numbers = new WeakMap();

/** @param {Element} cell @param {number} chosen */
const showNumber = (cell, chosen) => put(cell, numbers.get(cell)?.[chosen] ?? "");

/** @param {Element} place @param {Row[]} rows of the section @param {Numbers} table */
export function fillTable(place, rows, { cells, reasons, lags }) {
  const chosen = place.querySelector("select")?.selectedIndex ?? 0;
  /** @type {Map<string | undefined, HTMLElement>} */
  const found = new Map();
  for (const each of place.querySelectorAll("[data-column]")) {
    found.set(/** @type {HTMLElement} */ (each).dataset.column, /** @type {HTMLElement} */ (each));
  }
  cells.forEach((words, at) => {
    const { name, label } = rows[at];
    const slot = found.get(name);
    if (!slot) return;
    let shown = "";
    if (slot.localName === "td") {
      numbers.set(slot, words);
      showNumber(slot, chosen);
      shown = `${label}: ${NUMBERS.map((number, each) => `${number} ${words[each]}`).join(", ")}. `;
    } else {
      for (const [each, word] of words.entries()) put(slot.children[each + 1], word);
    }
    const reason = Object.hasOwn(reasons, name) ? reasons[name] : "";
    const title = [shown + slot.dataset.about, reason].filter(Boolean).join(". ");
    if (slot.title !== title) slot.title = title;
  });
  if (lags !== undefined) showLagging(place, lags);
}

/** Mark the one that lags behind the others, in words too. @param {Element} place @param {Lags | null} lags */
function showLagging(place, lags) {
  for (const row of place.querySelectorAll(".perfmon-grid tbody tr")) {
    const cells = /** @type {HTMLElement[]} */ ([...row.children]);
    const lagging = cells.find((cell) => lags && cell.dataset.column === lags.column);
    for (const cell of cells) cell.classList.toggle("perfmon-lags", cell === lagging);
    cells[0].classList.toggle("perfmon-lags", Boolean(lagging));
    put(/** @type {Element} */ (cells[0].lastElementChild), lagging ? " lags" : "");
    cells[0].title = lagging && lags ? lags.why : "";
  }
}
