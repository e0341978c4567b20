/* The page on paper: the view in front, light, all of its curves, laid out for a sheet. */
((Tinker) => {
  "use strict";

  const { theme, chart, curves } = Tinker;
  const root = document.documentElement;
  const paper = window.matchMedia("print");

  /** Everything is done at once: the browser prints what stands when this returns. */
  function begin() {
    if (root.classList.contains("printing")) return;
    root.classList.add("printing");
    theme.force("light");
    curves.drawAll();
    chart.toPaper();
  }

  function end() {
    if (paper.matches || !root.classList.contains("printing")) return;
    root.classList.remove("printing");
    theme.force(null);
    chart.toScreen();
  }

  window.addEventListener("beforeprint", begin);
  window.addEventListener("afterprint", end);
  paper.addEventListener("change", () => (paper.matches ? begin() : end()));
})(window.Tinker);
