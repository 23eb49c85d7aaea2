// The sections of the live page: which are open, and what stands in them.

import { keep, showFigures } from "./page_figures.js";
import { element, part } from "./page_parts.js";
import { fillTable, makeTable } from "./page_table.js";

const OPEN = "perfmon-open"; // the key under which the browser keeps which sections are open

/** @type {Set<string> | undefined} the groups whose sections are open */
let open = remembered();
/** @type {Map<string, Row[]>} the rows of the table of each group */
const rowsOf = new Map();
/** @type {() => void} called when a section is opened whose figures are to be asked for */
let askForMore = () => {};

/** @param {() => void} callback */
export function whenOpened(callback) {
  askForMore = callback;
}

/** The groups that are open, as they are asked for; undefined if that is not known yet. */
export function openGroups() {
  return open && [...open].map(encodeURIComponent).join(",");
}

/** How many pixels wide a figure is: as a column of the grid that holds them. */
export function widthOfFigures() {
  return Math.floor(Number.parseFloat(getComputedStyle(part("measure")).gridTemplateColumns));
}

/** @returns {Set<string> | undefined} the groups that were open when this browser last showed the page */
function remembered() {
  try {
    const stored = localStorage.getItem(OPEN);
    return stored === null ? undefined : new Set(JSON.parse(stored));
  } catch {
    return undefined; // the browser keeps nothing, or something else
  }
}

function remember() {
  try {
    localStorage.setItem(OPEN, JSON.stringify([...(open ?? [])]));
  } catch {
    // The browser keeps nothing: the choice lasts as long as the page.
  }
}

/** @param {Section} section */
function makeSection({ group, title }) {
  const table = element("div", { class: "table", tabindex: "0", role: "region", "aria-label": `${title}, numbers` });
  const made = element(
    "details",
    { "data-group": group },
    element("summary", {}, element("h2", {}, title)),
    element("div", { class: "figures" }),
    table,
  );
  made.open = open?.has(group) ?? false;
  made.addEventListener("toggle", () => {
    if (made.open === open?.has(group)) return;
    if (made.open) open?.add(group);
    else open?.delete(group);
    remember();
    if (made.open) askForMore();
  });
  return made;
}

/** @param {View} view */
export function showSections({ sections, axis, behind }) {
  if (!sections) return;
  // Before the first sample there are no figures yet, and it is not known which sections are open.
  const opened = sections.filter(({ figures }) => figures).map(({ group }) => group);
  if (opened.length) open ??= new Set(opened);
  if (!open) return;
  const place = part("sections");
  const now = /** @type {HTMLDetailsElement[]} */ ([...place.children]);
  const same = now.length === sections.length && now.every((each, at) => each.dataset.group === sections[at].group);
  const parts = same ? now : sections.map(makeSection);
  if (!same) place.replaceChildren(...parts);
  if (!axis || !behind) return;
  keep(axis, sections);
  const width = widthOfFigures();
  sections.forEach((section, at) => {
    const { group, figures, rows, table } = section;
    const [, pictures, numbers] = parts[at].children;
    if (figures) showFigures(pictures, section, axis, behind, width);
    if (rows) {
      rowsOf.set(group, rows);
      makeTable(numbers, section);
    }
    if (table) fillTable(numbers, rowsOf.get(group) ?? [], table);
  });
}
