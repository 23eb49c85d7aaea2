// The legend of a section's charts, with numbers, and the values where the mouse or the arrow keys point. Of many
// GPUs each has a row, with a column for each quantity; all other metrics have rows of their own.

const NUMBERS = ["now", "mean", "peak"];
const HEAD = ["metric", ...NUMBERS];

// Writing a text that is there already would cost the browser a layout.
function put(cell, text) {
  if (cell.textContent !== text) cell.textContent = text;
}

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// A short stroke that looks like the line: its colour, and its dashes (stroke-dasharray), if any.
function swatch(color, dash) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("class", "perfmon-swatch");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("viewBox", "0 0 16 10");
  const line = document.createElementNS(space, "line");
  for (const [key, value] of Object.entries({ x1: 0, y1: 5, x2: 16, y2: 5, "stroke-width": dash ? 3 : 8 })) {
    line.setAttribute(key, value);
  }
  line.setAttribute("stroke", color);
  line.setAttribute("stroke-dasharray", dash);
  svg.append(line);
  return svg;
}

// The values of a figure that are nearest to a moment, of those that are seen: from `start` on. All times are in
// seconds before the right end of the figure.
function nearest(figure, names, seconds, start) {
  const kinds = ["LinesModel", "HeatMapModel"];
  const mark = (figure.get("marks") ?? []).find((each) => kinds.includes(each.get("_model_name")));
  const x = mark?.get("x") ?? [];
  let at = -1;
  for (let index = 0; index < x.length; index++) {
    if (x[index] < start || x[index] > 0) continue; // beyond an end, so that the line reaches it
    if (at < 0 || Math.abs(x[index] - seconds) <= Math.abs(x[at] - seconds)) at = index;
  }
  if (at < 0) return null;
  const mapped = mark.get("_model_name") === "HeatMapModel";
  const y = mark.get(mapped ? "color" : "y");
  const rows = names.length > 1 ? y : [y];
  const values = names.map((_, row) => rows[row]?.[at]);
  // In a map a number below 0 stands for a missing value.
  return { x: x[at], all: x, values: mapped ? values.map((value) => (value < 0 ? NaN : value)) : values };
}

function makeTable(...head) {
  const table = element("table", undefined, { class: "perfmon-table" });
  const [caption, body, row] = [element("caption"), element("tbody"), element("tr")];
  row.append(...head);
  table.append(caption, element("thead"), body);
  table.tHead.append(row);
  return { table, caption, body };
}

const titleOf = (name) => element("th", name, { scope: "col" });

