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
 * @param {() => Shown | null} shown what the charts show
 * @param {AbortSignal} signal
 */
function dragToZoom(model, root, shown, signal) {
  /** @type {{ area: DOMRect, from: number, shown: Shown } | null} */
  let drag = null;
  const clear = () => {
    for (const each of root.querySelectorAll(".perfmon-selection")) each.remove();
  };
  const cancel = () => {
    drag = null;
    clear();
  };
  // The ends of the drag, as shares of the width.
  /** @param {PointerEvent} event */
  const ends = (event) => {
    const { area, from } = /** @type {{ area: DOMRect, from: number }} */ (drag);
    const to = Math.min(Math.max(event.clientX, area.left), area.right);
    return { left: (Math.min(from, to) - area.left) / area.width, right: (Math.max(from, to) - area.left) / area.width };
  };
  const draw = (/** @type {PointerEvent} */ event) => {
    if (!drag) return;
    if (!(event.buttons & 1)) return cancel(); // it was released where this page could not see it
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
    const now = shown();
    if (!place || !now || event.button !== 0 || event.pointerType === "touch") return;
    const area = plotArea(place);
    const { clientX: x, clientY: y } = event;
    if (x < area.left || x > area.right || y < area.top || y > area.bottom) return;
    drag = { area, from: x, shown: now }; // the charts may move under the drag
  };
  const end = (/** @type {PointerEvent} */ event) => {
    if (!drag) return;
    const { left, right } = ends(event);
    const { area, shown: then } = drag;
    cancel();
    const at = (/** @type {number} */ share) => then.start + share * (then.end - then.start);
    if ((right - left) * area.width >= SMALLEST) model.send({ action: "zoom", from: at(left), to: at(right) });
  };
  const pressed = (/** @type {KeyboardEvent} */ event) => {
    if (!drag || event.key !== "Escape") return;
    cancel();
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
  window.addEventListener("pointercancel", cancel, { signal });
  window.addEventListener("keydown", pressed, { signal, capture: true });
}

/** @param {{ model: WidgetModel, el: HTMLElement }} context */
function render({ model, el }) {
  const leaving = new AbortController();
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

  /** @type {Shown | null} */
  let shown = null;

  // What lies under the mouse, give or take a pixel. The innermost is the one that began last.
  function under() {
    const { moment, pixel } = /** @type {Shown} */ (shown);
    const found = /** @type {[number, number | null, string][]} */ (model.get("spans")).filter(
      ([start, end]) => start - pixel <= (moment ?? NaN) && (moment ?? NaN) <= (end ?? Infinity) + pixel,
    );
    return found.map((each) => each[2]).reverse();
  }

  function draw() {
    const { live, running } = model.get("state");
    pause.textContent = live ? "Pause" : "Live";
    pause.title = live ? "Hold the charts; samples go on" : "Back to the newest rows";
    row.classList.toggle("perfmon-held", !live);
    const text = (shown?.moment ?? null) === null ? running && `running: ${running}` : under().join("  ‹  ");
    if (words.textContent !== text) words.textContent = text;
    words.title = text;
  }

  draw();
  model.on("change:state", draw);
  model.on("change:spans", draw);
  inSection(el, leaving.signal).then((section) => {
    if (!section || leaving.signal.aborted) return;
    dragToZoom(model, section, () => shown, leaving.signal);
    const point = (/** @type {Event} */ event) => {
      shown = /** @type {CustomEvent} */ (event).detail;
      draw();
    };
    section.addEventListener("perfmon:pointed", point, { signal: leaving.signal });
  });
  return () => {
    leaving.abort();
    model.off("change:state", draw);
    model.off("change:spans", draw);
    el.replaceChildren(); // JupyterLab keeps the elements of removed views
  };
}

export default { render };
