// The export button, and the hint beside the controls.

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

  // Every open view hears the answer; only the one that asked saves it.
  let asked = null;
  const click = () => {
    asked = Math.random().toString(16).slice(2);
    model.send({ export: asked });
  };
  const save = (answer, buffers) => {
    if (asked === null || answer?.export !== asked) return;
    asked = null;
    const address = URL.createObjectURL(new Blob(buffers, { type: "text/csv" }));
    const link = document.createElement("a");
    link.href = address;
    link.download = answer.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  };
  button.addEventListener("click", click);
  model.on("msg:custom", save);

  const link = await find(model.widget_manager, model.get("link"));
  if (!link) return () => model.off("msg:custom", save);
  const draw = () => {
    hint.textContent = known(link).waiting > 0 ? "applies when the cell ends" : "";
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
