// The row below the charts: buttons that choose which time they show, and words about the cell under the mouse. A drag
// over a chart chooses that stretch of time, in all charts. What is shown is decided in the kernel (panel/timeline.py).

const BUTTONS = [
  { action: "earlier", text: "◂", label: "Earlier" },
  { action: "later", text: "▸", label: "Later" },
  { action: "in", text: "+", label: "Zoom in" },
  { action: "out", text: "−", label: "Zoom out" },
];
const SMALLEST = 5; // pixels; less is a click

/**
 * Let a drag over any chart choose a stretch of time, and a double click lead back to the newest rows.
 *
 * @param {WidgetModel} model
 * @param {HTMLElement} root the section
 * @param {AbortSignal} signal
 */
function dragToZoom(model, root, signal) {
  /** @type {{ area: DOMRect, from: number } | null} */
  let drag = null;
  const clear = () => {
    for (const each of root.querySelectorAll(".perfmon-selection")) each.remove();
  };
  /** @param {PointerEvent} event */
  const ends = (event) => {
    const { area, from } = /** @type {{ area: DOMRect, from: number }} */ (drag);
    const to = Math.min(Math.max(event.clientX, area.left), area.right);
    return { left: (Math.min(from, to) - area.left) / area.width, right: (Math.max(from, to) - area.left) / area.width };
  };
  const draw = (/** @type {PointerEvent} */ event) => {
    if (!drag) return;
    clear();
    const { left, right } = ends(event);
    for (const place of plots(root)) {
      const [inside, outside] = [plotArea(place), place.getBoundingClientRect()];
      const selection = document.createElement("div");
      selection.className = "perfmon-selection";
      selection.style.cssText = `left: ${inside.left - outside.left + left * inside.width}px;`
        + `width: ${(right - left) * inside.width}px;`
        + `top: ${inside.top - outside.top}px; height: ${inside.height}px;`;
      place.append(selection);
    }
  };
  const begin = (/** @type {PointerEvent} */ event) => {
    const place = plots(root).find((each) => each.contains(/** @type {Node} */ (event.target)));
    if (!place || event.button !== 0 || event.pointerType === "touch") return;
    const area = plotArea(place);
    const { clientX: x, clientY: y } = event;
    if (x < area.left || x > area.right || y < area.top || y > area.bottom) return;
    drag = { area, from: x };
  };
  const end = (/** @type {PointerEvent} */ event) => {
    if (!drag) return;
    const { left, right } = ends(event);
    const isDrag = (right - left) * drag.area.width >= SMALLEST;
    drag = null;
    clear();
    if (isDrag) model.send({ action: "zoom", from: left, to: right });
  };
  const cancel = (/** @type {KeyboardEvent} */ event) => {
    if (!drag || event.key !== "Escape") return;
    drag = null;
    clear();
    event.stopPropagation();
  };
  const live = (/** @type {MouseEvent} */ event) => {
    const onPlot = plots(root).some((each) => each.contains(/** @type {Node} */ (event.target)));
    if (onPlot && !model.get("state").live) model.send({ action: "live" });
  };
  root.addEventListener("pointerdown", begin, { signal });
  root.addEventListener("dblclick", live, { signal });
  window.addEventListener("pointermove", draw, { signal });
  window.addEventListener("pointerup", end, { signal });
  window.addEventListener("keydown", cancel, { signal, capture: true });
}

/** @param {{ model: WidgetModel, el: HTMLElement, signal: AbortSignal }} context */
function render({ model, el, signal }) {
  const row = document.createElement("div");
  row.className = "perfmon-timeline";
  const button = (/** @type {string} */ text, /** @type {string} */ label, /** @type {() => string} */ action) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    made.title = label;
    if (text.length === 1) made.setAttribute("aria-label", label);
    made.addEventListener("click", () => model.send({ action: action() }));
    row.append(made);
    return made;
  };
  const pause = button("Pause", "Hold the charts; samples go on", () => (model.get("state").live ? "pause" : "live"));
  for (const { action, text, label } of BUTTONS) {
    button(text, `${label}; or drag over a chart to zoom, double-click for the newest`, () => action);
  }
  const words = document.createElement("span");
  words.className = "perfmon-words";
  words.setAttribute("aria-live", "polite");
  row.append(words);
  el.append(row);

  /** @type {number | null} */
  let pointed = null; // Unix seconds

  // The innermost is the one that began last.
  function under() {
    const moment = pointed ?? NaN;
    const found = /** @type {[number, number | null, string][]} */ (model.get("spans")).filter(
      ([start, end]) => start <= moment && moment <= (end ?? Infinity),
    );
    return found.map((each) => each[2]).reverse();
  }

  function draw() {
    const { live, running } = model.get("state");
    pause.textContent = live ? "Pause" : "Live";
    pause.title = live ? "Hold the charts; samples go on" : "Back to the newest rows";
    row.classList.toggle("perfmon-held", !live);
    const text = pointed === null ? running && `running: ${running}` : under().join("  ‹  ");
    if (words.textContent !== text) words.textContent = text;
    words.title = text;
  }

  draw();
  model.on("change:state", draw);
  model.on("change:spans", draw);
  inSection(el).then((section) => {
    if (!section || signal.aborted) return;
    dragToZoom(model, section, signal);
    const point = (/** @type {Event} */ event) => {
      pointed = /** @type {CustomEvent} */ (event).detail;
      draw();
    };
    section.addEventListener("perfmon:pointed", point, { signal });
  });
  return () => {
    model.off("change:state", draw);
    model.off("change:spans", draw);
    el.replaceChildren(); // JupyterLab keeps the elements of removed views
  };
}

export default { render };
