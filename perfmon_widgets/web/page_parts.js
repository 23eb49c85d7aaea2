// The figures and the table of a section of the live page.

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string>} [attributes]
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/**
 * Show the figures as images, in which no script can run.
 *
 * @param {Element} place
 * @param {Section} section
 */
export function showFigures(place, { figures = [] }) {
  while (place.children.length > figures.length) place.lastElementChild?.remove();
  figures.forEach(({ svg, words }, at) => {
    let image = /** @type {HTMLImageElement | undefined} */ (place.children[at]);
    if (!image) {
      image = element("img");
      place.append(image);
    }
    // An image that is loaded needs its address no longer, nor does one that another takes the place of.
    if (image.src) URL.revokeObjectURL(image.src);
    const next = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
    image.onload = () => URL.revokeObjectURL(next);
    image.src = next;
    image.alt = words;
  });
}

/** @param {string} [color] @param {string} [dash] */
function swatch(color, dash) {
  const namespace = "http://www.w3.org/2000/svg";
  const drawn = document.createElementNS(namespace, "svg");
  drawn.setAttribute("class", "perfmon-swatch");
  drawn.setAttribute("viewBox", "0 0 16 10");
  drawn.setAttribute("aria-hidden", "true");
  if (color) {
    const line = document.createElementNS(namespace, "path");
    for (const [name, value] of Object.entries({ d: "M0,5h16", stroke: color, "stroke-width": "3" })) {
      line.setAttribute(name, value);
    }
    if (dash) line.setAttribute("stroke-dasharray", dash);
    drawn.append(line);
  }
  return drawn;
}

/** @param {Element} place @param {Section} section */
export function makeTable(place, { title, rows = [] }) {
  const head = ["column", "now", "mean", "peak"].map((word) => element("th", { scope: "col" }, word));
  const lines = rows.map(({ name, label, about, color, dash }) =>
    element(
      "tr",
      { "data-column": name },
      element("th", { scope: "row", title: `${name}. ${about}` }, swatch(color, dash), label),
      element("td"),
      element("td"),
      element("td"),
    ),
  );
  place.replaceChildren(
    element(
      "table",
      { class: "perfmon-table", "aria-label": title },
      element("thead", {}, element("tr", {}, ...head)),
      element("tbody", {}, ...lines),
    ),
  );
}

/** @param {Element} place @param {Numbers} numbers */
export function fillTable(place, { cells, reasons }) {
  const lines = place.querySelectorAll("tbody tr");
  cells.forEach((words, at) => {
    const row = /** @type {HTMLElement | undefined} */ (lines[at]);
    const values = [...(row?.children ?? [])].slice(1);
    const reason = reasons[row?.dataset.column ?? ""] ?? "";
    values.forEach((value, number) => {
      if (value.textContent !== words[number]) value.textContent = words[number];
      value.setAttribute("title", reason);
    });
  });
}
