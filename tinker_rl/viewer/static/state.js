/* What the page shows, kept in the address's fragment: a link opens the same view again. */
((Tinker) => {
  "use strict";

  let values = read();

  function read() {
    const result = {};
    for (const [key, value] of new URLSearchParams(location.hash.slice(1))) result[key] = value;
    return result;
  }

  /** The value of a key, or "". */
  const get = (key) => values[key] || "";

  /** A whole number, or null. */
  const integer = (key) => (/^\d+$/.test(get(key)) ? Number(get(key)) : null);

  function decode(text) {
    try {
      return decodeURIComponent(text);
    } catch {
      return text; // a link that was written by hand
    }
  }

  /** A list that is kept with commas. */
  const list = (key) => get(key).split(",").filter(Boolean).map(decode);

  /** Changes keys; null or "" takes one away. `push` makes the browser's back button undo it. */
  function update(changes, { push = false } = {}) {
    const changed = [];
    for (const [key, given] of Object.entries(changes)) {
      const value =
        given === null || given === undefined
          ? ""
          : Array.isArray(given)
            ? given.map(encodeURIComponent).join(",")
            : String(given);
      if (value === get(key)) continue;
      if (value) values[key] = value;
      else delete values[key];
      changed.push(key);
    }
    if (!changed.length) return;
    const fragment = `#${new URLSearchParams(values)}`;
    try {
      history[push ? "pushState" : "replaceState"](null, "", fragment);
    } catch {
      /* browsers bound how often an address changes; the view changes all the same */
    }
    Tinker.emit("state", new Set(changed));
  }

  function reread() {
    const before = values;
    values = read();
    const changed = Object.keys({ ...before, ...values }).filter((key) => before[key] !== values[key]);
    if (changed.length) Tinker.emit("state", new Set(changed));
  }

  window.addEventListener("popstate", reread);
  window.addEventListener("hashchange", reread);

  /** The address of the page with these keys alone. */
  function link(keys) {
    return `${location.href.split("#")[0]}#${new URLSearchParams(keys)}`;
  }

  Tinker.state = { get, integer, list, update, link };
})(window.Tinker);
