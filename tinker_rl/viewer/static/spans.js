/* The timeline as rows of spans: packing what overlaps, finding what is under a point, and the rectangles of what is in view. */
((Tinker) => {
  "use strict";

  const LANES = ["learner", "admission", "evaluation", "rollout"];
  const TITLES = {
    learner: "learner",
    admission: "admission",
    evaluation: "evaluation",
    rollout: "rollouts",
  };

  /** Pixels of a row at most, and of all rows of the lane, if they can be that thin. */
  const HEIGHTS = { learner: [26, 80], admission: [13, 52], evaluation: [13, 52], rollout: [16, 480] };

  /** Seconds by which spans that follow each other may seem to overlap, their times being rounded. */
  const ROUNDING = 0.003;

  /** The kind of a span, which is its colour. */
  function kind(lane, name, facts) {
    if (lane === "rollout")
      return facts && facts.outcome === "dropped"
        ? "failed"
        : facts && facts.outcome === "none"
          ? "work-save"
          : "work-sample";
    if (name.startsWith("waits")) return "wait";
    if (lane === "evaluation") return "work-evaluate";
    return { trains: "work-train", publishes: "work-publish" }[name] || "work-save";
  }

  /**
   * Reads the columns of a timeline.
   * @returns {rows: [{lane, y, height, spans}], lanes: [{title, y, height}], height, end, starts, cuts, real, groups: Map(group -> span)}; y and height in pixels. A span's `at` is when it began; `start` and `end`, as of the model, are places on the axis: seconds without the cuts
   */
  function layout(timeline) {
    const byLane = new Map(LANES.map((lane) => [lane, []]));
    const { cuts, shown, real } = Tinker.gaps.of(timeline);
    const starts = [];
    let end = 0;
    for (let i = 0; i < timeline.lane.length; i++) {
      const lane = timeline.lanes[timeline.lane[i]];
      const name = timeline.names[timeline.name[i]];
      const start = shown(timeline.start[i]);
      const facts = timeline.facts && timeline.facts[i];
      end = Math.max(end, start + timeline.seconds[i]);
      if (lane === "run" && name === "start") starts.push(start);
      if (!byLane.has(lane)) continue;
      byLane.get(lane).push({
        lane,
        name,
        at: timeline.start[i],
        start,
        seconds: timeline.seconds[i],
        end: start + timeline.seconds[i],
        group: timeline.group[i],
        step: timeline.step[i],
        version: timeline.version[i],
        facts,
        turns: timeline.turns && timeline.turns[i],
        kind: kind(lane, name, facts),
      });
    }
    const result = { rows: [], lanes: [], height: 0, end, starts, cuts, real, shown, groups: new Map() };
    for (const [lane, spans] of byLane) {
      if (!spans.length) continue;
      const packed = pack(spans);
      const [most, room] = HEIGHTS[lane];
      const height = Math.min(most, Math.max(lane === "rollout" ? 2 : 1, Math.floor(room / packed.length)));
      const top = result.height;
      for (const row of packed) {
        result.rows.push({ lane, y: result.height, height, spans: row });
        result.height += height;
      }
      result.lanes.push({ title: TITLES[lane], y: top, height: result.height - top });
      result.height += 12;
    }
    for (const span of byLane.get("rollout")) result.groups.set(span.group, span);
    return result;
  }

  /** As few rows as hold the spans without overlap, each span in the first row that is free. */
  function pack(spans) {
    const rows = [];
    for (const span of spans.sort((a, b) => a.start - b.start || b.seconds - a.seconds)) {
      let row = rows.find((r) => r.at(-1).end <= span.start + ROUNDING);
      if (!row) rows.push((row = []));
      row.push(span);
    }
    return rows;
  }

  /** Index of the first span of a row that ends after `time`. */
  function firstAfter(spans, time) {
    let low = 0;
    let high = spans.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (spans[middle].end > time) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** The span at a height in pixels and a time, or null; `slack` in seconds helps to hit short ones. */
  function at(model, y, time, slack) {
    const row = model.rows.find((r) => y >= r.y && y < r.y + r.height);
    if (!row) return null;
    const i = firstAfter(row.spans, time);
    const near = [row.spans[i - 1], row.spans[i]].filter(Boolean);
    const distance = (span) => Math.max(span.start - time, time - span.end, 0);
    near.sort((a, b) => distance(a) - distance(b));
    return near.length && distance(near[0]) <= slack ? near[0] : null;
  }

  /**
   * The rectangles of what lies in the window, by kind: Map(kind -> [x, y, width, height, ...]). Spans narrower than a pixel that touch
   * become one, so their number is bounded by the pixels, not by the run.
   * @param view {from, to (seconds), x (time -> pixels), top (pixels)}
   */
  function rectangles(model, view) {
    const result = new Map();
    const put = (name, x, y, width, height) => {
      if (!result.has(name)) result.set(name, []);
      result.get(name).push(x, y, width, height);
    };
    for (const row of model.rows) {
      const y = view.top + row.y;
      const gap = row.height > 6 ? 1.5 : row.height > 3 ? 1 : 0;
      let open = null;
      for (
        let i = firstAfter(row.spans, view.from);
        i < row.spans.length && row.spans[i].start < view.to;
        i++
      ) {
        const span = row.spans[i];
        const left = view.x(Math.max(span.start, view.from));
        const right = Math.max(view.x(Math.min(span.end, view.to)), left + 0.75);
        if (open && open.kind === span.kind && left - open.right < 1 && right - open.left < 4) {
          open.right = Math.max(open.right, right);
          continue;
        }
        if (open) put(open.kind, open.left, y, open.right - open.left, row.height - gap);
        open = { kind: span.kind, left, right: right - left > 4 ? right - 1 : right };
        if (span.turns && right - left > 120 && row.height >= 8) turns(span, view, y, row.height - gap, put);
      }
      if (open) put(open.kind, open.left, y, open.right - open.left, row.height - gap);
    }
    return result;
  }

  /** The seconds in environments, a strip for each member, over the span of a rollout. */
  function turns(span, view, y, height, put) {
    const members = 1 + Math.max(...span.turns.map(([member]) => member));
    const strip = height / members;
    for (const [member, what, offset, seconds] of span.turns) {
      if (what !== "e") continue;
      const left = view.x(Math.max(view.from, span.start + offset));
      const right = view.x(Math.min(view.to, span.start + offset + seconds));
      if (right - left > 0.3)
        put("work-env", left, y + member * strip, right - left, Math.max(0.5, strip - (strip > 3 ? 1 : 0)));
    }
  }

  Tinker.spans = { layout, at, rectangles };
})(window.Tinker);
