/* A list of all metrics, searched by name, to pick further curves from. */
((Tinker) => {
  "use strict";

  const { el, fill } = Tinker.dom;
  const { state } = Tinker;

  /** A button that opens the list. `available` gives [{source, metric}]. */
  function button(available) {
    const list = el("ul", { "aria-label": "Metrics" });
    const search = el("input", {
      type: "search",
      class: "field",
      placeholder: "Search metrics",
      "aria-label": "Search metrics",
      on: { input: () => render() },
    });
    const sheet = el(
      "div",
      { class: "sheet", role: "dialog", "aria-label": "Pick metrics", hidden: true },
      search,
      list,
    );
    const opener = el("button", {
      type: "button",
      class: "button",
      text: "Add curves",
      "aria-expanded": "false",
      id: "pick",
      on: { click: () => open(sheet.hidden) },
    });
    const place = el("div", { class: "pick" }, opener, sheet);

    function open(wanted) {
      if (sheet.hidden === !wanted) return;
      sheet.hidden = !wanted;
      opener.setAttribute("aria-expanded", String(wanted));
      if (!wanted) return;
      render();
      search.focus();
    }

    function render() {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const picked = new Set(state.list("metrics"));
      const names = [...new Set(available().map((n) => n.metric))].filter((name) =>
        words.every((word) => name.toLowerCase().includes(word)),
      );
      fill(
        list,
        names.map((name) => row(name, picked)),
        names.length ? null : el("li", { class: "muted", text: "No metric of this name" }),
      );
    }

    function row(name, picked) {
      const box = el("input", { type: "checkbox" });
      box.checked = picked.has(name);
      box.addEventListener("change", () => {
        const names = state.list("metrics").filter((n) => n !== name);
        state.update({ metrics: box.checked ? [...names, name] : names });
      });
      return el("li", {}, el("label", {}, box, name));
    }

    place.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || sheet.hidden) return;
      event.stopPropagation();
      open(false);
      opener.focus();
    });
    document.addEventListener("pointerdown", (event) => place.contains(event.target) || open(false));
    return place;
  }

  Tinker.picker = { button };
})(window.Tinker);
