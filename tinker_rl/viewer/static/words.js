/* What a span of the timeline says, in words. */
((Tinker) => {
  "use strict";

  const { el } = Tinker.dom;
  const { format } = Tinker;

  /** A sentence about a span: who did what, or waited for whom. */
  function sentence(span) {
    const time = format.seconds(span.seconds);
    if (span.lane === "learner" && span.name.startsWith("waits"))
      return `Learner waited ${time}${span.group === null ? " for groups" : ` for group ${span.group}`}`;
    if (span.lane === "admission")
      return `${span.group === null ? "Admission" : `Group ${span.group}`} waited ${time}: ${span.name.replace(/^waits /, "")}`;
    if (span.lane === "rollout") return `Group ${span.group} took ${time}`;
    return `${span.lane === "evaluation" ? "Evaluation" : "Learner"} ${span.name}: ${time}`;
  }

  /** All that is known of a span. */
  function describe(span, model) {
    const pairs = [];
    const add = (title, value) =>
      value !== null &&
      value !== undefined &&
      value !== "" &&
      pairs.push(el("dt", { text: title }), el("dd", { text: value }));
    add("step", span.step);
    add("version", span.version);
    add("begins", `at ${format.seconds(span.at)}`);
    const facts = span.facts || {};
    add("outcome", facts.outcome && facts.outcome.replace("_", " "));
    add("members", facts.members);
    add("tokens", facts.tokens === undefined ? "" : format.count(facts.tokens));
    if (facts.sample_seconds !== undefined) add("sampler", format.seconds(facts.sample_seconds));
    if (facts.env_seconds !== undefined) add("environment", format.seconds(facts.env_seconds));
    const group = span.lane === "learner" && span.group !== null ? model.groups.get(span.group) : null;
    if (group)
      add(
        `group ${span.group}`,
        `began at ${format.seconds(group.at)}, took ${format.seconds(group.seconds)}`,
      );
    return [el("strong", { text: sentence(span) }), el("dl", {}, pairs)];
  }

  Tinker.words = { sentence, describe };
})(window.Tinker);
