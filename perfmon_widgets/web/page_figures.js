// The figures of the live page: keeps the points that the server has sent, and draws them as SVG.
//
// What a figure shows, its axis, colours and names are decided in Python (views/figures.py, points.py). All text is
// set as text, so that no name can be markup.

import { element } from "./page_parts.js";

const [HEIGHT, MAP_ROW] = [135, 3]; // pixels of the lines of a figure; of the row of a map, at least
const [LEFT, RIGHT, ABOVE, BELOW] = [52, 16, 6, 22]; // pixels around them
const LETTER = 6.2; // pixels that a letter takes, about
const NAMES = 26; // pixels above a map, for the names of cells and marks

/** @typedef {{ times: number[], lines: Map<string, number[][]>, maps: Map<string, Map<number, string>> }} Kept */

/** @type {Kept} what the page has of all figures; a figure is known by its group and its place there */
const kept = { times: [], lines: new Map(), maps: new Map() };
/** @type {string[]} the colours of maps */
let colors = [];
/** @type {Map<string, Frame>} what is sent of a figure once */
const frames = new Map();

/**
 * Append what a view has sent; a view with `colors` has everything and takes the place of what was sent before.
 *
 * @param {Axis} axis
 * @param {Section[]} sections
 */
export function keep(axis, sections) {
  if (axis.colors) {
    colors = axis.colors;
    kept.times = [];
    kept.lines.clear();
    kept.maps.clear();
    frames.clear();
  }
  const until = kept.times.findIndex((time) => time >= axis.from);
  const old = until < 0 ? kept.times.length : until;
  // Those that have left; the last of them stays, since its stroke reaches into the figure.
  const gone = Math.max(0, kept.times.findLastIndex((time) => time < axis.start));
  const next = [...kept.times.slice(gone, old), ...axis.times];
  for (const { group, figures = [] } of sections) {
    for (const [place, figure] of figures.entries()) {
      const name = `${group} ${place}`;
      if (axis.colors) frames.set(name, /** @type {Frame} */ (figure));
      figure.values?.forEach((text, line) => {
        const lines = kept.lines.get(name) ?? [];
        kept.lines.set(name, lines);
        lines[line] = [...(lines[line] ?? []).slice(gone, old), ...(text ? text.split(",").map(Number) : [])];
      });
      if (figure.columns) {
        const columns = kept.maps.get(name) ?? new Map();
        kept.maps.set(name, columns);
        for (const number of columns.keys()) {
          if (number >= axis.column || (number + 1) * axis.seconds < axis.start) columns.delete(number);
        }
        for (const [at, letters] of figure.columns.entries()) columns.set(axis.column + at, letters);
      }
    }
  }
  kept.times = next;
}

const SPACE = "http://www.w3.org/2000/svg";

/**
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 * @param {(Node | string)[]} children
 */
