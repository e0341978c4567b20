/* Where the time went, in shares: the learner's, the rollouts', and step by step. */
((Tinker) => {
  "use strict";

  const { el, fill } = Tinker.dom;
  const { chart: plot, theme, format, data } = Tinker;

  /** What a share is called, and its colour. */
  const PARTS = {
    waits: { title: "waits for groups", colour: "wait" },
    trains: { title: "trains", colour: "work-train" },
    publishes: { title: "publishes", colour: "work-publish" },
    saves: { title: "saves", colour: "work-save" },
    replays: { title: "replays", colour: "work-evaluate" },
    rest: { title: "the rest", colour: "line" },
    sampler: { title: "sampler", colour: "work-sample" },
    environment: { title: "environment", colour: "work-env" },
  };

  const RIGHT = 4;
  const DIGIT = 6.5; // pixels, of the widest

  const partOf = (name) => (name.startsWith("waits") ? "waits" : name in PARTS ? name : "rest");

  /** Seconds by part: {learner: {...}, rollouts: {...}}, from the timeline, or from the metrics where there is none. */
  function seconds(timeline, metrics) {
    const result = { learner: {}, rollouts: {} };
    const add = (who, part, value) => value > 0 && (result[who][part] = (result[who][part] || 0) + value);
    if (timeline && timeline.lanes.includes("learner")) learnerTime(timeline, add);
    else if (metrics && metrics.series["time/total"]) {
      const sum = (name) => (metrics.series[name] || []).reduce((total, value) => total + (value || 0), 0);
      const parts = [
        ["waits", "time/sampling"],
        ["trains", "time/train"],
        ["publishes", "time/publish"],
      ];
      for (const [part, name] of parts) add("learner", part, sum(name));
      add("learner", "rest", sum("time/total") - parts.reduce((total, [, name]) => total + sum(name), 0));
    }
    const facts = ((timeline && timeline.facts) || []).filter(
      (fact) => fact && fact.env_seconds !== undefined,
    );
    for (const fact of facts) {
      add("rollouts", "environment", fact.env_seconds);
      add("rollouts", "sampler", fact.sample_seconds);
    }
    const fractions = metrics && metrics.series["time/env_fraction"];
    if (!facts.length && fractions) {
      const weights = metrics.series["time/rollout_mean"] || [];
      fractions.forEach((share, i) => {
        add("rollouts", "environment", (share || 0) * (weights[i] || 1));
        add("rollouts", "sampler", (1 - (share || 0)) * (weights[i] || 1));
      });
    }
    return result;
  }

  /** The learner's spans, and the gaps between them where no new start lies in between. */
  function learnerTime(timeline, add) {
    const spans = timeline.lane
      .map((lane, i) => ({
        lane: timeline.lanes[lane],
        name: timeline.names[timeline.name[i]],
        start: timeline.start[i],
        seconds: timeline.seconds[i],
      }))
      .sort((a, b) => a.start - b.start);
    let end = null;
    for (const span of spans) {
      if (span.lane === "run") end = null;
      if (span.lane !== "learner") continue;
      if (end !== null) add("learner", "rest", span.start - end);
      add("learner", partOf(span.name), span.seconds);
      end = Math.max(end ?? 0, span.start + span.seconds);
    }
  }

  /** A share in words, where its part of a bar of so many pixels has room for them. */
  function fitting(share, width) {
    const words = format.percent(share);
    return share * width > words.length * DIGIT + 8 ? words : "";
  }

  /** The bars of all runs. `runs`: [{id, name, timeline, metrics}]. */
  function draw(node, runs) {
    const several = runs.length > 1;
    const rows = runs.flatMap((run) => {
      const parts = seconds(run.timeline, run.metrics);
      return ["learner", "rollouts"]
        .filter((who) => Object.keys(parts[who]).length)
        .map((who) => ({
          who,
          run,
          parts: parts[who],
          total: Object.values(parts[who]).reduce((a, b) => a + b, 0),
        }));
    });
    rows.sort((a, b) => a.who.localeCompare(b.who));
    if (!rows.length) {
      plot.dispose("shares");
      fill(node, el("p", { class: "muted", text: "This run did not record where its time went." }));
      return;
    }
    const height = rows.length * 34 + 4;
    const left = several ? 150 : 70;
    const label = ({ who, run }) =>
      (who === "learner" ? "Learner" : "Rollouts") + (several ? ` · ${data.brief(run.name)}` : "");
    const used = Object.keys(PARTS).filter((part) =>
      rows.some((row) => row.parts[part] / row.total >= 0.0005),
    );
    let body = node.querySelector(".chart");
    if (!body) {
      body = el("div", { class: "chart", role: "img" });
      fill(node, body, el("div", { class: "legend" }));
    }
    body.style.height = `${height}px`;
    body.setAttribute(
      "aria-label",
      rows
        .map(
          (row) =>
            `${label(row)}: ${used
              .filter((p) => row.parts[p])
              .map((p) => `${PARTS[p].title} ${format.percent(row.parts[p] / row.total)}`)
              .join(", ")}`,
        )
        .join("; "),
    );
    const options = (chart) =>
      chart.setOption(
        {
          animation: false,
          textStyle: plot.text(),
          grid: { left, right: RIGHT, top: 2, bottom: 2 },
          xAxis: { type: "value", max: 1, show: false },
          yAxis: {
            type: "category",
            inverse: true,
            data: rows.map(label),
            axisLine: { show: false },
            axisTick: { show: false },
            axisLabel: { color: theme.colour("ink"), width: several ? 140 : 62, overflow: "truncate" },
          },
          series: used.map((part) => ({
            type: "bar",
            stack: "all",
            name: PARTS[part].title,
            barWidth: 22,
            silent: true,
            itemStyle: {
              color: theme.colour(PARTS[part].colour),
              borderColor: theme.colour("panel"),
              borderWidth: 1,
            },
            label: {
              show: true,
              color: theme.on(PARTS[part].colour),
              fontSize: 11,
              formatter: ({ value }) => fitting(value, chart.getWidth() - left - RIGHT),
            },
            data: rows.map((row) => (row.parts[part] || 0) / row.total),
          })),
        },
        { replaceMerge: ["series"] },
      );
    const old = Tinker.charts.shares;
    if (old && old.getDom() !== body) plot.dispose("shares");
    plot.dispose("shares");
    plot.make("shares", body, options);
    fill(
      node.querySelector(".legend"),
      used.map((part) => {
        const times = several
          ? ""
          : rows
              .filter((row) => row.parts[part])
              .map(
                (row) => `${format.percent(row.parts[part] / row.total)}, ${format.seconds(row.parts[part])}`,
              )
              .join(" / ");
        return el(
          "span",
          {},
          el("i", { class: "swatch", style: { "--c": `var(--${PARTS[part].colour})` } }),
          PARTS[part].title,
          times ? el("b", { text: times }) : null,
        );
      }),
    );
  }

  /** Stacked seconds of each step, of one run; many steps are averaged into at most 240 bars. */
  function drawSteps(node, metrics) {
    plot.dispose("step-times");
    const total = metrics && metrics.series["time/total"];
    if (!total)
      return fill(
        node,
        el("p", { class: "muted", text: "This run did not record the seconds of its steps." }),
      );
    const width = Math.ceil(metrics.steps.length / 240);
    const mean = (values) => bucket(metrics.steps.length, width, (i) => values[i] || 0);
    const parts = [
      ["waits", "time/sampling"],
      ["trains", "time/train"],
      ["publishes", "time/publish"],
    ].filter(([, name]) => metrics.series[name]);
    const columns = parts.map(([part, name]) => [part, mean(metrics.series[name])]);
    columns.push([
      "rest",
      mean(total).map((value, i) =>
        Math.max(0, value - columns.reduce((sum, [, column]) => sum + column[i], 0)),
      ),
    ]);
    const steps = metrics.steps.filter((_, i) => i % width === 0);
    const body = el("div", {
      class: "chart",
      role: "img",
      "aria-label": "Seconds of each step: waiting, training, publishing and the rest",
    });
    const line = el("div", { class: "readout" });
    fill(node, line, body);
    const read = (i) =>
      fill(
        line,
        el("span", { text: i === null ? "mean" : `step ${steps[i]}` }),
        columns.map(([part, column]) => {
          const value = i === null ? column.reduce((a, b) => a + b, 0) / column.length : column[i];
          return el(
            "span",
            {},
            el("i", { class: "swatch", style: { "--c": `var(--${PARTS[part].colour})` } }),
            PARTS[part].title,
            el("b", { text: format.seconds(value) }),
          );
        }),
      );
    read(null);
    const chart = plot.make("step-times", body, (c) =>
      c.setOption({
        animation: false,
        textStyle: plot.text(),
        grid: { left: 46, right: 6, top: 8, bottom: 24 },
        xAxis: {
          type: "category",
          data: steps,
          axisTick: { show: false },
          axisLine: { lineStyle: { color: theme.colour("line") } },
          axisLabel: { color: theme.colour("muted"), fontSize: 11 },
          axisPointer: { show: true, type: "shadow", label: { show: false }, triggerTooltip: false },
        },
        yAxis: plot.valueAxis(),
        series: columns.map(([part, data]) => ({
          type: "bar",
          stack: "all",
          name: PARTS[part].title,
          data,
          barCategoryGap: "20%",
          silent: true,
          itemStyle: { color: theme.colour(PARTS[part].colour) },
        })),
      }),
    );
    chart.on(
      "updateAxisPointer",
      ({ axesInfo }) =>
        axesInfo && axesInfo.length && steps[axesInfo[0].value] !== undefined && read(axesInfo[0].value),
    );
    chart.getZr().on("globalout", () => read(null));
    return node;
  }

  function bucket(length, width, value) {
    const result = [];
    for (let i = 0; i < length; i += width) {
      let sum = 0;
      const end = Math.min(length, i + width);
      for (let k = i; k < end; k++) sum += value(k);
      result.push(sum / (end - i));
    }
    return result;
  }

  Tinker.shares = { seconds, draw, drawSteps };
})(window.Tinker);
