/* The view of time: shares above, and a timeline in which one sees who waited for whom. */
((Tinker) => {
  "use strict";

  const { el, fill } = Tinker.dom;
  const { state, data, format, gantt } = Tinker;
  const { zoom } = gantt;
  const { sentence, describe } = Tinker.words;
  let root, shareNode, stepNode, lineNode, selectedNode, waitNode, runSelect, tip;
  let selected = null;

  function drawTimeline(timeline, run, problem) {
    const missing = !timeline || !timeline.lane.length;
    root.classList.toggle("without", missing);
    if (missing) {
      gantt.clear();
      lineNode.style.height = "";
      fill(
        lineNode,
        el("p", {
          class: "muted",
          text: problem
            ? `This run has no timeline: timeline.jsonl cannot be read (${problem}).`
            : "This run has no timeline: it has no timeline.jsonl, which runs of reinforcement learning write.",
        }),
      );
      return;
    }
    if (!gantt.model()) fill(lineNode);
    gantt.draw(lineNode, timeline, run, listen);
    select(selected ? find(selected) : null);
    fillWaits();
  }

  const all = () => gantt.model().rows.flatMap((row) => row.spans);
  const find = (old) => all().find((span) => span.lane === old.lane && span.at === old.at) || null;

  function listen(chart) {
    const zr = chart.getZr();
    zr.on("mousemove", (event) => {
      const span = gantt.under(event);
      zr.setCursorStyle(span && span.group !== null ? "pointer" : "default");
      hint(span ? describe(span, gantt.model()) : gantt.cutUnder(event), event.event);
    });
    zr.on("globalout", () => hint(null));
    zr.on("click", (event) => {
      const span = gantt.under(event);
      if (!span) return select(null);
      if (span.lane === "rollout") return open(span.group);
      return select(span);
    });
  }

  function hint(content, event) {
    tip.hidden = !content;
    if (!content) return;
    fill(tip, content);
    const x = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    const y =
      event.clientY + tip.offsetHeight + 20 > innerHeight
        ? event.clientY - tip.offsetHeight - 10
        : event.clientY + 14;
    tip.style.transform = `translate(${Math.max(4, x)}px, ${Math.max(4, y)}px)`;
  }

  /** Shows a span and the group it waited for; with `zoom` also brings both into view. */
  function select(span, zoom = false) {
    selected = span;
    gantt.mark(span);
    if (!span)
      return fill(
        selectedNode,
        el(
          "span",
          { class: "muted" },
          el("span", {
            class: "keys",
            text: "Wheel or + and − zoom, drag or arrows pan, 0 shows all; n and p go from wait to wait. ",
          }),
          "A rollout opens its group.",
        ),
      );
    if (zoom) {
      const group = gantt.model().groups.get(span.group);
      const from = Math.min(span.start, group ? group.start : Infinity);
      const room = Math.max(0.05, (span.end - from) * 0.3);
      gantt.look(from - room, span.end + room);
    }
    const opener =
      span.group !== null &&
      el("button", {
        type: "button",
        class: "button",
        text: `Open group ${span.group}`,
        on: { click: () => open(span.group) },
      });
    return fill(
      selectedNode,
      el("span", {}, sentence(span), span.step === null ? "" : ` (step ${span.step})`),
      opener,
    );
  }

  const open = (group) => {
    hint(null);
    state.update({ tab: "episodes", run: data.current().id, group, member: null }, { push: true });
  };

  const waits = () => all().filter((span) => span.lane === "learner" && span.kind === "wait");

  function fillWaits() {
    const longest = waits()
      .sort((a, b) => b.seconds - a.seconds)
      .slice(0, 20);
    fill(
      waitNode,
      longest.map((span) =>
        el(
          "li",
          {},
          el(
            "button",
            {
              type: "button",
              on: {
                click: () => {
                  select(span, true);
                  lineNode.scrollIntoView({ block: "nearest" });
                },
              },
            },
            el("b", { text: format.seconds(span.seconds) }),
            el("span", { text: span.group === null ? "for groups" : `for group ${span.group}` }),
            el("span", { class: "muted", text: `step ${span.step}` }),
          ),
        ),
      ),
    );
    if (!longest.length) fill(waitNode, el("li", { class: "muted", text: "The learner waited for nobody." }));
  }

  /** What keys do while this view is in front. `focused`: a button that has the focus keeps its Enter. */
  function keys(focused) {
    if (!gantt.model()) return {};
    const actions = {
      "+": () => zoom(0.6),
      "=": () => zoom(0.6),
      "-": () => zoom(1 / 0.6),
      0: () => zoom(Infinity),
      ArrowLeft: () => zoom(1, -0.2),
      ArrowRight: () => zoom(1, 0.2),
      n: () => step(1),
      p: () => step(-1),
    };
    if (selected && selected.group !== null && !focused.closest("a, button"))
      actions.Enter = () => open(selected.group);
    const seen = (action) => () => {
      action();
      lineNode.scrollIntoView({ block: "nearest" });
    };
    return Object.fromEntries(Object.entries(actions).map(([key, action]) => [key, seen(action)]));
  }

  function step(direction) {
    const ordered = waits().sort((a, b) => a.start - b.start);
    const here = ordered.indexOf(selected);
    if (ordered.length)
      select(ordered[here < 0 ? 0 : (here + direction + ordered.length) % ordered.length], true);
  }

  async function load() {
    const runs = await Promise.all(
      data.page.runs.map(async (run) => ({
        ...run,
        timeline: await data.blob(`${run.id}/timeline`),
        metrics: await data.blob(`${run.id}/metrics`),
      })),
    );
    Tinker.shares.draw(shareNode, runs);
    const current = runs.find((run) => run.id === data.current().id);
    runSelect.value = current.id;
    Tinker.shares.drawSteps(stepNode, current.metrics);
    drawTimeline(current.timeline, current.id, current.unreadable["timeline.jsonl"]);
  }

  function build() {
    runSelect = el(
      "select",
      {
        class: "field",
        "aria-label": "Run",
        on: { change: (event) => state.update({ run: event.target.value }) },
      },
      data.page.runs.map((run) => el("option", { value: run.id, text: run.name })),
    );
    const button = (text, title, action) =>
      el("button", {
        type: "button",
        class: "button",
        text,
        title,
        "aria-label": title,
        on: { click: action },
      });
    [shareNode, stepNode, waitNode] = [el("div", {}), el("div", {}), el("ul", { class: "waits" })];
    lineNode = el("div", {
      class: "timeline",
      tabindex: "0",
      role: "application",
      "aria-label":
        "Timeline. Plus and minus zoom, arrows pan, n and p go from wait to wait, Enter opens the group",
    });
    selectedNode = el("div", { class: "found with", "aria-live": "polite" });
    tip = el("div", { class: "tip", hidden: true, "aria-hidden": "true", style: { left: "0", top: "0" } });
    document.body.append(tip);
    fill(
      root,
      data.page.runs.length > 1
        ? el("div", { class: "controls" }, el("label", { class: "inline" }, "run", runSelect))
        : null,
      el(
        "div",
        { class: "card" },
        el(
          "header",
          {},
          el("h2", { text: "Where the time went" }),
          el("span", { class: "muted", text: "Of rollouts, seconds of all episodes are added up" }),
        ),
        shareNode,
      ),
      el(
        "div",
        { class: "card" },
        el(
          "header",
          {},
          el("h2", { class: "grow", text: "Timeline" }),
          el(
            "div",
            { class: "with buttons" },
            button("−", "Zoom out", () => zoom(1 / 0.6)),
            button("+", "Zoom in", () => zoom(0.6)),
            button("←", "Earlier", () => zoom(1, -0.4)),
            button("→", "Later", () => zoom(1, 0.4)),
            button("All", "The whole run", () => zoom(Infinity)),
          ),
        ),
        el(
          "div",
          { class: "legend with" },
          gantt.KINDS.map(([kind, title]) =>
            el("span", {}, el("i", { class: "swatch", style: { "--c": `var(--${kind})` } }), title),
          ),
        ),
        selectedNode,
        lineNode,
      ),
      el(
        "div",
        { class: "columns" },
        el("div", { class: "card with" }, el("h2", { text: "Longest waits of the learner" }), waitNode),
        el("div", { class: "card" }, el("h2", { text: "Seconds of each step" }), stepNode),
      ),
    );
  }

  async function show(node) {
    if (!root) {
      root = node;
      build();
    }
    await load();
  }

  async function changed(kind) {
    if (root && ["timeline", "metrics", "generation"].includes(kind)) await load();
  }

  Tinker.on(
    "state",
    (keysChanged) => root && keysChanged.has("run") && state.get("tab") === "timeline" && load(),
  );
  Tinker.timeline = { show, changed, keys };
})(window.Tinker);
