// The export button, and the hint next to the controls: why the panel is not live, or that a change waits. Every panel has one: so this file also makes the sections
// reachable by keys.

/**
 * Make the header of a section of an accordion reachable by keys: those of ipywidgets react to the mouse only.
 *
 * @param {Element} collapse
 */
function makeReachable(collapse) {
  const header = /** @type {HTMLElement | null} */ (collapse.querySelector(".jupyter-widget-Collapse-header"));
  if (!header || header.hasAttribute("tabindex")) return;
  header.setAttribute("tabindex", "0");
  header.setAttribute("role", "button");
  const announce = () =>
    header.setAttribute("aria-expanded", String(collapse.classList.contains("jupyter-widget-Collapse-open")));
  announce();
  new MutationObserver(announce).observe(collapse, { attributeFilter: ["class"] });
  header.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    event.stopPropagation(); // JupyterLab would take the key for a command to the cell
    header.click();
  });
}

/** Make the sections of all panels reachable, those that come later too. A panel is drawn within seconds. */
async function makeSectionsReachable() {
  for (let attempt = 0; attempt < 50; attempt++) {
    for (const accordion of document.querySelectorAll(".perfmon-advanced:not([data-perfmon-keys])")) {
      accordion.setAttribute("data-perfmon-keys", "");
      const all = () => accordion.querySelectorAll(":scope > .jupyter-widget-Collapse").forEach(makeReachable);
      all();
      new MutationObserver(all).observe(accordion, { childList: true });
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

/**
 * Show the tooltips of the controls of a panel: ipywidgets shows none where there is a description.
 *
 * @param {WidgetModel} link
 * @param {WidgetManager} manager
 */
async function showTooltips(link, manager) {
  for (const reference of link.get("controls")) {
    const control = await find(manager, reference);
    const words = control?.get("tooltip");
    if (!control || !words) continue;
    for (const view of Object.values(control.views ?? {})) {
      const { el } = await view;
      for (const each of [el, ...el.querySelectorAll("[title]")]) each.setAttribute("title", words);
    }
  }
}

/** @param {{ model: WidgetModel, el: HTMLElement }} context */
async function render({ model, el }) {
  const button = document.createElement("button");
  button.className = "jupyter-widgets jupyter-button widget-button perfmon-export";
  button.type = "button";
  button.textContent = "Export CSV";
  button.title = "Download the history as a CSV file";
  const hint = document.createElement("span");
  hint.className = "perfmon-hint";
  hint.setAttribute("role", "status");
  el.append(button, hint);

  // The answer reaches every view that is open; only the one that asked saves it. A long file comes in parts, the last
  // one with the name. The kernel waits for the receipts of the others, unless a running cell would hold them up.
  /** @type {string | null} */
  let asked = null;
  /** @type {Blob[]} */
  let parts = [];
  /** Tell the kernel that nobody waits for the file any more: it makes one at a time, and waits for the receipts. */
  const forget = () => {
    if (asked !== null) model.send({ received: asked, more: false });
    asked = null;
    parts = [];
  };
  const click = () => {
    forget();
    asked = Math.random().toString(16).slice(2);
    model.send({ export: asked, receipts: hasControlChannel(model.widget_manager) });
  };
  const save = (
    /** @type {{ export?: string, name?: string } | undefined} */ answer,
    /** @type {BlobPart[]} */ buffers,
  ) => {
    if (!answer || asked === null || answer.export !== asked) return;
    parts.push(new Blob(buffers)); // which the browser may keep on the disk
    if (answer.name === undefined) {
      model.send({ received: asked });
      return;
    }
    asked = null;
    const address = URL.createObjectURL(new Blob(parts, { type: "text/csv" }));
    parts = [];
    const download = document.createElement("a");
    download.href = address;
    download.download = answer.name;
    download.click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  };
  button.addEventListener("click", click);
  makeSectionsReachable();
  model.on("msg:custom", save);
  window.addEventListener("pagehide", forget); // a page that is loaded again removes no views
  const end = () => {
    model.off("msg:custom", save);
    window.removeEventListener("pagehide", forget);
    forget();
  };

  const link = await find(model.widget_manager, model.get("link"));
  if (!link) return end;
  const state = pageState(link);
  const draw = () => {
    hint.textContent = state.doubt || (state.waiting > 0 ? "applies when the cell ends" : "");
    hint.classList.toggle("perfmon-doubt", state.doubt !== "");
  };
  const speak = (/** @type {number} */ by) => {
    state.speakers += by;
    link.trigger("perfmon:state");
  };
  draw();
  showTooltips(link, model.widget_manager);
  link.on("perfmon:waiting perfmon:doubt", draw);
  speak(1);
  const leave = attend(link);
  return () => {
    leave();
    speak(-1);
    link.off("perfmon:waiting perfmon:doubt", draw);
    end();
  };
}

export default { render };
