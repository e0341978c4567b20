/* From a number of a token to its colour. Every colour lies over the page's own, so that text stays readable in light and dark. */
((Tinker) => {
  "use strict";

  const { format } = Tinker;
  const BLUE = [0, 114, 178];
  const ORANGE = [222, 120, 0];
  const PURPLE = [150, 70, 170];
  const VERSIONS = [
    [86, 180, 233],
    [230, 159, 0],
    [0, 158, 115],
    [204, 121, 167],
    [120, 120, 220],
    [140, 140, 140],
  ];
  const STRONGEST = 0.55;
  const RATIO_LIMITS = [1.001, 1.01, 1.1, 1.5, 2, 10];

  const paint = ([r, g, b], alpha) => `rgba(${r}, ${g}, ${b}, ${Math.round(alpha * 1000) / 1000})`;

  /** Two-sided: orange below 0, blue above, nothing at 0. `limit` and beyond are strongest; small values are drawn up a little, to be seen. */
  const diverging = (value, limit) =>
    paint(value < 0 ? ORANGE : BLUE, Math.min(1, Math.abs(value) / limit) ** 0.6 * STRONGEST);

  const greatest = (tokens, value, least) =>
    tokens.reduce((most, token) => Math.max(most, value(token)), least);

  /**
   * The scale of a way to colour.
   * @param mode "advantage" | "logprob" | "ratio" | "version" | "none"
   * @param tokens [{advantage, logprob, ratio, version}] with null for what is unknown
   * @param greatestAdvantage of the run, so that episodes compare
   * @returns {colour(token) -> css colour or "", legend: [{colour, text}], note}
   */
  function scale(mode, tokens, greatestAdvantage) {
    if (mode === "advantage") {
      const limit = greatest(tokens, (t) => Math.abs(t.advantage || 0), greatestAdvantage) || 1;
      const colour = (v) => diverging(v, limit);
      return {
        colour: (t) => (t.advantage === null ? "" : colour(t.advantage)),
        legend: [-limit, -limit / 2, 0, limit / 2, limit].map((v) => ({
          colour: colour(v),
          text: format.signed(v),
        })),
        note: "advantage of the token; the strongest colour is the run's greatest",
      };
    }
    if (mode === "logprob") {
      const colour = (v) => paint(PURPLE, (Math.min(5, -Math.min(0, v)) / 5) * STRONGEST);
      return {
        colour: (t) => (t.logprob === null ? "" : colour(t.logprob)),
        legend: [0, -1, -2.5, -5].map((v) => ({
          colour: colour(v),
          text: v === -5 ? "−5 and less" : format.signed(v),
        })),
        note: "sampler's log-probability, nats: the stronger, the less likely",
      };
    }
    if (mode === "ratio") {
      const largest = greatest(tokens, (t) => (t.ratio > 0 ? Math.max(t.ratio, 1 / t.ratio) : 1), 1);
      const limit = RATIO_LIMITS.find((l) => largest <= l * 1.001) || RATIO_LIMITS.at(-1);
      const colour = (v) => diverging(Math.log(v), Math.log(limit));
      const marks = [1 / limit, 1 / Math.sqrt(limit), 1, Math.sqrt(limit), limit];
      return {
        colour: (t) => (t.ratio === null ? "" : colour(Math.max(1e-30, t.ratio))),
        legend: marks.map((v) => ({ colour: colour(v), text: format.ratio(v) })),
        note: "learner's over sampler's probability of the token",
      };
    }
    if (mode === "version") {
      const versions = [...new Set(tokens.map((t) => t.version).filter((v) => v !== null))].sort(
        (a, b) => a - b,
      );
      const colour = (v) => paint(VERSIONS[versions.indexOf(v) % VERSIONS.length], 0.4);
      return {
        colour: (t) => (t.version === null ? "" : colour(t.version)),
        legend: versions.map((v) => ({ colour: colour(v), text: `version ${v}` })),
        note: "the weights that sampled the token",
      };
    }
    return { colour: () => "", legend: [], note: "" };
  }

  Tinker.colours = { scale };
})(window.Tinker);
