/* The timeline's plot: spans in rows, zoomed and panned, of which only what is in view is drawn. */
((Tinker) => {
  "use strict";

  const { format, chart: plot, theme, spans } = Tinker;
  const LEFT = 78;
  const KINDS = [
    ["wait", "waits"],
    ["work-sample", "samples"],
    ["work-env", "in the environment (zoom in)"],
    ["work-train", "trains"],
    ["work-publish", "publishes"],
    ["work-evaluate", "evaluates"],
    ["work-save", "saves, replays, ended early"],
    ["failed", "dropped"],
  ];
  let model = null;
  let chart = null;
  let selected = null;
  let shownRun = null;

  echarts.graphic.registerShape(
    "tinkerSpans",
    echarts.graphic.extendShape({
      shape: { rectangles: [] },
      buildPath(path, { rectangles }) {
        for (let i = 0; i < rectangles.length; i += 4)
          path.rect(rectangles[i], rectangles[i + 1], rectangles[i + 2], rectangles[i + 3]);
      },
    }),
  );

  const size = () => model.height + 6;

  /** What the chart shows now: [from, to] in seconds. */
  function windowOf() {
    const [zoom] = chart.getOption().dataZoom;
    return [zoom.startValue, zoom.endValue];
  }

  function renderItem(_, api) {
    const kind = KINDS[api.value(2)][0];
    const [left, top] = api.coord([0, 0]);
    const scale = api.coord([1, 0])[0] - left;
    const view = {
      from: Math.max(0, timeAt(LEFT, left, scale)),
      to: timeAt(chart.getWidth() - 10, left, scale),
      top,
      x: (time) => left + time * scale,
    };
    const rectangles = cached(view, left, scale).get(kind) || [];
    return { type: "tinkerSpans", shape: { rectangles }, style: { fill: theme.colour(kind) }, silent: true };
  }

  const timeAt = (pixels, left, scale) => (pixels - left) / scale;

  let last = { key: "", value: null };
  /** The kinds are drawn one after the other from one pass over the spans. */
  function cached(view, left, scale) {
    const key = `${left} ${scale} ${view.top} ${chart.getWidth()} ${model.serial}`;
    if (last.key !== key) last = { key, value: spans.rectangles(model, view) };
    return last.value;
  }

  function renderSelected(_, api) {
    if (!selected) return null;
    const boxes = [selected];
    const group =
      selected.lane === "learner" || selected.lane === "admission" ? model.groups.get(selected.group) : null;
    if (group) boxes.push(group);
    const children = boxes.map((span) => {
      const row = model.rows.find((r) => r.lane === span.lane && r.spans.includes(span));
      if (!row) return null;
      const [x, y] = api.coord([span.start, row.y]);
      const right = api.coord([span.end, row.y])[0];
      return {
        type: "rect",
        shape: { x: x - 1.5, y: y - 1.5, width: Math.max(3, right - x + 3), height: row.height + 2 },
        style: { fill: "none", stroke: theme.colour("ink"), lineWidth: 2 },
        silent: true,
      };
    });
    if (group && selected.lane === "learner") {
      const end = api.coord([group.end, 0])[0];
      const row = model.rows.find((r) => r.spans.includes(group));
      const [from, to] = [api.coord([0, 26])[1], api.coord([0, row.y])[1]];
      children.push({
        type: "line",
        shape: { x1: end, y1: from, x2: end, y2: to },
        style: { stroke: theme.colour("ink"), lineWidth: 1, lineDash: [3, 3] },
        silent: true,
      });
    }
    return { type: "group", children: children.filter(Boolean) };
  }

  const missing = (cut) => `${format.seconds(cut.to - cut.from)} ${cut.ended ? "not running" : "nothing recorded"}`;

  /** What was cut out of the axis: how long it was, along the strip that is left of it, or across if that has room. */
  function renderCut(_, api) {
    const cut = model.cuts[api.value(2)];
    const [left, top] = api.coord([cut.shown[0], 0]);
    const width = api.coord([cut.shown[1], 0])[0] - left;
    const fontSize = Math.max(7, Math.min(11, Math.floor(width) - 1));
    const isWide = width > 170;
    const room = (isWide ? width : size()) / (fontSize * 0.6);
    const text = [`⋯ ${missing(cut)}`, `⋯ ${format.seconds(cut.to - cut.from)}`, "⋯"].find((one) => one.length < room) || "";
    return {
      type: "group",
      silent: true,
      children: [
        { type: "rect", shape: { x: left, y: top, width, height: size() }, style: { fill: theme.colour("sunk") } },
        {
          type: "text",
          x: left + width / 2,
          y: top + size() / 2,
          rotation: isWide ? 0 : Math.PI / 2,
          style: { text, fontSize, fill: theme.colour("muted"), align: "center", verticalAlign: "middle" },
        },
      ],
    };
  }

  /** The label of a place on the axis; there is none within a cut. */
  function timeOf(place) {
    const isCut = model.cuts.some(({ shown }) => place > shown[0] && place < shown[1]);
    return isCut ? "" : format.seconds(model.real(place));
  }

  function options() {
    return {
      animation: false,
      textStyle: plot.text(),
      grid: { left: LEFT, right: 10, top: 4, height: size() },
      xAxis: plot.valueAxis({
        min: 0,
        max: model.end || 1,
        splitLine: { lineStyle: { color: theme.colour("grid") } },
        splitNumber: 6,
        axisLabel: {
          color: theme.colour("muted"),
          fontSize: 11,
          formatter: timeOf,
          hideOverlap: true,
        },
      }),
      yAxis: {
        type: "value",
        inverse: true,
        min: 0,
        max: size(),
        axisLine: { show: false },
        axisTick: { show: false },
        splitLine: { show: false },
        axisLabel: {
          color: theme.colour("ink"),
          fontSize: 12,
          customValues: model.lanes.map((lane) => lane.y + lane.height / 2),
          formatter: (v) =>
            (model.lanes.find((lane) => Math.abs(lane.y + lane.height / 2 - v) < 0.01) || {}).title || "",
        },
      },
      dataZoom: [
        { type: "inside", filterMode: "none", throttle: 16, minValueSpan: 0.01 },
        {
          type: "slider",
          filterMode: "none",
          throttle: 16,
          minValueSpan: 0.01,
          showDataShadow: false,
          height: 16,
          bottom: 4,
          left: LEFT,
          right: 10,
          brushSelect: false,
          labelFormatter: (place) => format.seconds(model.real(place)),
          borderColor: theme.colour("line"),
          fillerColor: theme.colour("accent-soft"),
          textStyle: { color: theme.colour("muted"), fontSize: 10 },
        },
      ],
      series: [
        {
          type: "custom",
          id: "cuts",
          renderItem: renderCut,
          clip: true,
          silent: true,
          data: model.cuts.map((_, i) => [0, 0, i]),
        },
        {
          type: "custom",
          id: "spans",
          renderItem,
          clip: true,
          silent: true,
          data: KINDS.map((_, i) => [0, 0, i]).sort((a, b) => (a[2] === 2) - (b[2] === 2)),
          markLine: {
            silent: true,
            symbol: "none",
            label: { show: false },
            lineStyle: { color: theme.colour("muted"), type: "dotted" },
            data: model.starts.slice(1).map((xAxis) => ({ xAxis })),
          },
        },
        {
          type: "custom",
          id: "selected",
          renderItem: renderSelected,
          clip: true,
          silent: true,
          data: [[0, 0]],
        },
      ],
    };
  }

  /** Draws a run's timeline into `node`. The window stays what it was, unless the run is another. `onMake(chart)` is called once for a new plot. */
  function draw(node, timeline, run, onMake) {
    const view = chart && shownRun === run ? windowOf() : null;
    const whole = view && view[0] <= 0 && view[1] >= model.end - 1e-9;
    const kept = view && !whole && view.map(model.real);
    model = { ...spans.layout(timeline), serial: (model ? model.serial : 0) + 1 };
    shownRun = run;
    node.style.height = `${size() + 58}px`;
    if (!chart) {
      plot.make("timeline", node, (made) => {
        chart = made;
        made.setOption(options());
      });
      onMake(chart);
    } else {
      chart.resize();
      chart.setOption(options());
    }
    if (kept) look(...kept.map(model.shown));
    else chart.dispatchAction({ type: "dataZoom", start: 0, end: 100 });
  }

  function clear() {
    plot.dispose("timeline");
    chart = model = selected = null;
  }

  /** The span under the pointer, or null. */
  function under(event) {
    const [time, y] = chart.convertFromPixel({ gridIndex: 0 }, [event.offsetX, event.offsetY]);
    if (event.offsetX < LEFT) return null;
    const [from, to] = windowOf();
    return spans.at(model, y, time, ((to - from) / chart.getWidth()) * 4);
  }

  /** What is said of the cut under the pointer; null where there is none. */
  function cutUnder(event) {
    const [place] = chart.convertFromPixel({ gridIndex: 0 }, [event.offsetX, event.offsetY]);
    const cut = model.cuts.find(({ shown }) => place > shown[0] && place < shown[1]);
    return cut ? missing(cut) : null;
  }

  /** Frames a span and the group that it waited for; null frames nothing. */
  function mark(span) {
    selected = span;
    chart.setOption({ series: [{ id: "selected", data: [[0, 0, model.serial + Math.random()]] }] });
  }

  /** Brings seconds into view. */
  const look = (from, to) =>
    chart.dispatchAction({
      type: "dataZoom",
      startValue: Math.max(0, from),
      endValue: Math.min(model.end, to),
    });

  /** Zooms by a factor (Infinity: all of it) and moves by a share of the window. */
  function zoom(factor, shift = 0) {
    if (!chart) return;
    const [from, to] = windowOf();
    const middle = (from + to) / 2 + shift * (to - from);
    const half = Math.min(model.end / 2, ((to - from) * factor) / 2);
    const start = Math.max(0, Math.min(model.end - 2 * half, middle - half));
    chart.dispatchAction({ type: "dataZoom", startValue: start, endValue: start + 2 * half });
  }

  Tinker.gantt = { KINDS, draw, clear, under, cutUnder, mark, look, zoom, window: windowOf, model: () => model };
})(window.Tinker);
