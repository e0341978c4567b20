/* Which curves belong together, under which names: the figures that matter, then all that environments report. */
((Tinker) => {
  "use strict";

  const train = (name, label) => ({
    source: "metrics",
    match: (metric) => metric === name,
    label: () => label,
  });
  const held = (ending) => ({
    source: "evaluations",
    match: (metric) => metric === ending || metric.endsWith(`/${ending}`),
    label: (metric) => metric.slice(0, -ending.length).replace(/\/$/, "") || "evaluation",
  });

  const KNOWN = [
    {
      id: "reward",
      title: "Reward",
      hint: "mean return",
      section: "Learning",
      lines: [train("env/all/reward/total", "train"), held("env/all/reward/total")],
    },
    {
      id: "correct",
      title: "Accuracy",
      hint: "share correct",
      share: true,
      section: "Learning",
      lines: [train("env/all/correct", "train"), held("env/all/correct")],
    },
    {
      id: "nll",
      title: "Loss per token",
      hint: "mean negative logprob, nats",
      section: "Learning",
      lines: [train("train_mean_nll", "train"), train("test/nll", "test"), held("nll")],
    },
    {
      id: "kl",
      title: "KL v1",
      hint: "sampler to learner: mean logprob difference, nats",
      section: "Learning",
      lines: [train("optim/kl_sample_train_v1", "")],
    },
    {
      id: "kl-v2", // of another size than v1: it grows with the square of the difference
      title: "KL v2",
      hint: "half the mean squared difference, never below 0",
      section: "Learning",
      lines: [train("optim/kl_sample_train_v2", "")],
    },
    {
      id: "kl-reference",
      title: "KL to the reference",
      hint: "nats",
      section: "Learning",
      lines: [train("kl_policy_base", "")],
    },
    {
      id: "entropy",
      title: "Entropy",
      hint: "nats a token",
      section: "Learning",
      lines: [train("optim/entropy", "")],
    },
    {
      id: "ratio",
      title: "Probability ratio",
      hint: "learner / sampler, quantiles",
      section: "Learning",
      lines: ["max", "p99", "p90", "p50", "p10", "p01"].map((q) => train(`optim/ratio_${q}`, q)),
      key: ["max", "p50", "p01"],
      write: "ratio",
    },
    {
      id: "truncated",
      title: "Truncated",
      hint: "share of episodes",
      share: true,
      section: "Learning",
      lines: [train("env/all/truncated", "")],
    },
    {
      id: "groups",
      title: "Groups",
      hint: "share by their rewards",
      share: true,
      section: "Learning",
      lines: [
        train("env/all/by_group/frac_mixed", "mixed"),
        train("env/all/by_group/frac_all_good", "all good"),
        train("env/all/by_group/frac_all_bad", "all bad"),
      ],
    },
    {
      id: "length",
      title: "Answer length",
      hint: "tokens a turn",
      section: "Learning",
      lines: [train("env/all/ac_tokens_per_turn", "")],
    },
    {
      id: "age",
      title: "Age",
      hint: "versions between sampling and training",
      section: "Async",
      lines: [train("async/staleness_max", "max"), train("async/staleness_mean", "mean")],
    },
    {
      id: "useful",
      title: "Useful tokens",
      hint: "share that trained",
      share: true,
      section: "Async",
      lines: [train("useful_token_fraction", "")],
    },
    {
      id: "speed",
      title: "Sampling",
      hint: "tokens a second",
      section: "Async",
      lines: [train("sampling/tokens_per_second", "")],
    },
    {
      id: "seconds",
      title: "Step time",
      hint: "seconds",
      section: "Async",
      lines: [
        train("time/total", "total"),
        train("time/sampling", "waits"),
        train("time/train", "trains"),
        train("time/publish", "publishes"),
      ],
    },
    {
      id: "sync",
      title: "Weight sync",
      hint: "sampler against learner, greatest difference in nats",
      section: "Async",
      lines: [train("sync/max_abs_logprob_diff", "")],
    },
    {
      id: "skipped",
      title: "Groups that failed",
      hint: "a step",
      section: "Async",
      lines: [train("rollout_errors/groups_skipped", "")],
    },
    {
      id: "grad",
      title: "Gradient norm",
      hint: "before clipping",
      section: "Optimiser",
      lines: [train("optim/grad_norm", "")],
    },
    {
      id: "loss",
      title: "Loss",
      hint: "sum over tokens",
      section: "Optimiser",
      lines: [train("optim/loss", "")],
    },
    {
      id: "lr",
      title: "Learning rate",
      hint: "",
      section: "Optimiser",
      lines: [train("optim/learning_rate", ""), train("optim/lr", ""), train("learning_rate", "")],
      first: true,
    },
  ];

  const ORDINARY =
    /^env\/all\/(reward\/total|correct|truncated|ac_tokens_per_turn|ob_tokens_per_turn|turns_per_episode|total_|by_group\/)/;

  /**
   * The panels that the runs have numbers for.
   * @param runs [{id, metrics, evaluations}] blobs, null where there is none
   * @param picked names of metrics that the reader asked for
   * @returns [{id, title, hint, section, lines: [{source, metric, label}]}]
   */
  function panels(runs, picked) {
    const names = available(runs);
    const found = picked
      .filter((name) => names.some((n) => n.metric === name))
      .map((name) => single(name, names, "Picked"));
    for (const known of KNOWN) {
      let lines = known.lines.flatMap(({ source, match, label }) =>
        names
          .filter((n) => n.source === source && match(n.metric))
          .map((n) => ({ ...n, label: label(n.metric) })),
      );
      if (known.key && runs.length > 1) lines = lines.filter((line) => known.key.includes(line.label));
      if (known.first) lines = lines.slice(0, 1);
      if (lines.length) found.push({ ...known, lines });
    }
    const reported = names.filter(
      (n) => n.source === "metrics" && n.metric.startsWith("env/all/") && !ORDINARY.test(n.metric),
    );
    found.push(...reported.map((n) => single(n.metric, names, "From the environments")));
    if (!found.some((panel) => panel.section !== "Picked")) {
      const all = names.filter((n) => !n.metric.startsWith("progress/")).slice(0, 24);
      found.push(...all.map((n) => single(n.metric, names, "Metrics")));
    }
    const taken = new Set();
    return found.filter((panel) => !taken.has(panel.id) && taken.add(panel.id));
  }

  function single(metric, names, section) {
    const lines = names
      .filter((n) => n.metric === metric)
      .map((n) => ({ ...n, label: n.source === "evaluations" ? "evaluation" : "" }));
    if (metric.startsWith("env/all/")) {
      lines.push(
        ...names
          .filter((n) => n.source === "evaluations" && n.metric.endsWith(`/${metric}`))
          .map((n) => ({ ...n, label: n.metric.slice(0, -metric.length - 1) })),
      );
      if (lines.length > 1 && !lines[0].label) lines[0].label = "train";
    }
    return {
      id: `metric:${metric}`,
      title: metric.replace(/^env\/all\//, ""),
      hint: "",
      section,
      lines,
      metric,
    };
  }

  /** Every series of the runs, once: [{source, metric}] in the order of their names. */
  function available(runs) {
    const result = [];
    for (const source of ["metrics", "evaluations"]) {
      const names = new Set(runs.flatMap((run) => Object.keys((run[source] && run[source].series) || {})));
      result.push(...[...names].sort().map((metric) => ({ source, metric })));
    }
    return result;
  }

  Tinker.panels = { panels, available };
})(window.Tinker);
