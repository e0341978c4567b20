/* Small tools for the document. Text becomes a node of text, never markup: what models write is hostile. */
window.Tinker = window.Tinker || {};
((Tinker) => {
  "use strict";

  /** Makes an element: `text`, `on` (listeners), `data` (data-*), `style` (custom properties), properties such as `value`; all else are attributes. */
  function el(tag, options, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(options || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name === "text") node.textContent = value;
      else if (name === "on")
        for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
      else if (name === "data") Object.assign(node.dataset, value);
      else if (name === "style") for (const [key, v] of Object.entries(value)) node.style.setProperty(key, v);
      else if (name === "value") node.value = value;
      else node.setAttribute(name, value === true ? "" : value);
    }
    append(node, children);
    return node;
  }

  function append(node, children) {
    for (const child of children.flat(Infinity)) {
      if (child !== null && child !== undefined && child !== false) node.append(child);
    }
  }

  /** Puts `children` in the place of all that `node` holds. */
  function fill(node, ...children) {
    node.replaceChildren();
    append(node, children);
    return node;
  }

  /** Calls `run` once, `milliseconds` after the last call. */
  function debounce(milliseconds, run) {
    let timer = 0;
    return (...args) => {
      clearTimeout(timer);
      timer = setTimeout(() => run(...args), milliseconds);
    };
  }

  /** Calls `run` at most once a frame. */
  function perFrame(run) {
    let asked = false;
    return () => {
      if (asked) return;
      asked = true;
      requestAnimationFrame(() => {
        asked = false;
        run();
      });
    };
  }

  /** Lets the browser draw and answer keys; long work awaits it between slices. */
  const breathe = () => new Promise((resolve) => setTimeout(resolve, 0));

  const listeners = new Map();

  /** Calls `listener` on each `emit(event, ...)`. */
  function on(event, listener) {
    if (!listeners.has(event)) listeners.set(event, []);
    listeners.get(event).push(listener);
  }

  function emit(event, ...args) {
    for (const listener of listeners.get(event) || []) listener(...args);
  }

  /** A line about something that went wrong or is missing, above the view; "" takes it away. */
  function message(text) {
    const line = document.getElementById("message");
    line.textContent = text;
    line.hidden = !text;
  }

  /** Copies text; true when it worked. */
  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const area = el("textarea", { value: text, class: "unseen", "aria-hidden": "true" });
      document.body.append(area);
      area.select();
      const worked = document.execCommand("copy");
      area.remove();
      return worked;
    }
  }

  Tinker.dom = { el, fill, debounce, perFrame, breathe, message, copy };
  Tinker.on = on;
  Tinker.emit = emit;
})(window.Tinker);
