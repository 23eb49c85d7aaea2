// The export button, and the way that it and the panel's other controls are heard while a cell runs.

// The kernel answers widget messages on its shell channel, which waits for the running cell, and (because
// kernel.py asked it to) on its control channel, which does not. This sends a widget's messages there.
function takeControlChannel(widget, manager) {
  const comm = widget.comm;
  const kernel = manager?.kernel;
  if (!comm || comm.perfmonSend || typeof kernel?.sendControlMessage !== "function") return;
  comm.perfmonSend = comm.send; // kept: the mark that it is done, and the way back
  comm.send = function (data, callbacks, metadata, buffers) {
    const live = manager.kernel; // another one after a reconnection
    if (typeof live?.sendControlMessage !== "function") {
      return comm.perfmonSend.call(comm, data, callbacks, metadata, buffers);
    }
    const message = {
      channel: "control",
      header: {
        msg_id: crypto.randomUUID?.() ?? `perfmon-${Date.now()}-${Math.random().toString(16).slice(2)}`,
        msg_type: "comm_msg",
        session: live.clientId,
        username: live.username ?? "",
        date: new Date().toISOString(),
        version: "5.3",
      },
      parent_header: {},
      metadata: metadata ?? {},
      content: { comm_id: comm.comm_id, data },
      buffers: buffers ?? [],
    };
    const future = live.sendControlMessage(message, false, true);
    // The widget waits for "idle" before it sends its next change.
    future.onIOPub = (answer) => callbacks?.iopub?.[answer.header.msg_type]?.(answer);
    return message.header.msg_id;
  };
}

// A page that is loaded again makes all models anew, in any order.
async function find(manager, name) {
  for (let attempt = 0; attempt < 50; attempt++) {
    try {
      return await manager.get_model(name);
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
  return null;
}

function initialize({ model }) {
  const manager = model.widget_manager;
  // Not awaited: this button is among them, and is not there before this function has returned.
  const listen = () => {
    for (const reference of model.get("controls")) {
      find(manager, reference.replace("IPY_MODEL_", "")).then(
        (widget) => widget && takeControlChannel(widget, manager),
      );
    }
  };
  listen();
  model.on("change:controls", listen);
  return () => model.off("change:controls", listen);
}

function render({ model, el }) {
  const button = document.createElement("button");
  button.className = "jupyter-widgets jupyter-button widget-button perfmon-export";
  button.type = "button";
  button.textContent = "Export CSV";
  button.title = "Download the history as a CSV file";
  el.append(button);

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
  return () => model.off("msg:custom", save);
}

export default { initialize, render };
