/* The lines of a panel: points of the runs' numbers, smoothed or not, and their looks. */
((Tinker) => {
  "use strict";

  const { state, theme } = Tinker;
  const DASHES = ["solid", "dashed", "dotted"];

  const hidden = () => new Set(state.list("hide"));
  const visible = (runs) => runs.filter((run) => !hidden().has(run.id));
  const smoothing = () => Math.min(0.99, Math.max(0, Number(state.get("smooth")) || 0));
  const byTime = () => state.get("x") === "time";

  /** Seconds of training at the end of each step, or null where the run did not count them. */
  function clock(metrics) {
    const seconds = metrics && (metrics.series["time/total"] || metrics.series.seconds);
    if (!seconds) return null;
    let sum = 0;
    return new Map(metrics.steps.map((step, i) => [step, (sum += seconds[i] || 0)]));
  }

  const isLog = () => Boolean(state.get("log"));

  /** The points of one line, whether the scale can show them or not: [[x, y or null], ...]. */
  function points(run, { source, metric }) {
    const blob = run[source];
    const values = blob && blob.series[metric];
    if (!values) return [];
    const at = (step) => (byTime() ? time(run, step, source) : step);
    return blob.steps.map((step, i) => [at(step), values[i]]).filter(([x]) => x !== null);
  }

  /** What has no logarithm is a gap on its scale. */
  const drawn = (pairs) => (isLog() ? pairs.map(([x, y]) => [x, y > 0 ? y : null]) : pairs);

  /** How many values of these lines the scale cannot show. */
  const undrawn = (lines) =>
    isLog() ? lines.flatMap((line) => line.points).filter(([, y]) => y !== null && !(y > 0)).length : 0;

  /** An evaluation of version v looks at the weights after v steps. */
  function time(run, step, source) {
    if (!run.clock) return null;
    if (source === "metrics") return run.clock.get(step) ?? null;
    return step === 0 ? 0 : (run.clock.get(step - 1) ?? null);
  }

  /** An exponential mean that is not pulled towards 0 at its begin. */
  function smooth(pairs, weight) {
    let mean = 0;
    let mass = 0;
    return pairs.map(([x, y]) => {
      if (y === null) return [x, null];
      mean = weight * mean + (1 - weight) * y;
      mass = weight * mass + (1 - weight);
      return [x, mean / mass];
    });
  }

  /** The lines of a panel, each with its looks and points. */
  function of(panel, runs) {
    const several = runs.length > 1;
    const lines = visible(runs).flatMap((run) =>
      panel.lines.map((line, m) => ({
        run,
        label: line.label,
        name: [several ? run.name : "", line.label].filter(Boolean).join(" · ") || panel.title,
        colour: theme.series(several ? run.index : panel.write === "ratio" ? [3, 1, 4, 0, 4, 1][m % 6] : m),
        dash: several ? DASHES[m % 3] : panel.write === "ratio" && m > 3 ? "dashed" : "solid",
        sparse: line.source === "evaluations",
        points: points(run, line),
      })),
    );
    return lines.filter((line) => line.points.some(([, y]) => y !== null));
  }

  function series(lines) {
    const weight = smoothing();
    const made = lines.map((line) => {
      const few = line.sparse || line.points.length <= 10;
      return {
        type: "line",
        name: line.name,
        data: drawn(weight && !line.sparse ? smooth(line.points, weight) : line.points),
        showSymbol: few,
        symbol: line.sparse ? "diamond" : "circle",
        symbolSize: line.sparse ? 7 : 4,
        sampling: "lttb",
        itemStyle: { color: line.colour },
        lineStyle: { width: 1.75, type: line.dash, color: line.colour },
        emphasis: { disabled: true },
      };
    });
    if (!weight) return made;
    const raw = lines
      .filter((line) => !line.sparse)
      .map((line) => ({
        type: "line",
        data: drawn(line.points),
        showSymbol: false,
        silent: true,
        sampling: "lttb",
        z: 1,
        lineStyle: { width: 1, color: line.colour, opacity: 0.28 },
        itemStyle: { color: line.colour },
        emphasis: { disabled: true },
      }));
    return [...made, ...raw];
  }

  Tinker.lines = { hidden, visible, byTime, isLog, smoothing, clock, smooth, of, series, undrawn };
})(window.Tinker);
