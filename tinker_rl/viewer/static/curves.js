/* The curves: small panels, one or several runs over each other, one pointer and one zoom for all. */
((Tinker) => {
  "use strict";

  const { el, fill } = Tinker.dom;
  const { state, data, format, chart: plot, theme, lines } = Tinker;
  const { byTime, isLog } = lines;
  const shown = new Map(); // panel id -> {panel, node, body, readout, lines, chart}
  let runs = [];
  let root, grid, near;
  let hovered = null;
  let isAhead = false; // panels out of view are being drawn

  async function load() {
    runs = await Promise.all(
      data.page.runs.map(async (run, index) => {
        const [metrics, evaluations] = await Promise.all([
          data.blob(`${run.id}/metrics`),
          data.blob(`${run.id}/evaluations`),
        ]);
        return { id: run.id, name: run.name, index, metrics, evaluations, clock: lines.clock(metrics) };
      }),
    );
  }

  /** No share is above 1, so neither is its axis. */
  const SHARES = {
    splitNumber: 5,
    min: ({ min, max }) => (min === max ? 0 : null),
    max: ({ min, max }) => (max > 0.75 || min === max ? 1 : null),
  };

  function yAxis(panel, series) {
    const axis = plot.valueAxis(isLog() ? { type: "log" } : { scale: true });
    if (panel.write === "ratio") axis.axisLabel.formatter = format.axisRatio;
    const customValues = isLog() ? Tinker.logscale.ticks(series.flatMap(({ data }) => data.map(([, y]) => y))) : null;
    axis.axisTick.customValues = axis.axisLabel.customValues = customValues;
    if (customValues) return { ...axis, min: customValues[0], max: customValues.at(-1) };
    return panel.share && !isLog() ? { ...axis, ...SHARES } : { ...axis, splitNumber: 4, min: null, max: null };
  }

  function draw(entry) {
    entry.lines = lines.of(entry.panel, runs);
    const values = entry.lines.flatMap((line) => line.points).filter(([, y]) => y !== null);
    const series = lines.series(entry.lines);
    entry.chart.setOption(
      {
        animation: false,
        textStyle: plot.text(),
        grid: { left: 46, right: 10, top: 8, bottom: 24 },
        toolbox: {
          show: true,
          right: -200,
          feature: {
            dataZoom: {
              yAxisIndex: false,
              filterMode: "none",
              brushStyle: { color: theme.colour("accent"), opacity: 0.12 },
            },
          },
        },
        dataZoom: [],
        xAxis: plot.valueAxis({
          min: "dataMin",
          max: "dataMax",
          splitLine: { show: false },
          minInterval: byTime() ? 0 : 1,
          splitNumber: 5,
          axisLine: { show: true, onZero: false, lineStyle: { color: theme.colour("line") } },
          axisLabel: {
            color: theme.colour("muted"),
            fontSize: 11,
            hideOverlap: true,
            formatter: byTime() ? format.seconds : (v) => (Number.isInteger(v) ? format.axis(v) : ""),
          },
          axisPointer: {
            show: true,
            snap: true,
            label: { show: false },
            lineStyle: { color: theme.colour("muted") },
            triggerTooltip: false,
          },
        }),
        yAxis: yAxis(entry.panel, series),
        series,
      },
      { replaceMerge: ["series"] },
    );
    readout(entry);
    const gone = lines.undrawn(entry.lines);
    entry.undrawn.hidden = !gone;
    entry.undrawn.textContent = `${format.plural(gone, "value")} ≤ 0 not drawn`;
    const last = entry.lines.map((line) => `${line.name}: last ${format.number(line.points.at(-1)[1])}`);
    entry.body.setAttribute(
      "aria-label",
      `${entry.panel.title}. ${values.length} points. ${last.join("; ")}`,
    );
  }

  /** The values at the pointer, or the last ones. */
  function readout(entry) {
    const write = entry.panel.write === "ratio" ? format.ratio : format.number;
    const value = (line) => {
      const point =
        hovered === null ? line.points.findLast(([, y]) => y !== null) : nearest(line.points, hovered);
      return el("b", { text: point ? write(point[1]) : "–" });
    };
    const swatch = (line, dash) => el("i", { class: `swatch line ${dash}`, style: { "--c": line.colour } });
    const labels = [...new Set(entry.lines.map((line) => line.label))];
    entry.hint.textContent =
      hovered === null ? entry.panel.hint : byTime() ? `at ${format.seconds(hovered)}` : `step ${hovered}`;
    if (runs.length > 1 && labels.length > 1) return matrix(entry, labels, value, swatch);
    const single = entry.lines.length === 1 && runs.length === 1;
    return fill(
      entry.readout,
      entry.lines.map((line) =>
        el(
          "span",
          {},
          single
            ? null
            : [
                swatch(line, line.dash),
                runs.length > 1 ? nameOf(line.run) : el("i", { class: "name", text: line.label }),
              ],
          value(line),
        ),
      ),
    );
  }

  const nameOf = (run) => el("i", { class: "name", text: data.brief(run.name), title: run.name });

  /** Several runs with several lines each: a row for each run, a column for each line. */
  function matrix(entry, labels, value, swatch) {
    const row = (run) => {
      const own = entry.lines.filter((line) => line.run === run);
      if (!own.length) return null;
      const cells = labels
        .map((label) => own.find((line) => line.label === label))
        .map((line) => (line ? value(line) : el("b", { text: "–" })));
      return [el("span", {}, swatch(own[0], "solid"), nameOf(run)), cells];
    };
    const dashes = labels.map((label) =>
      el(
        "span",
        { class: "column" },
        el("i", {
          class: `swatch line ${entry.lines.find((line) => line.label === label).dash}`,
          style: { "--c": "currentColor" },
        }),
        el("i", { class: "name", text: label }),
      ),
    );
    fill(
      entry.readout,
      el(
        "div",
        { class: "matrix", style: { "--n": labels.length } },
        el("span"),
        dashes,
        lines.visible(runs).map(row),
      ),
    );
  }

  function nearest(pairs, x) {
    let best = null;
    for (const pair of pairs) if (!best || Math.abs(pair[0] - x) <= Math.abs(best[0] - x)) best = pair;
    return best;
  }

  const readouts = Tinker.dom.perFrame(() => {
    for (const entry of shown.values()) if (entry.chart) readout(entry);
  });

  /** A step is shorter than the hint in whose place it is read: the head must not shrink meanwhile. */
  function keepHeads(keep) {
    const heads = [...shown.values()].map((entry) => entry.node.firstElementChild);
    const heights = heads.map((head) => (keep ? `${head.offsetHeight}px` : ""));
    heads.forEach((head, i) => (head.style.minHeight = heights[i]));
  }

  function point(x) {
    if (x === hovered) return;
    if (x === null || hovered === null) keepHeads(x !== null);
    hovered = x;
    readouts();
  }

  /** Left and right move the pointer of all panels from step to step. */
  function keys(entry, event) {
    const moves = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
    if (event.key === "0") return zoomOut();
    if (!(event.key in moves) || !entry.lines.length) return undefined;
    event.preventDefault();
    const xs = [...new Set(entry.lines.flatMap((line) => line.points.map(([x]) => x)))].sort((a, b) => a - b);
    const here = hovered === null ? xs.length : xs.findIndex((x) => x >= hovered);
    const x = xs[Math.min(xs.length - 1, Math.max(0, here + moves[event.key]))];
    entry.chart.dispatchAction({
      type: "updateAxisPointer",
      currTrigger: "mousemove",
      x: entry.chart.convertToPixel({ xAxisIndex: 0 }, x),
      y: 60,
    });
    return point(x);
  }

  /** A drag with the mouse marks the range to zoom into. A finger scrolls the page. */
  function zoomByDrag(chart) {
    chart.dispatchAction({ type: "takeGlobalCursor", key: "dataZoomSelect", dataZoomSelectActive: true });
  }

  function zoomOut() {
    for (const entry of shown.values())
      if (entry.chart) entry.chart.dispatchAction({ type: "dataZoom", start: 0, end: 100 });
  }

  function build(entry) {
    entry.chart = plot.make(entry.panel.id, entry.body, (chart) => {
      entry.chart = chart;
      draw(entry);
    });
    entry.chart.group = "curves";
    entry.chart.on(
      "updateAxisPointer",
      ({ axesInfo }) => axesInfo && axesInfo.length && point(axesInfo[0].value),
    );
    entry.chart.getZr().on("globalout", () => point(null));
    entry.chart.getZr().on("dblclick", zoomOut);
  }

  const missing = () => [...shown.values()].filter((entry) => !entry.chart && entry.node.clientWidth);
  const whenIdle =
    window.requestIdleCallback || ((run) => setTimeout(() => run({ timeRemaining: () => 0 }), 10));

  /** Draws what is out of view while the browser has nothing else to do. */
  function drawAhead() {
    if (isAhead || !missing().length) return;
    isAhead = true;
    whenIdle((idle) => {
      isAhead = false;
      const waiting = missing();
      do waiting.splice(0, 1).forEach(build);
      while (waiting.length && idle.timeRemaining() > 10);
      drawAhead();
    });
  }

  const drawAll = () => missing().forEach(build);

  function panelNode(panel) {
    const remove =
      panel.section === "Picked" &&
      el("button", {
        type: "button",
        class: "quiet",
        text: "×",
        title: "Take this curve away",
        "aria-label": `Take ${panel.metric} away`,
        on: {
          click: () => state.update({ metrics: state.list("metrics").filter((m) => m !== panel.metric) }),
        },
      });
    const entry = {
      panel,
      hint: el("span", { class: "hint", text: panel.hint, title: panel.hint }),
      readout: el("div", { class: "readout" }),
      undrawn: el("p", { class: "undrawn", hidden: true }),
      body: el("div", { class: "chart", role: "img", tabindex: "0" }),
      lines: [],
    };
    entry.body.addEventListener("keydown", (event) => keys(entry, event));
    entry.body.addEventListener(
      "pointerenter",
      (event) => event.pointerType === "mouse" && entry.chart && zoomByDrag(entry.chart),
    );
    entry.node = el(
      "article",
      { class: "panel", data: { panel: panel.id } },
      el("header", {}, el("h3", { text: panel.title }), entry.hint, remove),
      entry.readout,
      entry.undrawn,
      entry.body,
    );
    near.observe(entry.node);
    return entry;
  }

  /** Brings the panels on the page in line with data and choices; those that stay keep their place and zoom. */
  function layout() {
    const wanted = Tinker.panels.panels(runs, state.list("metrics"));
    const ids = new Set(wanted.map((panel) => panel.id));
    for (const [id, entry] of shown) {
      if (ids.has(id) && entry.panel.section === wanted.find((p) => p.id === id).section) continue;
      plot.dispose(id);
      near.unobserve(entry.node);
      shown.delete(id);
    }
    const sections = new Map();
    for (const panel of wanted) {
      if (!shown.has(panel.id)) shown.set(panel.id, panelNode(panel));
      const entry = shown.get(panel.id);
      entry.panel = panel;
      if (!sections.has(panel.section)) sections.set(panel.section, []);
      sections.get(panel.section).push(entry.node);
      if (entry.chart) draw(entry);
    }
    const blocks = [...sections].map(([name, nodes]) => {
      const old = [...grid.children].find((block) => block.dataset.section === name);
      const block =
        old ||
        el(
          "div",
          { class: "section", data: { section: name } },
          el("h2", { text: name }),
          el("div", { class: "panels" }),
        );
      const list = block.lastElementChild;
      if (nodes.length !== list.children.length || nodes.some((node, i) => list.children[i] !== node))
        fill(list, nodes);
      return block;
    });
    if (!blocks.length)
      fill(grid, el("p", { class: "empty", text: Tinker.badges.unbegun("metrics", data.page.runs) }));
    else if (blocks.length !== grid.children.length || blocks.some((block, i) => grid.children[i] !== block))
      fill(grid, blocks);
    drawAhead();
  }

  function redraw() {
    for (const entry of shown.values()) if (entry.chart) draw(entry);
  }

  async function show(node) {
    await load();
    if (!root) {
      root = node;
      echarts.connect("curves");
      near = new IntersectionObserver(
        (entries) => {
          for (const { target, isIntersecting } of entries) {
            const entry = shown.get(target.dataset.panel);
            if (isIntersecting && entry && !entry.chart && target.clientWidth) build(entry);
          }
        },
        { rootMargin: "300px" },
      );
      grid = el("div", {});
      fill(
        root,
        Tinker.controls.make(() => runs, zoomOut),
        grid,
      );
    }
    layout();
    for (const entry of missing()) if (entry.node.getBoundingClientRect().top < innerHeight) build(entry);
  }

  async function changed(kind) {
    if (root && kind === "head" && !shown.size) layout(); // a run may have ended without a step
    if (!root || !["metrics", "evaluations", "generation"].includes(kind)) return;
    await load();
    layout();
  }

  Tinker.on("state", (keys) => {
    if (!root) return;
    if (keys.has("metrics")) layout();
    else if (["smooth", "log", "x", "hide"].some((key) => keys.has(key))) redraw();
  });

  Tinker.curves = { show, changed, drawAll };
})(window.Tinker);