function shape(tag, attributes, ...children) {
  const made = document.createElementNS(SPACE, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}

/** @param {number} x @param {number} y @param {string} words @param {string} anchor */
const text = (x, y, words, anchor = "start") =>
  shape("text", { x: x.toFixed(0), y: y.toFixed(0), "text-anchor": anchor }, words);

/** A stroke that looks like a line. @param {LineLook} look */
export function swatch({ color, dash = "", faint = false }) {
  const drawn = shape("svg", { class: "perfmon-swatch", viewBox: "0 0 16 10", "aria-hidden": "true" });
  drawn.append(shape("path", { d: "M0,5h16", ...stroke({ color, dash, faint }), "stroke-width": 3 }));
  return drawn;
}

/** @param {LineLook} look */
const stroke = ({ color, dash, faint }) => ({
  stroke: color,
  fill: "none",
  ...(dash ? { "stroke-dasharray": dash } : {}),
  ...(faint ? { "stroke-opacity": 0.5 } : {}),
});

/** The place of a figure's plot in its picture, in pixels. @typedef {ReturnType<typeof area>} Area */

/** @param {Axis} axis @param {number} width @param {number} left @param {number} above @param {number} height */
function area(axis, width, left, above, height) {
  const right = width - RIGHT;
  const seconds = axis.end - axis.start || 1;
  /** @param {number} time */
  const x = (time) => left + (right - left) * Math.min(Math.max((time - axis.start) / seconds, 0), 1);
  return { left, right, above, height, bottom: above + height, x };
}

/**
 * The known points of a line, and strokes between those that follow each other; a point without neighbours is a
 * short dash.
 *
 * @param {number[]} values
 * @param {boolean} joined whether points are connected over those without a value
 * @param {(time: number) => number} x
 * @param {(value: number) => number} y
 */
function path(values, joined, x, y) {
  const points = values.map((value, at) => ({ value, time: kept.times[at] }));
  const shown = joined ? points.filter(({ value }) => !Number.isNaN(value)) : points;
  let drawn = "";
  shown.forEach(({ value, time }, at) => {
    if (Number.isNaN(value)) return;
    const [follows, goesOn] = [shown[at - 1], shown[at + 1]].map((each) => each && !Number.isNaN(each.value));
    const height = y(value).toFixed(1);
    if (follows) drawn += `L${x(time).toFixed(1)},${height}`;
    else if (goesOn) drawn += `M${x(time).toFixed(1)},${height}`;
    else drawn += `M${(x(time) - 1.5).toFixed(1)},${height}h3`;
  });
  return drawn;
}

/** Lines at the ends of cells, and marks. @param {Behind} behind @param {Area} place @param {number} top */
const edges = ({ layers }, { x, bottom }, top) =>
  layers
    .filter(({ edge }) => edge)
    .map(({ color, edge, at }) => {
      const ends = new Set(at.flat().map((time) => x(time).toFixed(1)));
      const d = [...ends].map((end) => `M${end},${bottom}V${top}`).join("");
      return shape("path", { d, stroke: color, "stroke-opacity": edge });
    });

/** The areas of cells and spans. @param {Behind} behind @param {Area} place */
const areas = ({ layers }, { x, bottom, height }) =>
  layers
    .filter(({ inside }) => inside)
    .map(({ color, inside, bottom: low, top, at }) => {
      const [from, to] = [low, top].map((share) => (bottom - share * height).toFixed(1));
      const d = at.map(([start, end]) => `M${x(start).toFixed(1)},${from}V${to}H${x(end).toFixed(1)}V${from}z`).join("");
      return shape("path", { d, fill: color, "fill-opacity": inside });
    });

/** Round times below a plot, and their zone. @param {Axis} axis @param {Area} place */
const times = ({ ticks, zone }, { x, right, bottom }) => [
  ...ticks.flatMap(([time, label]) => [
    shape("path", { d: `M${x(time).toFixed(1)},${bottom}v4`, class: "ink" }),
    text(x(time), bottom + 15, label, "middle"),
  ]),
  text(right, bottom + 15, zone, "end"),
];

/** @param {string} name @param {Figure} figure @param {Frame} frame @param {Axis} axis @param {Behind} behind @param {number} width */
function lines(name, { ends = [0, 1], divisor = 1, ticks = [] }, frame, axis, behind, width) {
  const place = area(axis, width, LEFT, ABOVE, HEIGHT);
  const { left, right, above, bottom, x } = place;
  /** @param {number} value */
  const y = (value) => bottom - ((value - ends[0]) / (ends[1] - ends[0])) * HEIGHT;
  return picture(width, bottom + BELOW, [
    ...areas(behind, place),
    ...edges(behind, place, above),
    ...behind.names.map(([at, height, words]) => text(x(at) + 2, bottom - HEIGHT * height + 4, words)),
    ...ticks.flatMap(([value, words]) => [
      shape("path", { d: `M${left},${y(value).toFixed(1)}H${right}`, class: "grid" }),
      ...(words ? [text(left - 5, y(value) + 4, words, "end")] : []),
    ]),
    ...times(axis, place),
    ...(kept.lines.get(name) ?? []).map((values, at) => {
      const look = frame.lines?.[at];
      if (!look) return "";
      const d = path(values, look.joined, x, (value) => y(value / divisor));
      return shape("path", { d, ...stroke(look), class: "line" });
    }),
  ]);
}

/** @param {string} name @param {Frame} frame @param {Axis} axis @param {Behind} behind @param {number} width */
function map(name, { labels = [] }, axis, behind, width) {
  const columns = kept.maps.get(name) ?? new Map();
  const rows = columns.values().next().value?.length ?? 1;
  const longest = Math.max(0, ...labels.map(([, label]) => label.length));
  const high = Math.max(HEIGHT / rows, MAP_ROW);
  const names = behind.names.filter(([, height]) => height > 0.5); // of cells and marks
  const above = ABOVE + (names.length ? NAMES : 0);
  const place = area(axis, width, Math.max(LEFT, 8 + LETTER * longest), above, rows * high);
  const { left, bottom, x } = place;
  const paths = colors.map(() => "");
  for (let row = 0; row < rows; row++) {
    const y = (bottom - (row + 0.5) * high).toFixed(1);
    let [begin, end, letter] = [0, 0, "-"];
    // Cells of one colour that stand side by side are one stroke.
    const draw = () => {
      const [from, to] = [x(begin * axis.seconds), x(end * axis.seconds)];
      if (letter !== "-" && to > from) paths[Number(letter)] += `M${from.toFixed(1)},${y}H${to.toFixed(1)}`;
    };
    for (const number of [...columns.keys()].sort((one, other) => one - other)) {
      const next = columns.get(number)[row];
      if (next !== letter || number !== end) {
        draw();
        [begin, letter] = [number, next];
      }
      end = number + 1;
    }
    draw();
  }
  return picture(width, bottom + BELOW, [
    ...paths.map((d, level) => (d ? shape("path", { d, stroke: colors[level], "stroke-width": high.toFixed(2) }) : "")),
    // Areas would change the colours of the map.
    ...edges(behind, place, ABOVE),
    ...names.map(([at, height, words]) => text(x(at) + 2, ABOVE + (height > 0.9 ? 9 : 21), words)),
    ...labels.map(([row, label]) => text(left - 5, bottom - (row + 0.5) * high + 4, label, "end")),
    ...times(axis, place),
  ]);
}

/** @param {number} width @param {number} height @param {(Node | string)[]} drawn */
function picture(width, height, drawn) {
  const viewBox = `0 0 ${width} ${height.toFixed(0)}`;
  return shape("svg", { viewBox, width, height: height.toFixed(0), role: "img" }, ...drawn.filter(Boolean));
}

/**
 * Draw the figures of a section anew.
 *
 * @param {Element} place
 * @param {Section} section
 * @param {Axis} axis
 * @param {Behind} behind
 * @param {number} width in pixels
 */
export function showFigures(place, { group, figures = [] }, axis, behind, width) {
  while (place.children.length > figures.length) place.lastElementChild?.remove();
  figures.forEach((figure, at) => {
    const name = `${group} ${at}`;
    const frame = frames.get(name);
    if (!frame) return;
    const drawn = frame.lines
      ? lines(name, figure, frame, axis, behind, width)
      : map(name, frame, axis, behind, width);
    drawn.setAttribute("aria-label", `${figure.title} over time: ${frame.words}`);
    const known = place.children[at];
    if (known && !axis.colors) {
      const title = /** @type {Element} */ (known.querySelector("b"));
      if (title.textContent !== figure.title) title.textContent = figure.title;
      known.lastElementChild?.replaceWith(drawn);
      return;
    }
    const names = (frame.names ?? []).map(([words, line]) =>
      element("span", {}, ...(frame.lines ? [swatch(frame.lines[line])] : []), words),
    );
    const made = element("figure", {}, element("figcaption", {}, element("b", {}, figure.title), ...names), drawn);
    if (known) known.replaceWith(made);
    else place.append(made);
  });
}
