// Runs before the page's own scripts: what the browser does later, it does `LATE` ms later still.
(() => {
  const { setTimeout } = window;
  const late = (run) => setTimeout(run, LATE);
  const wait = () => new Promise((resolve) => late(resolve));
  const listen = window.addEventListener;
  window.addEventListener = (name, run, ...options) =>
    listen.call(window, name, ["hashchange", "popstate"].includes(name) ? () => late(run) : run, ...options);
  window.requestAnimationFrame = (run) => late(() => run(performance.now()));
  window.requestIdleCallback = (run) => late(() => run({ timeRemaining: () => 5, didTimeout: false }));
  window.setTimeout = (run, milliseconds = 0, ...args) =>
    setTimeout(run, milliseconds + LATE, ...args);
  for (const name of ["ResizeObserver", "IntersectionObserver"]) {
    const Observer = window[name];
    window[name] = class extends Observer {
      constructor(run, options) {
        super((...args) => late(() => run(...args)), options);
      }
    };
  }
  for (const name of ["text", "json", "arrayBuffer", "blob"]) {
    const read = Response.prototype[name];
    Response.prototype[name] = async function () {
      await wait();
      return read.call(this);
    };
  }
})();
