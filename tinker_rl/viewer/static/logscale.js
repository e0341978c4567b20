/* The bounds and ticks of a logarithmic axis. Knows nothing of the page. */
((Tinker) => {
  "use strict";

  const MOST_DECADES = 6; // labels

  /** Powers of ten from `low` to `high`, each rounded as it is written. */
  const power = (exponent) => Number(`1e${exponent}`);

  /** 1, 2 and 5 of each decade. */
  function grid(low, high) {
    const ticks = [];
    for (let e = Math.floor(Math.log10(low)) - 1; e <= Math.ceil(Math.log10(high)) + 1; e++)
      ticks.push(...[1, 2, 5].map((digit) => Number(`${digit}e${e}`)));
    const first = ticks.findLastIndex((tick) => tick <= low * (low === high ? 0.99 : 1.000001));
    const last = ticks.findIndex((tick) => tick >= high * (low === high ? 1.01 : 0.999999));
    return ticks.slice(first, last + 1);
  }

  /** Equal steps, for values so near each other that a logarithm hardly bends them. */
  function steps(low, high) {
    const exponent = Math.floor(Math.log10((high - low) / 5));
    const step = [1, 2, 5, 10].map((digit) => Number(`${digit}e${exponent}`)).find((s) => s >= (high - low) / 5);
    const ticks = [];
    for (let n = Math.floor(low / step + 1e-6); ; n++) {
      ticks.push(Number((n * step).toPrecision(12)));
      if (ticks.at(-1) >= high * (1 - 1e-9)) return ticks;
    }
  }

  /** Powers of ten, so many apart that the labels have room. */
  function decades(low, high) {
    const [first, last] = [Math.floor(Math.log10(low) + 1e-9), Math.ceil(Math.log10(high) - 1e-9)];
    const apart = Math.ceil((last - first) / MOST_DECADES);
    const ticks = [];
    for (let e = first; e < last + apart; e += apart) ticks.push(power(e));
    return ticks;
  }

  /** The ticks of an axis for these values; the first and the last are its bounds. Null: none is above 0. */
  function ticks(values) {
    const positive = values.filter((value) => value > 0);
    if (!positive.length) return null;
    const low = positive.reduce((a, b) => Math.min(a, b));
    const high = positive.reduce((a, b) => Math.max(a, b));
    if (high >= 100 * low) return decades(low, high);
    return high > low && high < 3 * low && high - low > 1e-6 * low ? steps(low, high) : grid(low, high);
  }

  Tinker.logscale = { ticks };
})(window.Tinker);