async function render({ model, el }) {
  // Not the signal that anywidget passes: its older versions have none.
  const leaving = new AbortController();
  const { signal } = leaving;
  const pointed = titleOf("");
  const { table, caption, body } = makeTable(...HEAD.map(titleOf), pointed);
  // Which number the rows of GPUs show; the mouse or the keys may ask for another one.
  const choice = element("select", undefined, { "aria-label": "number shown for each" });
  choice.append(...NUMBERS.map((name) => element("option", name)));
  const corner = titleOf();
  corner.append(choice);
  const grid = makeTable(corner, ...(model.get("grid").columns ?? []).map(titleOf));
  grid.table.classList.add("perfmon-grid");
  // Where the texts of each metric go: in a row of its own, or in a cell in the row of its GPU.
  let slots = [];

  let figures = [];
  let seconds = null; // the moment that the mouse or the keys point at, in seconds before now
  let leave = () => {};
  const section = () => el.closest(".perfmon-section");
  const places = () => plots(section());
  const start = () => figures[0]?.get("marks")?.[0]?.get("scales")?.x?.get("min") ?? -600;

  function ownRow({ name, label }, stroke) {
    const row = element("tr", undefined, { "data-column": name });
    const title = element("th", undefined, { scope: "row" });
    title.append(...[stroke].filter(Boolean), label);
    row.append(title, ...HEAD.map(() => element("td")));
    return {
      row,
      titled: row,
      more: () => "",
      show: (texts) => {
        row.classList.toggle("perfmon-absent", texts.every((text) => text === "–"));
        for (const [column, text] of texts.entries()) put(row.cells[column + 1], text);
      },
      point: (text) => put(row.cells[HEAD.length], text),
    };
  }

  function ownCell({ name, label }) {
    const cell = element("td", undefined, { "data-column": name });
    let texts = [];
    let elsewhere = null; // the text of the moment that is pointed at
    const draw = () => put(cell, elsewhere ?? texts[choice.selectedIndex] ?? "");
    return {
      cell,
      titled: cell,
      more: () => `${label}: ${NUMBERS.map((number, at) => `${number} ${texts[at]}`).join(", ")}`,
      show: (next) => {
        texts = next;
        draw();
      },
      point: (text, isPointing) => {
        elsewhere = isPointing ? text : null;
        draw();
      },
    };
  }

  function drawRows() {
    const strokes = new Map();
    for (const { name, color, dash } of model.get("lines").flat()) {
      if (color) strokes.set(name, swatch(color, dash));
    }
    const [rows, gpus] = [model.get("rows"), model.get("grid").places ?? []];
    const inGrid = new Set(gpus.flatMap(({ metrics }) => metrics));
    slots = rows.map((row, at) => (inGrid.has(at) ? ownCell(row) : ownRow(row, strokes.get(row.name))));
    body.replaceChildren(...slots.map((slot) => slot.row).filter(Boolean));
    grid.body.replaceChildren(
      ...gpus.map(({ label, metrics }) => {
        const row = element("tr");
        const title = element("th", undefined, { scope: "row" });
        // Its lines have its colour in all figures.
        const stroke = metrics.map((at) => strokes.get(rows[at]?.name)).find(Boolean);
        title.append(...[stroke].filter(Boolean), label, element("span"));
        row.append(title, ...metrics.map((at) => slots[at]?.cell ?? element("td")));
        return row;
      }),
    );
    const tables = [grid, { table, body }].filter((each) => each.body.rows.length);
    el.replaceChildren(...tables.map((each) => each.table));
  }

  function drawValues() {
    const { time, period, cells, reasons, lags } = model.get("values");
    if (!time) return;
    put(caption, period);
    put(table.tHead.rows[0].cells[1], model.get("values").now);
    model.get("rows").forEach(({ name, about }, at) => {
      const slot = slots[at];
      slot.show(cells[at]);
      const title = [slot.more() || name, about, reasons[name]].filter(Boolean).join(". ");
      if (slot.titled.title !== title) slot.titled.title = title;
    });
    for (const row of grid.body.rows) {
      const [title, ...quantities] = row.cells;
      const lagging = lags && quantities.find((cell) => cell.dataset.column === lags.column);
      for (const cell of quantities) cell.classList.toggle("perfmon-lags", cell === lagging);
      title.classList.toggle("perfmon-lags", !!lagging);
      put(title.lastElementChild, lagging ? " lags" : "");
      title.title = lagging ? lags.why : "";
    }
    prepare();
    drawPointed();
  }

  // Describe the figures to keyboard and screen reader. They are made when a section is first opened.
  function prepare() {
    places().forEach((place, at) => {
      const name = figures[at]?.get("title") ?? "";
      if (!place.hasAttribute("tabindex")) {
        place.setAttribute("tabindex", "0");
        place.setAttribute("role", "slider");
        place.setAttribute("aria-valuemax", "0");
      }
      place.setAttribute("aria-label", `${name}: a moment of its time`);
      place.setAttribute("aria-valuemin", String(start()));
    });
  }

  function drawPointed() {
    const { time, labels } = model.get("values");
    const found = new Map();
    let moment = null;
    let snapped = 0; // the moment of the sample whose values are shown
    for (const [at, lines] of model.get("lines").entries()) {
      const point = seconds === null || !figures[at] ? null : nearest(figures[at], lines, seconds, start());
      if (!point) continue;
      if (moment === null) [moment, snapped] = [time + point.x, point.x];
      lines.forEach(({ name }, row) => {
        const value = point.values[row];
        const unit = labels[at] === "%" ? "%" : ` ${labels[at]}`;
        found.set(name, Number.isFinite(value) ? `${threeDigits(value)}${unit}` : "–");
      });
    }
    put(pointed, moment === null ? "" : `at ${clock(moment)}`);
    tellTimeline();
    put(grid.caption, moment === null ? caption.textContent : `at ${clock(moment)}`);
    const people = new Map(); // the names for people
    model.get("rows").forEach(({ name, label }, at) => {
      people.set(name, label);
      slots[at].point(found.get(name) ?? "", moment !== null);
    });
    places().forEach((place, at) => {
      place.querySelector(":scope > .perfmon-cursor")?.remove();
      const names = (model.get("lines")[at] ?? []).map(({ name }) => name);
      const values = names.slice(0, 8).map((name) => `${people.get(name)} ${found.get(name)}`);
      const words = moment === null ? "now" : [clock(moment), ...values].join(", ");
      place.setAttribute("aria-valuenow", String(Math.round(snapped)));
      place.setAttribute("aria-valuetext", words);
      if (moment === null) return;
      const [inside, outside] = [plotArea(place), place.getBoundingClientRect()];
      const cursor = element("div", undefined, { class: "perfmon-cursor" });
      const x = inside.left - outside.left + inside.width * (1 - snapped / start());
      cursor.style.cssText =
        `left: ${x}px; top: ${inside.top - outside.top}px; height: ${inside.height}px;`;
      place.append(cursor);
    });
  }

  // For the row of buttons (timeline.js): what the charts show, where the mouse points, and how long a pixel is.
  function tellTimeline() {
    const { time } = model.get("values");
    const [place] = places();
    if (!time || !place) return;
    const detail = {
      start: time + start(),
      end: time,
      moment: seconds === null ? null : time + seconds,
      pixel: seconds === null ? 0 : -start() / plotArea(place).width, // to measure the page takes time
    };
    section()?.dispatchEvent(new CustomEvent("perfmon:pointed", { detail }));
  }

  function point(next) {
    seconds = next === null ? null : Math.min(0, Math.max(start(), next));
    drawPointed();
  }
  const moved = (event) => {
    const place = places().find((each) => each.contains(event.target));
    if (!place) return void (seconds !== null && event.pointerType === "mouse" && point(null));
    const { left, width, top, bottom } = plotArea(place);
    const within = event.clientX >= left - 4 && event.clientX <= left + width + 4
      && event.clientY >= top - 4 && event.clientY <= bottom + 4;
    point(within ? start() * (1 - (event.clientX - left) / width) : null);
  };
  const left = () => seconds !== null && point(null);
  const pressed = (event) => {
    const at = places().indexOf(event.target);
    const here = at < 0 || !figures[at] ? null : nearest(figures[at], model.get("lines")[at], seconds ?? 0, start());
    if (!here) return;
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: 10, PageDown: -10 }[event.key];
    const all = [...here.all].filter((x) => x >= start() && x <= 0);
    const now = seconds === null ? all.length : all.indexOf(here.x);
    const next = { Home: 0, End: all.length - 1 }[event.key] ?? (step === undefined ? null : now + step);
    if (event.key !== "Escape" && next === null) return;
    event.preventDefault();
    event.stopPropagation();
    point(event.key === "Escape" ? null : all[Math.min(Math.max(next, 0), all.length - 1)]);
  };

  async function takeFigures() {
    const manager = model.widget_manager;
    const references = model.get("figures").map((each) => each.model_id ?? each);
    figures = await Promise.all(references.map((each) => find(manager, each)));
    drawRows();
    drawValues();
  }

  const changedFigures = () => void takeFigures();
  drawRows();
  drawValues();
  choice.addEventListener("change", drawValues, { signal });
  model.on("change:values", drawValues);
  model.on("change:lines", changedFigures);
  const link = await find(model.widget_manager, model.get("link"));
  if (link) leave = attend(link);
  await takeFigures();
  inSection(el, signal).then((root) => {
    root?.addEventListener("pointermove", moved, { signal });
    root?.addEventListener("pointerleave", left, { signal });
    root?.addEventListener("focusout", left, { signal });
    root?.addEventListener("keydown", pressed, { signal });
  });
  return () => {
    leaving.abort();
    leave();
    model.off("change:values", drawValues);
    model.off("change:lines", changedFigures);
    el.replaceChildren(); // JupyterLab keeps the elements of removed views
  };
}

export default { render };
