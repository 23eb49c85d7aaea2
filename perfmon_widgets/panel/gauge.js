// One number against its limit, as a ring. The number and its words come from Python (see panel.py);
// what is decided here is only whether they still hold.

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
    <div class="perfmon-gauge-detail"></div>
  </div>`;

// What the kernel does, where the front end says so. "idle" is left out: JupyterLab calls a busy kernel idle
// as soon as it has answered a click beside the running cell.
function kernelState(link) {
  const kernel = link.widget_manager?.kernel;
  if (!kernel) return "";
  if (kernel.isDisposed || kernel.status === "dead" || kernel.status === "terminating") return "kernel dead";
  if (kernel.connectionStatus && kernel.connectionStatus !== "connected") return "kernel disconnected";
  if (kernel.status.endsWith("restarting")) return "kernel restarting";
  return kernel.status === "busy" || kernel.status === "starting" ? `kernel ${kernel.status}` : "";
}

// Why the readings are not those of now, or nothing if they are.
function doubt(link, readings, silence) {
  const { lost, wasLive } = known(link);
  if (!link.comm_live && !wasLive) {
    if (!readings.time) return "not connected to a kernel";
    const saved = new Date(1000 * readings.time);
    return `saved ${saved.toLocaleString([], { dateStyle: "short", timeStyle: "short" })}`;
  }
  const state = kernelState(link);
  if (!link.comm_live || lost) {
    return state && state !== "kernel busy" ? state : "kernel was restarted: run the cell again";
  }
  if (readings.state === "stopped") return "monitor is stopped";
  if (silence <= STALE_AFTER * readings.interval) return "";
  return `no update for ${Math.floor(silence)} s${state && ` (${state})`}`;
}

async function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "perfmon-gauge";
  root.innerHTML = TEMPLATE;
  el.append(root);
  const part = (name) => root.querySelector(`.perfmon-gauge-${name}`);
  const [arc, text, label, detail] = ["arc", "text", "label", "detail"].map(part);
  label.textContent = model.get("label");
  const link = await find(model.widget_manager, model.get("link"));
  if (!link) return;

  // When the last readings arrived, by this browser's clock: the kernel's may be set differently. Only for a
  // view that is made long after them, the kernel's clock says how old they are.
  let arrived = performance.now();
  const first = link.get("readings");
  const age = Date.now() / 1000 - first.time;
  if (first.time && age > STALE_AFTER * first.interval) arrived -= 1000 * age;

  let doubtful = "";
  const doubtNow = () => doubt(link, link.get("readings"), (performance.now() - arrived) / 1000);

  function draw() {
    const reading = link.get("readings").gauges?.[model.get("label")] ?? {};
    doubtful = doubtNow();
    const isKnown = typeof reading.value === "number";
    const filled = isKnown ? Math.min(Math.max(reading.value, 0), 100) / 100 : 0;
    const words = doubtful || (reading.detail ?? "");
    root.dataset.level = isKnown ? (reading.level ?? "normal") : "missing";
    root.classList.toggle("perfmon-stale", doubtful !== "");
    arc.style.strokeDasharray = `${filled * LENGTH} ${LENGTH}`;
    arc.style.visibility = filled > 0 ? "visible" : "hidden";
    const number = isKnown ? `${threeDigits(reading.value)}%` : "–";
    text.textContent = number;
    detail.textContent = words;
    root.title = words;
    // A meter must have a value, so a missing one is announced as a picture with its reason.
    root.setAttribute("role", isKnown ? "meter" : "img");
    root.setAttribute("aria-label", isKnown ? model.get("label") : `${model.get("label")}: ${words}`);
    if (isKnown) {
      root.setAttribute("aria-valuemin", "0");
      root.setAttribute("aria-valuemax", "100");
      root.setAttribute("aria-valuenow", String(reading.value));
      root.setAttribute("aria-valuetext", `${number}, ${words}`);
    } else {
      for (const name of ["valuemin", "valuemax", "valuenow", "valuetext"]) {
        root.removeAttribute(`aria-${name}`);
      }
    }
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
    el.replaceChildren(); // JupyterLab keeps the elements of views that have gone
  };
}

export default { render };
