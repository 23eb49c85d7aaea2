// Functions that the modules of the panel share. script() in link.py puts this text in front of each module that
// is sent to the browser. The types are declared in tests/browser/types.d.ts.

/**
 * Find a model by its name. A page that is loaded again makes all models again, in any order, so the model may
 * not exist yet.
 *
 * @param {WidgetManager} manager
 * @param {string} reference
 * @returns {Promise<WidgetModel | null>} null if there is none after 10 s
 */
async function find(manager, reference) {
  const name = reference.replace("IPY_MODEL_", "");
  for (let attempt = 0; attempt < 50; attempt++) {
    try {
      return await manager.get_model(name);
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
  return null;
}

/**
 * Whether messages can be sent on the kernel's control channel, which is heard while a cell runs.
 *
 * @param {WidgetManager | undefined} manager
 */
function hasControlChannel(manager) {
  return typeof manager?.kernel?.sendControlMessage === "function";
}

/**
 * Format a number as views/text.py does: three digits at most.
 *
 * @param {number} value
 */
function threeDigits(value) {
  return Math.abs(value) >= 9.95 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1);
}

/**
 * A time of day, as views/local_time.py writes it.
 *
 * @param {number} seconds Unix seconds
 */
function clock(seconds) {
  return new Date(1000 * seconds).toLocaleTimeString("en-GB");
}

/**
 * Return what this page knows about a panel. It is kept on the model of the link, which all parts refer to.
 *
 * @param {WidgetModel} link
 * @returns {PageState}
 */
function pageState(link) {
  link.perfmon ??= {
    page: Math.random().toString(16).slice(2),
    views: 0,
    wasLive: false,
    lost: false,
    waiting: 0,
    doubt: "",
    speakers: 0,
  };
  return link.perfmon;
}

/**
 * Count a view of any part of the panel.
 *
 * @param {WidgetModel} link
 * @returns {() => void} call it when the view is removed
 */
function attend(link) {
  pageState(link).views += 1;
  link.trigger("perfmon:views");
  return () => {
    pageState(link).views -= 1;
    link.trigger("perfmon:views");
  };
}
