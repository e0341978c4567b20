/* Light and dark: the colours are the style sheet's; charts ask for them here. */
((Tinker) => {
  "use strict";

  const order = ["auto", "light", "dark"];
  const words = { auto: "Auto", light: "Light", dark: "Dark" };
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  let chosen = "auto";
  let forced = null;
  let cache = new Map();

  function apply() {
    const wanted = forced || chosen;
    const dark = wanted === "dark" || (wanted === "auto" && system.matches);
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    cache = new Map();
    const button = document.getElementById("theme");
    button.textContent = words[chosen];
    button.setAttribute("aria-label", `Colours: ${words[chosen]}. Press for the next`);
  }

  /** Reads the reader's last choice and follows the system. */
  function start() {
    try {
      const kept = localStorage.getItem("tinker-theme");
      if (order.includes(kept)) chosen = kept;
    } catch {
      /* a page that may keep nothing follows the system */
    }
    apply();
    system.addEventListener("change", () => {
      apply();
      Tinker.emit("theme");
    });
    document.getElementById("theme").addEventListener("click", () => {
      chosen = order[(order.indexOf(chosen) + 1) % order.length];
      try {
        localStorage.setItem("tinker-theme", chosen);
      } catch {
        /* kept until the page closes */
      }
      apply();
      Tinker.emit("theme");
    });
  }

  /** Light or dark whatever the reader chose; null: as the reader chose. */
  function force(name) {
    const before = document.documentElement.dataset.theme;
    forced = name;
    apply();
    if (document.documentElement.dataset.theme !== before) Tinker.emit("theme");
  }

  /** The value of a custom property of the style sheet, for instance "ink" or "series-0". */
  function colour(name) {
    if (!cache.has(name))
      cache.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
    return cache.get(name);
  }

  const luminance = (hex) =>
    [1, 3, 5]
      .map((i) => (parseInt(hex.slice(i, i + 2), 16) / 255) ** 2.2)
      .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);

  /** Black or white, whichever is easier to read on a colour of the style sheet. */
  const on = (name) => (luminance(colour(name)) > 0.18 ? "#101316" : "#ffffff");

  /** The n-th colour of the palette, which colour-blind readers can tell apart (Okabe and Ito). */
  const series = (n) => colour(`series-${n % 8}`);

  /** The same for the document, where it follows the theme. */
  const swatch = (n) => `var(--series-${n % 8})`;

  Tinker.theme = { start, force, colour, on, series, swatch };
})(window.Tinker);
