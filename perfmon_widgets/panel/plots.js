// Where the charts of a section are on the page. script() in link.py puts this text in front of the modules that
// point at charts.

/**
 * Return the section that holds an element, once the element is on the page.
 *
 * @param {HTMLElement} element
 * @param {AbortSignal} signal ends the waiting
 * @returns {Promise<HTMLElement | null>}
 */
async function inSection(element, signal) {
  while (!element.isConnected && !signal.aborted) await new Promise((resolve) => setTimeout(resolve, 100));
  return element.closest(".perfmon-section");
}

/**
 * Return the charts of a section that have been drawn.
 *
 * @param {HTMLElement | null} section
 * @returns {HTMLElement[]}
 */
function plots(section) {
  const charts = /** @type {HTMLElement[]} */ ([...(section?.querySelectorAll(".bqplot") ?? [])]);
  return charts.filter((each) => each.querySelector(".plotarea_events"));
}

/**
 * Return where a chart has its lines.
 *
 * @param {HTMLElement} plot
 */
function plotArea(plot) {
  return /** @type {Element} */ (plot.querySelector(".plotarea_events")).getBoundingClientRect();
}
