// The model behind a panel, which has no view. It sends changes of the controls to the kernel, and reports how
// many views of the panel this page has.

const HINT_AFTER = 1000; // milliseconds without an answer
const TOUCHES = ["pointermove", "pointerdown", "wheel", "keydown"];
const GONE_AFTER = 1000; // milliseconds; a view that is moved on the page is removed and added again

/**
 * Send the messages of a widget on the kernel's control channel.
 *
 * The kernel answers widget messages on its shell channel, which waits for the running cell, and also on its
 * control channel, which does not (jupyter/requests.py asks it to). Jupyter offers no setting for the channel, so the
 * function that sends is replaced, once for each connection.
 *
 * @param {WidgetModel} widget
 * @param {WidgetManager | undefined} manager
 * @param {(callbacks: Callbacks | undefined) => Callbacks | undefined} watch used where there is only shell
 */
function useControlChannel(widget, manager, watch) {
  const comm = widget.comm;
  if (!comm || comm.perfmonSend) return;
  const usual = comm.send;
  comm.perfmonSend = usual; // kept: it also shows that this was done
  comm.send = (data, callbacks, metadata, buffers) => {
    const kernel = manager?.kernel; // another one after a reconnection
    if (!kernel || !hasControlChannel(manager)) {
      return usual.call(comm, data, watch(callbacks), metadata, buffers);
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
      callbacks?.iopub?.status?.({ header: { msg_type: "status" }, content: { execution_state: "idle" } });
      future.dispose();
    };
    return message.header.msg_id;
  };
}

/**
 * Count the changes that wait for the running cell, so that the panel can say so.
 *
 * @param {WidgetModel} link
 * @returns {(callbacks: Callbacks | undefined) => Callbacks}
 */
function watcher(link) {
  return (callbacks) => {
    let waits = false;
    const count = (/** @type {number} */ by) => {
      pageState(link).waiting += by;
      link.trigger("perfmon:waiting");
    };
    const timer = setTimeout(() => {
      waits = true;
      count(1);
    }, HINT_AFTER);
    const status = (/** @type {KernelMessage} */ message) => {
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

/**
 * Hide or show the table of last values that is stored next to the panel: it is for pages without the panel.
 *
 * @param {WidgetModel} link
 * @param {boolean} hidden
 */
function hideSnapshot(link, hidden) {
  const name = `perfmon-snapshot-${link.model_id}`;
  const style = document.getElementById(name);
  if (!hidden) style?.remove();
  else if (!style) {
    const rule = document.createElement("style");
    rule.id = name;
    // The output that holds the table and nothing else. An Output widget may hold it, and much else.
    const output = `.jp-OutputArea-child:has(> .jp-OutputArea-output > .${name})`;
    rule.textContent = `.${name}, ${output} { display: none !important; }`;
    document.head.append(rule);
  }
}

/**
 * How many milliseconds without a touch make a page an unused one. Infinity, unless the server ends idle kernels also
 * where a page is open (cull_connected): jupyter/server_extension.py puts that into the configuration of the page.
 */
function unusedAfter() {
  const config = document.getElementById("jupyter-config-data")?.textContent;
  return 1000 * JSON.parse(config || "{}").perfmonUnusedAfter || Infinity;
}

/**
 * Report the views of this page to the kernel: when the first is added, when the last is removed or the page
 * is closed, and once in a heartbeat, since the kernel takes a silent page for one that has gone.
 *
 * A hidden page has none, nor has one that is unused while the kernel is idle: what is sent to it would count as
 * activity, for which a server spares an idle kernel. But without a control channel the next report would wait for the
 * running cell, so there every page is taken for visible and used.
 *
 * @param {WidgetModel} link
 * @param {WidgetManager | undefined} manager
 * @param {() => void} connect called before each message
 * @returns {() => void} ends it
 */
function reportViews(link, manager, connect) {
  const state = pageState(link);
  let reported = { views: 0, at: 0 };
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let leaving;

  const patience = unusedAfter();
  let touched = Date.now();

  const unused = () => Date.now() - touched > patience && manager?.kernel?.status !== "busy";
  const seen = () => ((document.hidden || unused()) && hasControlChannel(manager) ? 0 : state.views);
  const report = (/** @type {number} */ views) => {
    connect();
    if (!link.comm_live) return;
    reported = { views, at: Date.now() };
    const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
    const minutes = -new Date().getTimezoneOffset();
    link.send({ page: state.page, views, whileBusy: hasControlChannel(manager), zone: timeZone, minutes });
  };
  const count = () => {
    clearTimeout(leaving);
    if (state.views > 0) hideSnapshot(link, true);
    if (seen() > 0) {
      if (reported.views === 0) report(seen());
    } else {
      leaving = setTimeout(() => {
        hideSnapshot(link, state.views > 0);
        if (reported.views > 0) report(0);
      }, GONE_AFTER);
    }
  };
  const goodbye = () => {
    if (reported.views > 0) report(0);
  };
  const beat = () => {
    const due = Date.now() - reported.at >= 1000 * link.get("heartbeat");
    if (seen() > 0 ? due || reported.views === 0 : unused() && reported.views > 0) report(seen());
  };
  const touch = () => {
    touched = Date.now();
    if (reported.views === 0) count();
  };

  count();
  link.on("perfmon:views", count);
  document.addEventListener("visibilitychange", count);
  window.addEventListener("pagehide", goodbye);
  for (const kind of TOUCHES) window.addEventListener(kind, touch, { capture: true, passive: true });
  window.addEventListener("pageshow", count); // a page that comes back from the browser's history
  const clock = setInterval(beat, 1000);
  return () => {
    clearInterval(clock);
    clearTimeout(leaving);
    hideSnapshot(link, false);
    link.off("perfmon:views", count);
    document.removeEventListener("visibilitychange", count);
    for (const kind of TOUCHES) window.removeEventListener(kind, touch, { capture: true });
    window.removeEventListener("pagehide", goodbye);
    window.removeEventListener("pageshow", count);
  };
}

/**
 * Connect a panel to its kernel, for as long as the model lives.
 *
 * @param {WidgetModel} link
 * @param {WidgetManager | undefined} manager
 * @returns {() => void} ends it
 */
function follow(link, manager) {
  const state = pageState(link);
  const kernel = manager?.kernel;

  // A new connection has new channels.
  const connect = () => {
    useControlChannel(link, manager, (callbacks) => callbacks);
    for (const reference of link.get("controls")) {
      if (!manager) continue;
      find(manager, typeof reference === "string" ? reference : reference.model_id).then(
        (widget) => widget && useControlChannel(widget, manager, watcher(link)),
      );
    }
  };
  const live = () => {
    if (link.comm_live) {
      state.wasLive = true;
      state.lost = false;
    }
    link.trigger("perfmon:state");
  };
  const kernelChanged = (/** @type {unknown} */ _, /** @type {string} */ status) => {
    if (["restarting", "autorestarting", "dead"].includes(status)) state.lost = true;
    link.trigger("perfmon:state");
  };

  live();
  connect();
  const stopReporting = reportViews(link, manager, connect);
  link.on("comm_live_update", live);
  link.on("change:controls", connect);
  kernel?.statusChanged?.connect(kernelChanged);
  return () => {
    stopReporting();
    kernel?.statusChanged?.disconnect(kernelChanged);
    link.off("comm_live_update", live);
    link.off("change:controls", connect);
  };
}

/** @param {{ model: WidgetModel }} context */
function initialize({ model }) {
  const manager = model.widget_manager;
  /** @type {(() => void) | null} */
  let stop = null;
  let gone = false;
  // Not awaited: the model can be found only after this function has returned.
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
