/* What all plots share: making one, its colours, drawing anew when theme or size change. */
((Tinker) => {
  "use strict";

  const { colour } = Tinker.theme;
  const charts = {};
  const drawers = new Map();
  const resized = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const chart = echarts.getInstanceByDom(target);
      if (chart && target.clientWidth) chart.resize();
    }
  });

  /** Makes a plot in `node`, known as `Tinker.charts[id]`. `draw` sets its options; it is called again when the theme changes. */
  function make(id, node, draw) {
    const chart = echarts.init(node, null, { renderer: "canvas" });
    charts[id] = chart;
    drawers.set(id, draw);
    resized.observe(node);
    draw(chart);
    return chart;
  }

  function dispose(id) {
    if (!charts[id]) return;
    resized.unobserve(charts[id].getDom());
    charts[id].dispose();
    delete charts[id];
    drawers.delete(id);
  }

  Tinker.on("theme", () => {
    for (const [id, draw] of drawers) draw(charts[id]);
  });

  const PAPER = 3; // dots for each pixel

  /** Puts a sharp picture in the place of each plot in view, in the size that its place has now. */
  function toPaper() {
    for (const chart of Object.values(charts)) {
      const node = chart.getDom();
      if (!node.clientWidth) continue;
      chart.resize();
      const picture = chart.renderToCanvas({ pixelRatio: PAPER });
      picture.className = "paper";
      picture.style.position = "static"; // the library lays it over what is there
      node.firstElementChild.hidden = true;
      node.append(picture);
    }
  }

  function toScreen() {
    for (const picture of document.querySelectorAll(".paper")) {
      picture.parentNode.firstElementChild.hidden = false;
      picture.remove();
    }
    for (const chart of Object.values(charts)) if (chart.getDom().clientWidth) chart.resize();
  }

  /** The looks of a value axis. */
  const valueAxis = (extra = {}) => ({
    type: "value",
    axisLine: { show: false },
    axisTick: { show: false },
    splitNumber: 4,
    splitLine: { lineStyle: { color: colour("grid") } },
    axisLabel: { color: colour("muted"), fontSize: 11, formatter: Tinker.format.axis, hideOverlap: true },
    ...extra,
  });

  const text = () => ({ color: colour("ink"), fontFamily: getComputedStyle(document.body).fontFamily });

  Tinker.charts = charts;
  Tinker.chart = { make, dispose, valueAxis, text, toPaper, toScreen };
})(window.Tinker);
