/* What the reader chooses for all curves: smoothing, scale, axis, runs. */
((Tinker) => {
  "use strict";

  const { el } = Tinker.dom;
  const { state, theme } = Tinker;
  const { smoothing, byTime, hidden } = Tinker.lines;

  /** The line of controls. `runs()` gives the runs as they are now. */
  function make(runs, zoomOut) {
    const set = (key) => (event) =>
      state.update({
        [key]: event.target.type === "checkbox" ? (event.target.checked ? "1" : null) : event.target.value,
      });
    const slider = el("input", {
      type: "range",
      min: "0",
      max: "0.98",
      step: "0.02",
      value: String(smoothing()),
      id: "smooth",
      on: {
        input: (event) => state.update({ smooth: Number(event.target.value) ? event.target.value : null }),
      },
    });
    const axis = el(
      "select",
      {
        class: "field",
        id: "axis",
        on: { change: (event) => state.update({ x: event.target.value === "time" ? "time" : null }) },
      },
      el("option", { value: "step", text: "step" }),
      el("option", { value: "time", text: "seconds of training" }),
    );
    axis.value = byTime() ? "time" : "step";
    const log = el("input", { type: "checkbox", id: "log", on: { change: set("log") } });
    log.checked = Boolean(state.get("log"));
    return el(
      "div",
      { class: "controls" },
      legend(runs),
      el("label", { class: "inline" }, "smoothing", slider),
      el("label", { class: "inline" }, log, "log scale"),
      runs().some((run) => run.clock) ? el("label", { class: "inline" }, "over", axis) : null,
      el("button", {
        type: "button",
        class: "button",
        text: "Whole range",
        title: "Undo the zoom (drag over a curve to zoom; double click or 0 undoes)",
        on: { click: zoomOut },
      }),
      Tinker.picker.button(() => Tinker.panels.available(runs())),
    );
  }

  function legend(runs) {
    if (runs().length < 2) return null;
    return el(
      "div",
      { class: "legend", role: "group", "aria-label": "Runs" },
      runs().map((run) => {
        const chip = el(
          "button",
          {
            type: "button",
            class: "chip",
            "aria-pressed": String(!hidden().has(run.id)),
            data: { run: run.id },
          },
          el("i", { class: "swatch", style: { "--c": theme.swatch(run.index) } }),
          run.name,
        );
        chip.addEventListener("click", () => {
          const gone = hidden();
          if (!gone.delete(run.id)) gone.add(run.id);
          state.update({ hide: [...gone] });
          chip.setAttribute("aria-pressed", String(!gone.has(run.id)));
        });
        return chip;
      }),
    );
  }

  Tinker.controls = { make };
})(window.Tinker);
