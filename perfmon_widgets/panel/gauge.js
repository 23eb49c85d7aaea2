// One number against its limit, as a ring; a second one, such as the memory of a GPU, as a thin bar. The numbers
// and the text come from Python (views/gauges.py); this file only
// decides whether they are still up to date.

const RADIUS = 19;
const LENGTH = 2 * Math.PI * RADIUS;
const STALE_AFTER = 3; // intervals

const TEMPLATE = `
  <svg class="perfmon-gauge-ring" viewBox="0 0 44 44" aria-hidden="true">
    <circle class="perfmon-gauge-track" cx="22" cy="22" r="${RADIUS}"/>
    <circle class="perfmon-gauge-arc" cx="22" cy="22" r="${RADIUS}" transform="rotate(-90 22 22)"/>
    <text class="perfmon-gauge-text" x="22" y="22" dy="0.35em" text-anchor="middle"></text>
  </svg>
  <div class="perfmon-gauge-words" aria-hidden="true">
    <div class="perfmon-gauge-label"></div>
    <div class="perfmon-gauge-bar" hidden><div></div></div>
    <div class="perfmon-gauge-detail"></div>
  </div>`;

/**
 * Return the state of the kernel, if the front end knows it. "idle" is left out: JupyterLab shows a kernel that
 * runs a cell as idle as soon as it has answered a click.
 *
 * @param {WidgetModel} link
 */
function kernelState(link) {
  const kernel = link.widget_manager?.kernel;
  if (!kernel) return "";
  if (kernel.isDisposed || kernel.status === "dead" || kernel.status === "terminating") return "kernel dead";
  if (kernel.connectionStatus && kernel.connectionStatus !== "connected") return "kernel disconnected";
  if (kernel.status.endsWith("restarting")) return "kernel restarting";
  return kernel.status === "busy" || kernel.status === "starting" ? `kernel ${kernel.status}` : "";
}

/**
 * Return why the readings are out of date; empty if they are not.
 *
 * @param {WidgetModel} link
 * @param {Readings} readings
 * @param {number} silence seconds since they arrived
 */
function doubt(link, readings, silence) {
  const { lost, wasLive } = pageState(link);
  if (!link.comm_live && !wasLive) {
    if (!readings.time) return "not connected to a kernel";
    const date = new Date(1000 * readings.time).toLocaleDateString("sv"); // 2026-11-28
    return `saved ${date} ${clock(readings.time)}: run the cell again`;
  }
  const state = kernelState(link);
  if (!link.comm_live || lost) {
    return state && state !== "kernel busy" ? state : "kernel was restarted: run the cell again";
  }
  if (readings.state === "stopped") {
    return readings.time ? `monitor is stopped, values of ${clock(readings.time)}` : "monitor is stopped";
  }
  if (silence <= STALE_AFTER * readings.interval) return "";
  return `no update for ${Math.floor(silence)} s${state && ` (${state})`}`;
}

/**
 * Tell the rest of the panel why the readings are out of date: where the controls are on the page, they say it
 * once for all gauges.
 *
 * @param {WidgetModel} link
 * @param {string} words
 * @returns {PageState}
 */
function tell(link, words) {
  const state = pageState(link);
  if (state.doubt !== words) {
    state.doubt = words;
    link.trigger("perfmon:doubt");
  }
  return state;
}

/**
 * Announce the reading to a screen reader. A meter must have a value, so a missing number is announced as an
 * image with its reason.
 *
 * @param {HTMLElement} root
 * @param {string} label
 * @param {number | undefined} value
 * @param {string} words
 */
function announce(root, label, value, words) {
  root.setAttribute("role", value === undefined ? "img" : "meter");
  root.setAttribute("aria-label", value === undefined ? `${label}: ${words}` : label);
  if (value === undefined) {
    for (const name of ["valuemin", "valuemax", "valuenow", "valuetext"]) {
      root.removeAttribute(`aria-${name}`);
    }
    return;
  }
  root.setAttribute("aria-valuemin", "0");
  root.setAttribute("aria-valuemax", "100");
  root.setAttribute("aria-valuenow", String(value));
  root.setAttribute("aria-valuetext", `${threeDigits(value)}%, ${words}`);
}

/** @param {{ model: WidgetModel, el: HTMLElement }} context */
async function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "perfmon-gauge";
  root.innerHTML = TEMPLATE;
  el.append(root);
  const part = (/** @type {string} */ name) =>
    /** @type {HTMLElement} */ (root.querySelector(`.perfmon-gauge-${name}`));
  const [arc, text, detail, bar] = [part("arc"), part("text"), part("detail"), part("bar")];
  const label = model.get("label");
  part("label").textContent = label;
  const link = await find(model.widget_manager, model.get("link"));
  if (!link) return;

  const readings = () => /** @type {Readings} */ (link.get("readings"));
  // When the last readings arrived, by this browser's clock: the kernel's may be set differently. Only for a
  // view that is made long after they were taken, the kernel's clock says how old they are.
  let arrived = performance.now();
  const first = readings();
  const age = first.time ? Date.now() / 1000 - first.time : 0;
  if (age > STALE_AFTER * first.interval) arrived -= 1000 * age;

  let doubtful = "";
  const doubtNow = () => doubt(link, readings(), (performance.now() - arrived) / 1000);
  const told = (/** @type {string} */ words) => tell(link, words);

  /**
   * Draw the bar, if there is one, and return the same in words.
   *
   * @param {Share & { label: string } | undefined} share
   */
  function drawBar(share) {
    bar.hidden = !share;
    if (!share) return "";
    bar.dataset.level = share.level ?? "normal";
    /** @type {HTMLElement} */ (bar.firstElementChild).style.width = `${Math.min(share.value ?? 0, 100)}%`;
    return `${share.label} ${threeDigits(share.value ?? 0)}%, `;
  }

  function draw() {
    const reading = readings().gauges?.[label] ?? {};
    const { value } = reading;
    doubtful = doubtNow();
    const { speakers } = told(doubtful);
    const filled = Math.min(Math.max(value ?? 0, 0), 100) / 100;
    const words = doubtful || (reading.detail ?? "");
    const bar = drawBar(reading.bar);
    const shown = speakers > 0 ? (reading.detail ?? "") : words;
    root.dataset.level = value === undefined ? "missing" : (reading.level ?? "normal");
    root.classList.toggle("perfmon-stale", doubtful !== "");
    arc.style.strokeDasharray = `${filled * LENGTH} ${LENGTH}`;
    arc.style.visibility = filled > 0 ? "visible" : "hidden";
    text.textContent = value === undefined ? "–" : `${threeDigits(value)}%`;
    detail.textContent = shown;
    root.title = bar + words;
    announce(root, label, value, bar + words);
  }

  const update = () => {
    arrived = performance.now();
    draw();
  };
  draw();
  link.on("change:readings", update);
  link.on("perfmon:state", draw);
  const clock = setInterval(() => doubtNow() !== doubtful && draw(), 1000);
  const leave = attend(link);
  return () => {
    leave();
    clearInterval(clock);
    link.off("change:readings", update);
    link.off("perfmon:state", draw);
    el.replaceChildren(); // JupyterLab keeps the elements of views that were removed
  };
}

export default { render };
