// Draws a gauge with the module that the link holds (gauge.js). A saved notebook has this text once for each
// gauge, and that of the module once.

/** @param {{ model: WidgetModel, el: HTMLElement }} context */
async function render(context) {
  const { model } = context;
  const link = await find(model.widget_manager, model.get("link"));
  if (!link) return;
  const state = pageState(link);
  if (!state.gauge) {
    const address = URL.createObjectURL(new Blob([link.get("gauge")], { type: "text/javascript" }));
    state.gauge = import(address);
  }
  return (await state.gauge).default.render(context);
}

export default { render };
