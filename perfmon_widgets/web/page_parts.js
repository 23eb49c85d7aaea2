// Making and looking up elements of the live page.

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string>} [attributes]
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export const part = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** Writing a text that is there already would cost a layout. @param {Element} place @param {string} words */
export function put(place, words) {
  if (place.textContent !== words) place.textContent = words;
}
