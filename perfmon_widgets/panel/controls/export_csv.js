// The export button, and the hint next to the controls.

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

  // The answer reaches every view that is open; only the one that asked saves it.
  /** @type {string | null} */
  let asked = null;
  const click = () => {
    asked = Math.random().toString(16).slice(2);
    model.send({ export: asked });
  };
  const save = (
    /** @type {{ export?: string, name: string } | undefined} */ answer,
    /** @type {BlobPart[]} */ buffers,
  ) => {
    if (!answer || asked === null || answer.export !== asked) return;
    asked = null;
    const address = URL.createObjectURL(new Blob(buffers, { type: "text/csv" }));
    const download = document.createElement("a");
    download.href = address;
    download.download = answer.name;
    download.click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  };
  button.addEventListener("click", click);
  model.on("msg:custom", save);

  const link = await find(model.widget_manager, model.get("link"));
  if (!link) return () => model.off("msg:custom", save);
  const draw = () => {
    hint.textContent = pageState(link).waiting > 0 ? "applies when the cell ends" : "";
  };
  draw();
  link.on("perfmon:waiting", draw);
  const leave = attend(link);
  return () => {
    leave();
    model.off("msg:custom", save);
    link.off("perfmon:waiting", draw);
  };
}

export default { render };
