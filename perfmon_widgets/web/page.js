// The live page: asks for what is new at the pace of the monitor, and shows it. What is shown is decided in Python
// (web/view.py); the gauges are drawn, and taken for stale, by the panel's gauge.js.

import { hasKernels, kernel, link, SLOWEST, showGauges } from "./page_gauges.js";
import { address, chooseOnly, chosen, listKernels, SILENT } from "./page_kernels.js";
import { element, part, put } from "./page_parts.js";
import { openGroups, showSections, whenOpened, widthOfFigures } from "./page_sections.js";

const TIMEOUT = 15; // seconds to wait for an answer
const LIST_EVERY = 5; // seconds between two looks for kernels while there is none to show
const LIST_AGAIN = 10; // seconds between two looks for kernels, at least, while the one that is shown does not answer
const AFTER_FAILURE = [1, 2, 5, 10]; // seconds to wait after the first, second … failure in a row
const WITHOUT_SAMPLE = 5; // seconds to wait, at most, while there is no sample yet

const windows = /** @type {HTMLSelectElement} */ (part("window"));
const log = /** @type {HTMLInputElement} */ (part("log"));
const download = /** @type {HTMLAnchorElement} */ (part("download"));

/** What is known of the monitor: of the last answer. */
const known = {
  newest: "", // the time of the newest sample that is shown
  have: "", // stands for the figures that are shown
  interval: 1,
  stopped: false,
  death: "", // what the kernel died of
  xsrf: "", // to be sent with a POST
};
let paused = false;
let failures = 0; // in a row
let listed = Number.NEGATIVE_INFINITY; // when the page last looked for other kernels, in milliseconds
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;
/** @type {AbortController | undefined} */
let asking;

// -- showing ---------------------------------------------------------------------------------------------------

/** @param {string} kind @param {string} words */
function showState(kind, words) {
  const state = part("state");
  state.dataset.kind = kind;
  put(state, words); // a screen reader reads what changes
}

/** Say what the last answer says of the monitor; whether its newest sample is too old is decided by the gauges. */
function showMonitor() {
  if (known.death) showState("dead", known.death);
  else if (known.stopped) showState("stopped", "The monitor is stopped.");
  else if (paused) showState("paused", "Paused.");
  else {
    const pace = `a sample every ${Number(known.interval.toPrecision(3))} s`;
    if (link.perfmon.doubt) showState("late", `No new sample: the program answers, but does not take ${pace} now.`);
    else showState("live", `Live: ${pace}.`);
  }
}

/** @param {View} view */
function showView(view) {
  part("shown").hidden = false;
  failures = 0;
  known.newest = view.newest ?? "";
  known.have = view.have ?? known.have;
  known.interval = view.interval;
  known.stopped = view.state === "stopped";
  known.death = view.death ?? "";
  const time = view.time ? new Date(1000 * view.time).toLocaleTimeString("en-GB") : "";
  part("newest").textContent = time && `last sample at ${time}`;
  kernel.status = view.death ? "dead" : "";
  link.comm_live = !view.death;
  showGauges(part("gauges"), view);
  showMonitor();
  showWindows(view);
  if (view.verdict !== undefined || view.state === "stopped") showVerdict(view.verdict);
  part("logging").hidden = part("log-state").hidden = !view.log;
  if (view.log) showLog(view.log);
  showSections(view);
}

/** @param {View} view */
function showWindows({ windows: offered, window: shown }) {
  const now = [...windows.options].map(({ value }) => value);
  if (String(now) === String(offered.map(({ seconds }) => seconds))) return;
  const before = windows.value;
  windows.replaceChildren(...offered.map(({ seconds, words }) => new Option(words, String(seconds))));
  windows.value = before;
  // What was chosen may not be offered any more: then the next longer one is chosen.
  if (!windows.value) windows.selectedIndex = offered.findIndex(({ seconds }) => seconds >= shown);
}

/** @param {Finding | null | undefined} finding */
function showVerdict(finding) {
  const line = part("verdict");
  line.dataset.severity = finding?.severity ?? "";
  const words = finding ? `${finding.what}: ${finding.evidence}; ${finding.advice}.` : "";
  if (line.textContent === words) return;
  line.replaceChildren(...(finding ? [element("b", {}, finding.what), words.slice(finding.what.length)] : []));
}

/** @param {LogState} state */
function showLog({ enabled, path, rows, error }) {
  log.checked = enabled;
  const line = part("log-state");
  line.classList.toggle("error", Boolean(error));
  const words = path ? `${path}: ${rows} row${rows === 1 ? "" : "s"}${enabled ? "" : ", closed"}` : "";
  line.textContent = error ?? words;
}

// -- asking ----------------------------------------------------------------------------------------------------

/** Have the request that is on its way answered to nobody. */
function stopAsking() {
  asking?.abort();
  asking = undefined;
}

/**
 * Ask for what is new, or for everything if `full`, and show it; then again after a while.
 *
 * @param {{ full?: boolean }} how
 */
