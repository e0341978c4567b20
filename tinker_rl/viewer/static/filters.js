/* The filters of the list of episodes, as chips and fields; their values live in the address. */
((Tinker) => {
  "use strict";

  const { el, fill, debounce } = Tinker.dom;
  const { state } = Tinker;
  const QUICK = [
    ["reward0", "reward ≤ 0"],
    ["truncated", "truncated"],
    ["failed", "failed"],
  ];
  const FIELDS = ["outcome", "tag", "version", "from", "to", "ratio"];
  const KEYS = ["filter", "sort", ...FIELDS];
  let fields, chips, ratioChip;

  const chosen = () => new Set(state.list("filter"));
  const decimal = (key) =>
    state.get(key) === "" || !Number.isFinite(Number(state.get(key))) ? null : Number(state.get(key));

  /** What `table.filter` takes. `rows`: what a search found, or null. */
  function chosenFilters(rows) {
    const quick = chosen();
    return {
      reward0: quick.has("reward0"),
      truncated: quick.has("truncated"),
      failed: quick.has("failed"),
      outcome: state.get("outcome"),
      tag: state.get("tag"),
      version: state.integer("version"),
      from: state.integer("from"),
      to: state.integer("to"),
      ratio: decimal("ratio"),
      text: rows,
    };
  }

  /** The chips, the fields in a part that can be folded, and a button that takes all away. */
  function make() {
    const toggle = (name) => {
      const quick = chosen();
      if (!quick.delete(name)) quick.add(name);
      state.update({ filter: [...quick] });
    };
    chips = QUICK.map(([name, title]) =>
      el("button", {
        type: "button",
        class: "chip",
        text: title,
        data: { filter: name },
        on: { click: () => toggle(name) },
      }),
    );
    ratioChip = el("button", {
      type: "button",
      class: "chip",
      text: "largest ratio",
      data: { filter: "ratio" },
      title: "Those whose learner and sampler disagree most come first",
      on: { click: () => state.update({ sort: state.get("sort") === "-max_ratio" ? null : "-max_ratio" }) },
    });
    const select = (key, label) =>
      el("select", {
        class: "field",
        "aria-label": label,
        data: { key },
        on: { change: (event) => state.update({ [key]: event.target.value }) },
      });
    const input = (key, label, extra) =>
      el("input", {
        type: "number",
        class: "field",
        "aria-label": label,
        placeholder: label,
        data: { key },
        ...extra,
        on: { input: debounce(200, (event) => state.update({ [key]: event.target.value })) },
      });
    fields = {
      outcome: select("outcome", "Outcome"),
      tag: select("tag", "Tag"),
      version: select("version", "Version"),
      from: input("from", "from step", { min: "0" }),
      to: input("to", "to step", { min: "0" }),
      ratio: input("ratio", "ratio ≥", { min: "1", step: "any" }),
    };
    const clear = el("button", {
      type: "button",
      class: "quiet",
      text: "Clear",
      title: "Take all filters away",
      on: { click: () => state.update(Object.fromEntries([...KEYS, "q"].map((key) => [key, null]))) },
    });
    const more = el(
      "details",
      {},
      el("summary", { text: "More filters" }),
      el("div", { class: "filters" }, Object.values(fields)),
    );
    more.open = innerWidth > 1020 || FIELDS.some((key) => state.get(key));
    return { chips: [...chips, ratioChip, clear], more };
  }

  /** Brings the fields in line with the run and the address. */
  function show(columns) {
    const options = (node, all, values, text = String) =>
      fill(
        node,
        el("option", { value: "", text: all }),
        values.map((v) => el("option", { value: String(v), text: text(v) })),
      );
    options(fields.outcome, "any outcome", columns.outcomes);
    options(fields.tag, "any tag", columns.tags.filter(Boolean));
    options(
      fields.version,
      "any version",
      [...new Set(columns.version)].filter((v) => v !== null).sort((a, b) => a - b),
      (v) => `version ${v}`,
    );
    for (const [key, node] of Object.entries(fields))
      if (document.activeElement !== node) node.value = state.get(key);
    for (const chip of chips) chip.setAttribute("aria-pressed", String(chosen().has(chip.dataset.filter)));
    ratioChip.setAttribute("aria-pressed", String(state.get("sort") === "-max_ratio"));
  }

  Tinker.filters = { make, show, chosen: chosenFilters, KEYS };
})(window.Tinker);
