/* Beside the title: how the runs stand, what there is of them, and whether they are followed. */
((Tinker) => {
  "use strict";

  const { el, fill } = Tinker.dom;
  const { state, data, format } = Tinker;
  const TONES = { complete: "good", failed: "failed", killed: "failed", interrupted: "halted", stopped: "halted" };
  const MAY_GO_ON = new Set(["running", "unknown"]);
  const ENDED = {
    complete: "is complete",
    failed: "failed",
    killed: "was killed",
    interrupted: "was interrupted",
    stopped: "stopped",
  };
  const MOST_NAMED = 6;
  let link = "";

  /** Badge of a run's state; why it is so comes up under the pointer. */
  const condition = (run) =>
    el("span", {
      class: `badge ${TONES[run.facts.state] || ""}`,
      text: run.facts.state,
      title: run.facts.reason || null,
    });

  /** "59 groups dropped", which opens the list of them; null where none was. */
  function dropped(run) {
    const number = run.counts.dropped;
    if (!number) return null;
    const list = { tab: "episodes", run: run.id, filter: "failed", group: null, member: null };
    return el("button", {
      type: "button",
      class: "link dropped",
      text: `${format.plural(number, "group")} dropped`,
      title: "Those that failed or were dropped",
      on: { click: () => state.update(list, { push: true }) },
    });
  }

  function notes(runs) {
    const noted = runs.filter((run) => run.notes.length);
    const number = noted.reduce((sum, run) => sum + run.notes.length, 0);
    if (!number) return null;
    const names = runs.length > 1 ? ` on ${noted.map((run) => run.name).join(", ")}` : "";
    return el("button", {
      type: "button",
      class: "badge note",
      text: format.plural(number, "note") + names,
      title: "What is missing or left out, and why",
      on: { click: () => state.update({ tab: "run" }, { push: true }) },
    });
  }

  /** What else of the command line is to be shown once it has begun. */
  function waiting(folders) {
    if (!folders.length) return null;
    const names = folders.join(", ");
    const text = folders.length > 1 ? `waiting for ${folders.length} more runs` : "waiting for one more run";
    return el("span", { class: "badge waiting", text, title: `No run has begun there: ${names}` });
  }

  function facts(run) {
    const { steps_done: done, steps_planned: planned, model } = run.facts;
    const isPlanned = planned !== null && planned !== undefined;
    const steps = isPlanned
      ? `${format.count(done)} of ${format.plural(planned, "step")}`
      : format.plural(done, "step");
    const { episodes } = run.counts;
    return [
      condition(run),
      el("span", { text: steps }),
      model ? el("span", { text: model }) : null,
      episodes ? el("span", { text: format.plural(episodes, "episode") }) : null,
      dropped(run),
    ];
  }

  /** Of several runs, each by its name; of many, how many there are of each state. */
  function each(runs) {
    const number = el("span", { text: `${runs.length} runs` });
    if (runs.length > MOST_NAMED) {
      const states = [...new Set(runs.map((run) => run.facts.state))];
      const count = (name) => runs.filter((run) => run.facts.state === name).length;
      const groups = runs.reduce((sum, run) => sum + run.counts.dropped, 0);
      return [
        number,
        states.map((name) => el("span", { class: `badge ${TONES[name] || ""}`, text: `${count(name)} ${name}` })),
        groups ? el("span", { text: `${format.plural(groups, "group")} dropped` }) : null,
      ];
    }
    const named = runs.map((run, i) =>
      el(
        "span",
        { class: "each", data: { run: run.id } },
        el("i", { class: "swatch", style: { "--c": `var(--series-${i % 8})` } }),
        el("span", { class: "name", text: data.brief(run.name), title: run.name }),
        condition(run),
        dropped(run),
      ),
    );
    return [number, named];
  }

  /** Why runs have no steps: they ended before the first, or have yet to come to it. */
  function unbegun(what, runs) {
    if (what === "metrics" && runs.every((run) => run.unreadable["metrics.jsonl"]))
      return `No metrics: metrics.jsonl cannot be read (${runs[0].unreadable["metrics.jsonl"]}).`;
    if (runs.some((run) => MAY_GO_ON.has(run.facts.state)))
      return `No ${what} yet: they come with the first step.`;
    if (runs.length > 1) return `No ${what}: each run ended before there were any.`;
    return `No ${what}: the run ${ENDED[runs[0].facts.state]} before there were any.`;
  }

  /** Draws the line. `live`: "live" or "lost" when a server is followed. */
  function draw(live = link) {
    link = live;
    const { runs } = data.page;
    const goesOn = runs.some((run) => MAY_GO_ON.has(run.facts.state));
    fill(
      document.getElementById("badges"),
      runs.length === 1 ? facts(runs[0]) : each(runs),
      notes(runs),
      waiting(data.page.waiting || []),
      live === "lost" ? el("span", { class: "badge lost", text: "server away" }) : null,
      live === "live" && goesOn ? el("span", { class: "badge live", text: "live" }) : null,
    );
  }

  Tinker.badges = { draw, condition, dropped, unbegun };
})(window.Tinker);
