/* The runs themselves: what is known of them, what is missing and why, their options and how they differ. */
((Tinker) => {
  "use strict";

  const { el, fill } = Tinker.dom;
  const { data, format, theme, state } = Tinker;
  let root = null;

  /** An option as the command line takes it: never rounded. */
  const exact = (value) => (typeof value === "string" ? value : JSON.stringify(value));

  function facts(run) {
    const known = run.facts;
    const steps =
      known.steps_planned === null || known.steps_planned === undefined
        ? format.count(known.steps_done)
        : `${format.count(known.steps_done)} of ${format.count(known.steps_planned)}`;
    const rows = [
      ["folder", run.path],
      ["model", known.model || "–"],
      ["state", Tinker.badges.condition(run)],
      known.reason ? ["why", el("span", { class: "reason", text: known.reason })] : null,
      ["steps done", steps],
      ["episodes", format.count(run.counts.episodes)],
      ["groups", format.count(run.counts.groups)],
      run.counts.dropped ? ["dropped", Tinker.badges.dropped(run)] : null,
      ["started", format.date(known.started_at)],
      ["last change", format.date(known.updated_at)],
    ];
    return el(
      "div",
      { class: "card" },
      el(
        "header",
        {},
        data.page.runs.length > 1
          ? el("i", { class: "swatch", style: { "--c": theme.series(data.page.runs.indexOf(run)) } })
          : null,
        el("h2", { text: run.name }),
      ),
      el(
        "dl",
        { class: "facts" },
        rows.filter(Boolean).map(([name, value]) => [el("dt", { text: name }), el("dd", {}, value)]),
      ),
      run.notes.length
        ? [
            el("h3", { text: "Notes" }),
            el(
              "ul",
              { class: "notes" },
              run.notes.map((note) => el("li", { text: note })),
            ),
          ]
        : null,
    );
  }

  /** The options of all runs side by side; those that differ are marked. */
  function config() {
    const runs = data.page.runs;
    const names = [...new Set(runs.flatMap((run) => Object.keys(run.config)))];
    const text = (run, name) => (name in run.config ? exact(run.config[name]) : "–");
    const differs = (name) => runs.some((run) => text(run, name) !== text(runs[0], name));
    const search = el("input", {
      type: "search",
      class: "field",
      placeholder: "Search options",
      "aria-label": "Search options",
      value: state.get("option"),
    });
    const only = el("input", { type: "checkbox" });
    only.checked = state.get("differences") === "1";
    const body = el("tbody");
    const draw = () => {
      const words = search.value.toLowerCase();
      const kept = names.filter(
        (name) => name.toLowerCase().includes(words) && (!only.checked || differs(name)),
      );
      fill(
        body,
        kept.map((name) =>
          el(
            "tr",
            { class: differs(name) ? "differs" : "" },
            el("th", { scope: "row", text: name }),
            runs.map((run) => el("td", { text: text(run, name) })),
          ),
        ),
      );
      if (!kept.length)
        fill(
          body,
          el(
            "tr",
            {},
            el("td", {
              colspan: runs.length + 1,
              text: only.checked
                ? "No option differs."
                : names.length
                  ? "No option of this name."
                  : runs.some((run) => run.unreadable["config.json"])
                    ? "config.json cannot be read: the notes say why."
                    : "No config.json in the folder.",
            }),
          ),
        );
    };
    search.addEventListener("input", () => {
      state.update({ option: search.value });
      draw();
    });
    only.addEventListener("change", () => {
      state.update({ differences: only.checked ? "1" : null });
      draw();
    });
    draw();
    const head =
      runs.length > 1
        ? el(
            "thead",
            {},
            el(
              "tr",
              {},
              el("th", { scope: "col", text: "option" }),
              runs.map((run) => el("th", { scope: "col", text: run.name })),
            ),
          )
        : null;
    return el(
      "div",
      { class: "card" },
      el(
        "header",
        {},
        el("h2", { class: "grow", text: "Options" }),
        runs.length > 1 ? el("label", { class: "inline" }, only, "only differences") : null,
        search,
      ),
      el(
        "div",
        { class: "table", tabindex: "0", role: "region", "aria-label": "Options" },
        el("table", {}, head, body),
      ),
    );
  }

  function draw() {
    const written =
      data.page.mode === "file"
        ? `Written ${format.date(data.page.written_at)}. This file holds all text it shows; it loads nothing from a network.`
        : "Served from the runs' folders.";
    fill(
      root,
      el("div", { class: "columns" }, data.page.runs.map(facts)),
      config(),
      el("p", { class: "muted", text: written }),
    );
  }

  async function show(node) {
    root = node;
    draw();
  }

  const changed = (kind) => root && kind === "head" && !root.contains(document.activeElement) && draw();

  Tinker.on("theme", () => root && draw());
  Tinker.run = { show, changed };
})(window.Tinker);
