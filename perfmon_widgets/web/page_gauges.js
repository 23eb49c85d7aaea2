// The gauges of the live page. gauge.js takes their readings from models of ipywidgets; these stand for such models.

import gauge from "./gauge.js";

export const SLOWEST = 1; // seconds between two requests at least

// Only a Jupyter server has kernels to choose from.
export const hasKernels = "kernels" in document.documentElement.dataset;

/** @type {Map<string, Set<(...values: any[]) => void>>} */
const listeners = new Map();
/** The kernel as gauge.js asks for it: why its readings are old. */
export const kernel = { status: "", connectionStatus: "connected", isDisposed: false };
const manager = { kernel: hasKernels ? kernel : undefined, get_model: async () => link };
export const link = {
  readings: /** @type {Readings} */ ({}),
  comm_live: true,
  perfmon: { page: "", views: 0, wasLive: true, lost: false, waiting: 0, doubt: "" },
  widget_manager: manager,
  get: () => link.readings,
  on: (/** @type {string} */ event, /** @type {() => void} */ callback) => {
    if (!listeners.has(event)) listeners.set(event, new Set());
    listeners.get(event)?.add(callback);
  },
  off: (/** @type {string} */ event, /** @type {() => void} */ callback) => listeners.get(event)?.delete(callback),
  trigger: (/** @type {string} */ event) => {
    for (const callback of listeners.get(event) ?? []) callback();
  },
};
/** @type {Map<string, HTMLElement>} */
const gauges = new Map();

/** @param {Element} place @param {Readings} readings */
export function showGauges(place, readings) {
  const isNew = readings.time !== link.readings.time;
  // Samples that are taken faster than the page asks for them are not late before it has asked.
  link.readings = { ...readings, interval: Math.max(SLOWEST, readings.interval) };
  const labels = Object.keys(readings.gauges ?? {});
  for (const label of labels) {
    if (gauges.has(label)) continue;
    const el = document.createElement("div");
    gauges.set(label, el);
    const model = { widget_manager: manager, get: (/** @type {string} */ name) => (name === "label" ? label : "link") };
    gauge.render({ model: /** @type {any} */ (model), el });
  }
  const shown = labels.map((label) => /** @type {HTMLElement} */ (gauges.get(label)));
  const now = [...place.children];
  if (shown.length !== now.length || shown.some((each, at) => each !== now[at])) {
    place.replaceChildren(...shown);
  }
  // Those of a sample that was shown before are as old as they were.
  link.trigger(isNew ? "change:readings" : "perfmon:state");
}