async function refresh({ full = false } = {}) {
  clearTimeout(timer);
  stopAsking();
  if ((paused && !full) || document.hidden || (hasKernels && !chosen.id)) return;
  asking = new AbortController();
  const mine = asking;
  const late = setTimeout(() => mine.abort(), 1000 * TIMEOUT);
  /** @type {Record<string, string>} */
  const query = {
    width: String(widthOfFigures()),
    zone: Intl.DateTimeFormat().resolvedOptions().timeZone,
    minutes: String(-new Date().getTimezoneOffset()),
  };
  const groups = openGroups();
  if (groups !== undefined) query.open = groups;
  if (windows.value) query.window = windows.value;
  if (known.newest && !full) {
    query.since = known.newest;
    query.have = known.have;
  }
  try {
    const response = await fetch(address("perfmon/view", query), { signal: mine.signal, cache: "no-store" });
    const content = await response.json();
    if (mine !== asking) return;
    kernel.connectionStatus = "connected";
    known.xsrf = response.headers.get("X-XSRFToken") ?? known.xsrf;
    if (response.ok) showView(content);
    else failed(content.message, response.status, content.state);
  } catch {
    if (mine !== asking) return;
    kernel.connectionStatus = "disconnected";
    failed(hasKernels ? SILENT : "the program does not answer: it may have ended");
  } finally {
    clearTimeout(late);
  }
  if (mine === asking && !paused) {
    clearTimeout(timer);
    timer = setTimeout(refresh, 1000 * untilNext());
  }
}

/** In how many seconds to ask again: after an interval of the monitor, but soon if there is nothing to show yet. */
function untilNext() {
  if (failures) return AFTER_FAILURE[Math.min(failures, AFTER_FAILURE.length) - 1];
  return Math.max(SLOWEST, known.newest ? known.interval : Math.min(known.interval, WITHOUT_SAMPLE));
}

/**
 * @param {string} message
 * @param {number} [status]
 * @param {string} [state] of the kernel, if it does not answer or is dead
 */
function failed(message, status, state = "") {
  failures += 1;
  const unmonitored = status === 404 && state !== "dead"; // the kernel is alive, without a monitor that runs
  showState(unmonitored ? "stopped" : "stale", `No update: ${message}.`);
  kernel.status = state;
  link.comm_live = state !== "dead";
  if (unmonitored) link.readings = { ...link.readings, state: "stopped" };
  link.trigger("perfmon:state");
  const gone = status === 404 || status === 410;
  if (gone && performance.now() - listed >= 1000 * LIST_AGAIN) {
    listed = performance.now();
    listKernels(); // another one may be meant
  }
}

/** Show the only kernel with a monitor; wait until there is one, or until the person has chosen one. */
async function chooseKernel() {
  clearTimeout(timer);
  if (document.hidden) return;
  const kernels = await listKernels();
  if (typeof kernels === "string") showState("stale", `No list of kernels: ${kernels}.`);
  else {
    chooseOnly(kernels);
    if (chosen.id) {
      start();
      return;
    }
    showState(
      "waiting",
      kernels.length ? "Several kernels have a monitor: choose one." : "No kernel has a monitor yet. Run %perfmon in a notebook.",
    );
  }
  timer = setTimeout(chooseKernel, 1000 * LIST_EVERY);
}

function start() {
  const name = `performance-${new Date().toISOString().slice(0, 19).replaceAll(":", "")}.csv`;
  download.href = address("api/performance/history", { format: "csv", since: "1970-01-01" });
  download.download = name;
  refresh({ full: true });
}

/** @param {boolean} enabled */
async function switchLog(enabled) {
  try {
    const response = await fetch(address("api/performance/logging"), {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-XSRFToken": known.xsrf },
      body: JSON.stringify({ enabled }),
    });
    const content = await response.json();
    if (response.ok) showLog(content);
    else showLog({ enabled: !enabled, path: null, rows: 0, error: content.message });
  } catch {
    showLog({ enabled: !enabled, path: null, rows: 0, error: "the log could not be switched: no answer" });
  }
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const adopt = () => {
  document.documentElement.dataset.jpThemeLight = String(!dark.matches);
};
adopt();
dark.addEventListener("change", adopt);
link.on("perfmon:doubt", () => {
  if (part("state").dataset.kind === "live") showMonitor();
});
whenOpened(() => refresh({ full: true }));
log.addEventListener("change", () => switchLog(log.checked));
windows.addEventListener("change", () => refresh({ full: true }));
part("pause").addEventListener("click", () => {
  paused = !paused;
  part("pause").setAttribute("aria-pressed", String(paused));
  part("pause").textContent = paused ? "Resume" : "Pause";
  if (paused) {
    clearTimeout(timer);
    stopAsking();
    showState("paused", "Paused.");
  } else refresh();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else if (hasKernels && !chosen.id) chooseKernel();
  else refresh();
});
if (hasKernels && !chosen.id) chooseKernel();
else {
  // Not awaited: each other kernel may take seconds to say whether it has a monitor.
  if (hasKernels) listKernels();
  start();
}
