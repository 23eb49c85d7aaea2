// The model behind a panel: which of its messages go where, and what the kernel is told of this page.

const HINT_AFTER = 1000; // milliseconds without an answer
const GONE_AFTER = 1000; // a view that is moved goes and comes

// The kernel answers widget messages on its shell channel, which waits for the running cell, and (because
// jupyter/requests.py asked it to) on its control channel, which does not. This sends a widget's messages there.
function takeControlChannel(widget, manager, watch) {
  const comm = widget.comm;
  if (!comm || comm.perfmonSend) return;
  comm.perfmonSend = comm.send; // kept: the mark that it is done, and the way where there is no other
  comm.send = function (data, callbacks, metadata, buffers) {
    const kernel = manager?.kernel; // another one after a reconnection
    if (typeof kernel?.sendControlMessage !== "function") {
      return comm.perfmonSend.call(comm, data, watch(callbacks), metadata, buffers);
    }
    const message = {
      channel: "control",
      header: {
        msg_id: crypto.randomUUID?.() ?? `perfmon-${Date.now()}-${Math.random().toString(16).slice(2)}`,
        msg_type: "comm_msg",
        session: kernel.clientId,
        username: kernel.username ?? "",
        date: new Date().toISOString(),
        version: "5.3",
      },
      parent_header: {},
      metadata: metadata ?? {},
      content: { comm_id: comm.comm_id, data },
      buffers: buffers ?? [],
    };
    const future = kernel.sendControlMessage(message, true, true);
    future.onIOPub = (answer) => callbacks?.iopub?.[answer.header.msg_type]?.(answer);
    // The widget waits for "idle" before it sends its next change. The kernel publishes none, since every
    // page would show a kernel that runs a cell as idle; it replies that it has handled the message.
    future.onReply = () => {
      callbacks?.iopub?.status?.({ content: { execution_state: "idle" } });
      future.dispose();
    };
    return message.header.msg_id;
  };
}

// Where a change goes the ordinary way, a person is told that it waits for the cell.
function watcher(link) {
  return (callbacks) => {
    let waits = false;
    const count = (by) => {
      known(link).waiting += by;
      link.trigger("perfmon:waiting");
    };
    const timer = setTimeout(() => {
      waits = true;
      count(1);
    }, HINT_AFTER);
    const status = (message) => {
      if (message.content.execution_state === "idle") {
        clearTimeout(timer);
        if (waits) count(-1);
        waits = false;
      }
      callbacks?.iopub?.status?.(message);
    };
    return { ...callbacks, iopub: { ...callbacks?.iopub, status } };
  };
}

// The table of last values that is stored beside the panel is for those who do not see the panel.
function hideSnapshot(link, hidden) {
  const name = `perfmon-snapshot-${link.model_id}`;
  const style = document.getElementById(name);
  if (!hidden) style?.remove();
  else if (!style) {
    const rule = document.createElement("style");
    rule.id = name;
    rule.textContent = `.${name}, .jp-OutputArea-child:has(.${name}) { display: none !important; }`;
    document.head.append(rule);
  }
}

function follow(link, manager) {
  const state = known(link);
  let told = { views: 0, at: 0 };
  let leaving = null;

  const listen = () => {
    takeControlChannel(link, manager, (callbacks) => callbacks);
    for (const reference of link.get("controls")) {
      find(manager, typeof reference === "string" ? reference : reference.model_id).then(
        (widget) => widget && takeControlChannel(widget, manager, watcher(link)),
      );
    }
  };
  const tell = () => {
    listen(); // a connection that was made anew has channels of its own
    if (!link.comm_live) return;
    told = { views: state.views, at: Date.now() };
    link.send({ page: state.page, views: state.views });
  };
  const count = () => {
    clearTimeout(leaving);
    if (state.views > 0) {
      hideSnapshot(link, true);
      if (told.views === 0) tell();
    } else {
      leaving = setTimeout(() => {
        hideSnapshot(link, false);
        if (told.views > 0) tell();
      }, GONE_AFTER);
    }
  };
  const live = () => {
    if (link.comm_live) {
      state.wasLive = true;
      state.lost = false;
    }
    link.trigger("perfmon:state");
  };
  const kernelChanged = (_, status) => {
    if (["restarting", "autorestarting", "dead"].includes(status)) state.lost = true;
    link.trigger("perfmon:state");
  };
  const seen = () => {
    if (!document.hidden && state.views > 0 && Date.now() - told.at > 60_000) tell();
  };
  const kernel = manager?.kernel;

  live();
  listen();
  count();
  link.on("comm_live_update", live);
  link.on("change:controls", listen);
  link.on("perfmon:views", count);
  kernel?.statusChanged?.connect(kernelChanged);
  document.addEventListener("visibilitychange", seen);
  const beat = () => state.views > 0 && Date.now() - told.at >= 1000 * link.get("heartbeat") && tell();
  const clock = setInterval(beat, 1000);
  return () => {
    clearInterval(clock);
    clearTimeout(leaving);
    hideSnapshot(link, false);
    document.removeEventListener("visibilitychange", seen);
    kernel?.statusChanged?.disconnect(kernelChanged);
    link.off("comm_live_update", live);
    link.off("change:controls", listen);
    link.off("perfmon:views", count);
  };
}

function initialize({ model }) {
  const manager = model.widget_manager;
  let stop = null;
  let gone = false;
  // Not awaited: this model is not to be found before this function has returned.
  const start = () => {
    if (stop || !model.get("own")) return;
    stop = () => {};
    find(manager, model.get("own")).then((link) => {
      if (link && !gone) stop = follow(link, manager);
    });
  };
  start();
  model.on("change:own", start);
  return () => {
    gone = true;
    stop?.();
  };
}

export default { initialize };
