/* The frame: tabs, title, keys. The first view is drawn at once; everything else when it is asked for. */
((Tinker) => {
  "use strict";

  const { el, fill, message } = Tinker.dom;
  const { state, data, badges } = Tinker;
  const VIEWS = {
    curves: Tinker.curves,
    timeline: Tinker.timeline,
    episodes: Tinker.episodes,
    run: Tinker.run,
  };
  const NAMES = Object.keys(VIEWS);
  const KEYS = [
    ["1 – 4", "the views"],
    ["/", "search in episodes"],
    ["j  k", "next, previous episode"],
    ["↑  ↓  Enter", "move in the list, open"],
    ["←  →", "in Time earlier, later; move in the curve or answer that has the focus"],
    ["+  −  0", "in Time zoom in, out, show all"],
    ["n  p  Enter", "in Time next, previous wait of the learner; open its group"],
    ["Esc", "close"],
    ["?", "this list"],
  ];
  let current = "";

  const wanted = () =>
    VIEWS[state.get("tab")] ? state.get("tab") : state.integer("group") === null ? "curves" : "episodes";

  async function show() {
    const name = wanted();
    for (const tab of document.querySelectorAll("[role=tab]")) {
      const mine = tab.dataset.tab === name;
      tab.setAttribute("aria-selected", String(mine));
      tab.tabIndex = mine ? 0 : -1;
      document.getElementById(`view-${tab.dataset.tab}`).hidden = !mine;
    }
    if (name === current) return;
    current = name;
    message("");
    try {
      await VIEWS[name].show(document.getElementById(`view-${name}`));
    } catch (error) {
      message(`This view could not be shown: ${error.message}`);
    }
  }

  /** Data changed: the view in front takes it in, the others when they are looked at again. */
  async function changed(kind, id) {
    if (kind === "head") badges.draw();
    await VIEWS[current].changed(kind, id);
  }

  function helpDialog() {
    const close = el("button", {
      type: "button",
      class: "button",
      text: "Close",
      on: { click: () => dialog.close() },
    });
    const dialog = el(
      "dialog",
      { "aria-label": "Keys" },
      el("h3", { text: "Keys" }),
      el(
        "table",
        {},
        el(
          "tbody",
          {},
          KEYS.map(([key, what]) =>
            el(
              "tr",
              {},
              el(
                "td",
                {},
                key.split(/\s{2,}/).map((k) => [el("kbd", { text: k }), " "]),
              ),
              el("td", { text: what }),
            ),
          ),
        ),
      ),
      close,
    );
    document.body.append(dialog);
    return dialog;
  }

  function keys(dialog) {
    document.addEventListener("keydown", (event) => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
      if (event.target.matches("input, select, textarea"))
        return void (event.key === "Escape" && event.target.blur());
      const actions = {
        "?": () => dialog.showModal(),
        "/": () => search(),
        Escape: () => Tinker.episodes.isOpen() && Tinker.episodes.close(),
      };
      NAMES.forEach((name, i) => (actions[i + 1] = () => state.update({ tab: name }, { push: true })));
      if (current === "episodes")
        Object.assign(actions, { j: () => Tinker.episodes.move(1), k: () => Tinker.episodes.move(-1) });
      if (current === "timeline") Object.assign(actions, Tinker.timeline.keys(event.target));
      if (!Object.hasOwn(actions, event.key)) return;
      event.preventDefault();
      actions[event.key]();
    });
  }

  async function search() {
    state.update({ tab: "episodes" }, { push: true });
    await show();
    Tinker.episodes.focusSearch();
  }

  function tabs() {
    const node = document.getElementById("tabs");
    node.addEventListener(
      "click",
      (event) => event.target.dataset.tab && state.update({ tab: event.target.dataset.tab }, { push: true }),
    );
    node.addEventListener("keydown", (event) => {
      const here = NAMES.indexOf(wanted());
      const next = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: NAMES.length - 1 }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      const name = NAMES[(next + NAMES.length) % NAMES.length];
      state.update({ tab: name }, { push: true });
      document.getElementById(`tab-${name}`).focus();
    });
  }

  /** A link may name a run that is not here: its address is corrected. Gives what to say of it. */
  function corrected() {
    const named = state.get("run");
    if (!named || data.run(named)) return "";
    state.update({ run: null, group: null, member: null });
    return `Run ${named} of this link is not in this page; what is shown is ${data.current().name}.`;
  }

  async function moved(keys) {
    const wrong = keys.has("run") ? corrected() : "";
    if (keys.has("tab") || keys.has("group")) await show();
    if (wrong) message(wrong);
  }

  async function start() {
    const names = data.page.runs.map((run) => run.name).join(", ");
    document.title = names;
    fill(document.getElementById("title"), names);
    document.getElementById("title").title = names;
    Tinker.theme.start();
    const dialog = helpDialog();
    document.getElementById("help").addEventListener("click", () => dialog.showModal());
    keys(dialog);
    tabs();
    badges.draw();
    const wrong = corrected();
    Tinker.on("state", moved);
    await show();
    if (wrong) message(wrong);
    performance.mark("tinker-ready");
    document.documentElement.dataset.ready = "1";
    Tinker.follow.start();
  }

  Tinker.main = { start, changed };
  start();
})(window.Tinker);
