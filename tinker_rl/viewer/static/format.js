/* How numbers, times and counts are written. */
((Tinker) => {
  "use strict";

  const exact = (value) => value !== null && value !== undefined && Number.isFinite(value);

  const exponent = (text) => text.replace("e+", "e").replace("e-", "e−");

  /** A number in about four digits; "–" for none. */
  function number(value) {
    if (!exact(value)) return "–";
    const size = Math.abs(value);
    if (value === 0) return "0";
    const sign = value < 0 ? "−" : "";
    if (size < 1e-3 || size >= 1e7) return sign + exponent(size.toExponential(2));
    if (size >= 1000) return sign + count(Math.round(size));
    return sign + Number(size.toPrecision(4));
  }

  /** A whole number with thin spaces between thousands. */
  function count(value) {
    if (!exact(value)) return "–";
    return String(value).replace(/\B(?=(\d{3})+(?!\d))/g, "\u2009");
  }

  /** "1 step", "2 steps". */
  const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

  /** For the labels of an axis: short. */
  function axis(value) {
    const size = Math.abs(value);
    if (value === 0) return "0";
    if (size >= 1e9) return `${trim(value / 1e9)}G`;
    if (size >= 1e6) return `${trim(value / 1e6)}M`;
    if (size >= 1e4) return `${trim(value / 1e3)}k`;
    if (size < 1e-3) return exponent(value.toExponential(1)).replace(".0e", "e");
    return trim(value);
  }

  const trim = (value) => String(Number(value.toPrecision(4)));

  /** For the labels of an axis of ratios, which may differ by millionths only. */
  const axisRatio = (value) =>
    value !== 1 && Math.abs(value - 1) < 0.001
      ? `1${value < 1 ? "−" : "+"}${axis(Math.abs(value - 1))}`
      : axis(value);

  /** With its sign: an advantage. */
  function signed(value) {
    if (!exact(value)) return "–";
    return (value > 0 ? "+" : value < 0 ? "−" : "") + number(Math.abs(value));
  }

  /** A probability ratio: near 1 its digits would all be the same, so their difference is shown. */
  function ratio(value) {
    if (!exact(value)) return "–";
    if (value !== 1 && Math.abs(value - 1) < 0.001)
      return `1${value < 1 ? "−" : "+"}${exponent(Math.abs(value - 1).toExponential(1))}`;
    return value >= 100 || value < 0.01 ? number(value) : value.toFixed(3);
  }

  /** Seconds as people say them. */
  function seconds(value) {
    if (!exact(value)) return "–";
    if (value < 0.001) return value === 0 ? "0 s" : "< 1 ms";
    if (value < 1) return `${Math.round(value * 1000)} ms`;
    if (value < 60) return `${Number(value.toPrecision(3))} s`;
    if (value < 3600)
      return `${Math.floor(value / 60)} min ${String(Math.floor(value % 60)).padStart(2, "0")} s`;
    return `${Math.floor(value / 3600)} h ${String(Math.floor((value % 3600) / 60)).padStart(2, "0")} min`;
  }

  function percent(share) {
    if (!exact(share)) return "–";
    return `${share > 0 && share < 0.001 ? "< 0.1" : Number((share * 100).toPrecision(share < 0.1 ? 2 : 3))} %`;
  }

  /** A point in time, in the reader's time zone. */
  function date(unixSeconds) {
    return exact(unixSeconds)
      ? new Date(unixSeconds * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" })
      : "–";
  }

  /** Any value of a config or a log, as text. */
  function value(any) {
    if (typeof any === "number") return number(any);
    return typeof any === "string" ? any : JSON.stringify(any);
  }

  Tinker.format = { number, count, plural, axis, axisRatio, signed, ratio, seconds, percent, date, value };
})(window.Tinker);
