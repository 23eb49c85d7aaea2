// The live page: asks for what is new at the pace of the monitor, and shows it. What is shown is decided in Python
// (web/view.py); the gauges are drawn, and taken for stale, by the panel's gauge.js.

import { hasKernels, kernel, link, SLOWEST, showGauges } from "./page_gauges.js";
import { element, fillTable, makeTable, showFigures } from "./page_parts.js";

const TIMEOUT = 15; // seconds to wait for an answer
const LIST_EVERY = 5; // seconds between two looks for kernels while there is none to show

const OPEN = "perfmon-open"; // the key under which the browser keeps which sections are open

const part = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
const main = /** @type {HTMLElement} */ (document.querySelector("main"));
const windows = /** @type {HTMLSelectElement} */ (part("window"));
const log = /** @type {HTMLInputElement} */ (part("log"));
const download = /** @type {HTMLAnchorElement} */ (part("download"));

let kernelId = new URLSearchParams(location.search).get("kernel_id") ?? "";

/** What is known of the monitor: of the last answer. */
const known = {
  newest: "", // the time of the newest sample that is shown
  columns: "", // the digest of its columns
  interval: 1,
  stopped: false,
  death: "", // what the kernel died of
  xsrf: "", // to be sent with a POST
};
/** @type {Set<string> | undefined} the groups whose sections are open */
let open = remembered();
let paused = false;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;
/** @type {AbortController | undefined} */
let asking;

// -- the sections ----------------------------------------------------------------------------------------------

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
    if (made.open) refresh({ full: true });
  });
  return made;
}

/** @param {Section[]} sections */
function showSections(sections) {
  const place = part("sections");
  const now = /** @type {HTMLDetailsElement[]} */ ([...place.children]);
  const same = now.length === sections.length && now.every((each, at) => each.dataset.group === sections[at].group);
  const parts = same ? now : sections.map(makeSection);
  if (!same) place.replaceChildren(...parts);
  sections.forEach((section, at) => {
    if (section.figures) showFigures(parts[at].children[1], section);
    if (section.rows) makeTable(parts[at].children[2], section);
    if (section.table) fillTable(parts[at].children[2], section.table);
  });
}

/** How many pixels wide a figure is: as a column of the grid that holds them. */
function widthOfFigures() {
  return Math.floor(Number.parseFloat(getComputedStyle(part("measure")).gridTemplateColumns));
}

// -- the rest --------------------------------------------------------------------------------------------------

/** @param {string} kind @param {string} words */
function showState(kind, words) {
  const state = part("state");
  state.dataset.kind = kind;
  if (state.textContent !== words) state.textContent = words; // a screen reader reads what changes
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
  main.hidden = false;
  known.newest = view.newest ?? "";
  known.columns = view.columns;
  known.interval = view.interval;
  known.stopped = view.state === "stopped";
  known.death = view.death ?? "";
  const time = view.time ? new Date(1000 * view.time).toLocaleTimeString("en-GB") : "";
  part("newest").textContent = time && `last sample at ${time}`;
  kernel.connectionStatus = "connected";
  kernel.status = view.death ? "dead" : "";
  link.comm_live = !view.death;
  showGauges(part("gauges"), view);
  showMonitor();
  showWindows(view);
  if (view.verdict !== undefined || view.state === "stopped") showVerdict(view.verdict);
  part("logging").hidden = part("log-state").hidden = !view.log;
  if (view.log) showLog(view.log);
  // Before the first sample there are no figures yet, and it is not known which sections are open.
  const opened = (view.sections ?? []).filter(({ figures }) => figures).map(({ group }) => group);
  if (opened.length) open ??= new Set(opened);
  if (open && view.sections) showSections(view.sections);
}

