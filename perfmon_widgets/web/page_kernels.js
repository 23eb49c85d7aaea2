// Which kernel the live page shows: behind a Jupyter server several may have a monitor.

import { element, part } from "./page_parts.js";

export const SILENT = "the Jupyter server does not answer";

/** The kernel that is shown; empty for serve(), and before one is chosen. */
export const chosen = { id: new URLSearchParams(location.search).get("kernel_id") ?? "" };

/** The address of a path of the API for the kernel that is shown. @param {string} path @param {Record<string, string>} query */
export function address(path, query = {}) {
  const parameters = new URLSearchParams(query);
  if (chosen.id) parameters.set("kernel_id", chosen.id);
  return parameters.size ? `${path}?${parameters}` : path;
}

/**
 * Show the kernels that have a monitor as links if there are several.
 *
 * @returns {Promise<KernelEntry[] | string>} the kernels, or why they are not known
 */
export async function listKernels() {
  try {
    const response = await fetch("perfmon/kernels", { cache: "no-store" });
    /** @type {{ kernels: KernelEntry[], message: string }} */
    const { kernels, message } = await response.json();
    if (!response.ok) return message;
    const links = kernels.map(({ id, name, state }) =>
      element(
        "a",
        { href: `perfmon?kernel_id=${encodeURIComponent(id)}`, ...(id === chosen.id ? { "aria-current": "page" } : {}) },
        `${name} (${state})`,
      ),
    );
    const place = part("kernels");
    place.replaceChildren(...links);
    place.hidden = kernels.length === 0 || (kernels.length === 1 && kernels[0].id === chosen.id);
    entitle(kernels.find(({ id }) => id === chosen.id));
    return kernels;
  } catch {
    return SILENT;
  }
}

/** Choose the only kernel that there is. @param {KernelEntry[]} kernels */
export function chooseOnly(kernels) {
  if (kernels.length !== 1 || chosen.id) return;
  chosen.id = kernels[0].id;
  part("kernels").hidden = true;
  entitle(kernels[0]);
}

/** @param {KernelEntry | undefined} kernel */
function entitle(kernel) {
  if (kernel) document.title = `${kernel.name} – Performance`;
}
