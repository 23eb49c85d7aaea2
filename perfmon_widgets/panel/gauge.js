// One number against its limit, as a ring. The number and all words come from Python (see gauge.py);
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

function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "perfmon-gauge";
  root.innerHTML = TEMPLATE;
  el.append(root);
  const part = (name) => root.querySelector(`.perfmon-gauge-${name}`);
  const [arc, text, label, detail] = ["arc", "text", "label", "detail"].map(part);

  // When the last reading arrived, by this browser's clock: the kernel's may be set differently. Only for a
  // view that is made long after the reading, the kernel's clock says how old it is.
  let arrived = performance.now();
  const age = Date.now() / 1000 - model.get("reading").time;
  if (age > STALE_AFTER * model.get("reading").interval) arrived -= 1000 * age;

  function silence(reading) {
    if (!reading.interval) return 0;
    const seconds = (performance.now() - arrived) / 1000;
    return seconds > STALE_AFTER * reading.interval ? Math.floor(seconds) : 0;
  }

  function draw() {
    const reading = model.get("reading");
    const known = typeof reading.value === "number";
    const silent = silence(reading);
    const filled = known ? Math.min(Math.max(reading.value, 0), 100) / 100 : 0;
    const words = silent ? `no update for ${silent} s` : reading.detail ?? "";
    root.dataset.level = known ? reading.level : "missing";
    root.classList.toggle("perfmon-stale", silent > 0);
    arc.style.strokeDasharray = `${filled * LENGTH} ${LENGTH}`;
    arc.style.visibility = filled > 0 ? "visible" : "hidden";
    text.textContent = reading.text ?? "–";
    label.textContent = model.get("label");
    detail.textContent = words;
    root.title = words;
    // A meter must have a value, so a missing one is announced as a picture with its reason.
    root.setAttribute("role", known ? "meter" : "img");
    root.setAttribute("aria-label", known ? label.textContent : `${label.textContent}: ${words}`);
    if (known) {
      root.setAttribute("aria-valuemin", "0");
      root.setAttribute("aria-valuemax", "100");
      root.setAttribute("aria-valuenow", String(Math.round(reading.value * 10) / 10));
      root.setAttribute("aria-valuetext", `${reading.text}, ${words}`);
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
  model.on("change:reading", update);
  const clock = setInterval(() => silence(model.get("reading")) && draw(), 1000);
  return () => {
    clearInterval(clock);
    model.off("change:reading", update);
  };
}

export default { render };