/** @param {View} view */
function showWindows({ windows: offered, window: chosen }) {
  if (windows.options.length !== offered.length) {
    windows.replaceChildren(...offered.map(({ seconds, words }) => new Option(words, String(seconds))));
    windows.value = String(chosen);
  }
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

/** The address of a path of the API for the kernel that is shown. @param {string} path @param {Record<string, string>} query */
function address(path, query = {}) {
  const parameters = new URLSearchParams(query);
  if (kernelId) parameters.set("kernel_id", kernelId);
  return parameters.size ? `${path}?${parameters}` : path;
}

// -- asking ----------------------------------------------------------------------------------------------------

/** Have the request that is on its way answered to nobody. */
function stopAsking() {
  asking?.abort();
  asking = undefined;
}

/**
 * Ask for what is new, or for everything if `full`, and show it; then again after an interval of the monitor.
 *
 * @param {{ full?: boolean }} how
 */
async function refresh({ full = false } = {}) {
  clearTimeout(timer);
  stopAsking();
  if ((paused && !full) || document.hidden || (hasKernels && !kernelId)) return;
  asking = new AbortController();
  const mine = asking;
  const late = setTimeout(() => mine.abort(), 1000 * TIMEOUT);
  /** @type {Record<string, string>} */
  const query = {
    width: String(widthOfFigures()),
    zone: Intl.DateTimeFormat().resolvedOptions().timeZone,
    minutes: String(-new Date().getTimezoneOffset()),
  };
  if (open) query.open = [...open].map(encodeURIComponent).join(",");
  if (windows.value) query.window = windows.value;
  if (known.newest && !full) {
    query.since = known.newest;
    query.columns = known.columns;
  }
  try {
    const response = await fetch(address("perfmon/view", query), { signal: mine.signal, cache: "no-store" });
    const content = await response.json();
    if (mine !== asking) return;
    known.xsrf = response.headers.get("X-XSRFToken") ?? known.xsrf;
    if (response.ok) showView(content);
    else await failed(content.message, response.status, content.state);
  } catch {
    if (mine !== asking) return;
    await failed(hasKernels ? "the Jupyter server does not answer" : "the program does not answer: it may have ended");
    kernel.connectionStatus = "disconnected";
  } finally {
    clearTimeout(late);
  }
  if (mine === asking && !paused) {
    clearTimeout(timer);
    timer = setTimeout(refresh, 1000 * Math.max(SLOWEST, known.interval));
  }
}

/**
 * @param {string} message
 * @param {number} [status]
 * @param {string} [state] of the kernel, if it is there but does not answer
 */
async function failed(message, status, state = "") {
  showState("stale", `No update: ${message}.`);
  kernel.status = state;
  if (status === 404 || status === 410) {
    kernel.status = "dead";
    link.comm_live = false;
    await listKernels(); // another one may be meant
  }
  link.trigger("perfmon:state");
}

/** @returns {Promise<KernelEntry[]>} the kernels that have a monitor, which are shown as links if there are several */
async function listKernels() {
  try {
    const response = await fetch("perfmon/kernels", { cache: "no-store" });
    /** @type {{ kernels: KernelEntry[] }} */
    const { kernels } = await response.json();
    const links = kernels.map(({ id, name, state }) =>
      element(
        "a",
        { href: `perfmon?kernel_id=${encodeURIComponent(id)}`, ...(id === kernelId ? { "aria-current": "page" } : {}) },
        `${name} (${state})`,
      ),
    );
    const place = part("kernels");
    place.replaceChildren(...links);
    place.hidden = kernels.length === 0 || (kernels.length === 1 && kernels[0].id === kernelId);
    const shown = kernels.find(({ id }) => id === kernelId);
    if (shown) document.title = `${shown.name} – Performance`;
    return kernels;
  } catch {
    return [];
  }
}

/** Show the only kernel with a monitor; wait until there is one, or until the person has chosen one. */
async function chooseKernel() {
  clearTimeout(timer);
  if (document.hidden) return;
  const kernels = await listKernels();
  if (kernels.length === 1 && !kernelId) {
    kernelId = kernels[0].id;
    part("kernels").hidden = true;
    document.title = `${kernels[0].name} – Performance`;
  }
  if (kernelId) {
    start();
    return;
  }
  showState(
    "waiting",
    kernels.length ? "Several kernels have a monitor: choose one." : "No kernel has a monitor yet. Run %perfmon in a notebook.",
  );
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
  else if (hasKernels && !kernelId) chooseKernel();
  else refresh();
});
if (hasKernels) chooseKernel();
else start();
