/* The browser of episodes: filters and search above, a list, and the episode that is open. All choices live in the address. */
((Tinker) => {
  "use strict";

  const { el, fill, debounce } = Tinker.dom;
  const { state, data, format, table, filters } = Tinker;
  let root, list, detail, split, runSelect, search, found;
  let columns = null;
  let running = null; // the search that is going on
  let hits = null; // {query, rows: Set} of a search that is done or going on

  const value = (name) => (row) => table.value(columns, name, row);
  const number = (name, write) => (row) => write(columns[name][row]);
  const COLUMNS = [
    {
      name: "step",
      title: "Step",
      width: "44px",
      right: true,
      text: (row) => (columns.step[row] === null ? "–" : String(columns.step[row])),
    },
    { name: "group", title: "Group", width: "52px", right: true, text: (row) => String(columns.group[row]) },
    {
      name: "member",
      title: "Mem.",
      hint: "Member of the group",
      width: "40px",
      right: true,
      text: (row) => String(columns.member[row] ?? "–"),
    },
    {
      name: "reward",
      title: "Reward",
      width: "62px",
      right: true,
      text: number("reward", format.number),
      tone: (row) => (columns.reward[row] > 0 ? "good" : columns.reward[row] === null ? "" : "bad"),
    },
    {
      name: "advantage",
      title: "Adv.",
      hint: "Advantage",
      width: "70px",
      right: true,
      medium: false,
      narrow: false,
      text: number("advantage", format.signed),
    },
    {
      name: "outcome",
      title: "Outcome",
      width: "82px",
      text: value("outcome"),
      tone: (row) => (["completed", "truncated"].includes(value("outcome")(row)) ? "" : "bad"),
    },
    {
      name: "version",
      title: "Vers.",
      hint: "Version of the first token",
      width: "48px",
      right: true,
      medium: false,
      narrow: false,
      text: (row) => String(columns.version[row] ?? "–"),
    },
    {
      name: "tokens",
      title: "Tokens",
      width: "60px",
      right: true,
      medium: false,
      narrow: false,
      text: number("tokens", format.count),
    },
    {
      name: "max_ratio",
      title: "Ratio",
      hint: "Largest ratio of the learner's and the sampler's probability of a token, or its inverse",
      width: "74px",
      right: true,
      medium: false,
      narrow: false,
      text: number("max_ratio", format.ratio),
    },
    { name: "title", title: "Prompt", width: "minmax(80px, 1fr)", full: true, text: value("title") },
  ];

  function build() {
    search = el("input", {
      type: "search",
      class: "field",
      id: "search",
      placeholder: innerWidth > 600 ? "Search in prompts and answers ( / )" : "Search texts",
      "aria-label": "Search in prompts and answers",
      on: { input: debounce(350, () => state.update({ q: search.value })) },
    });
    search.addEventListener("keydown", (event) => event.key === "Enter" && state.update({ q: search.value }));
    runSelect = el(
      "select",
      {
        class: "field",
        "aria-label": "Run",
        hidden: data.page.runs.length < 2,
        on: { change: (event) => state.update({ run: event.target.value, group: null, member: null }) },
      },
      data.page.runs.map((run) => el("option", { value: run.id, text: run.name })),
    );
    found = el("div", { class: "found", role: "status" });
    list = Tinker.list.make({ label: "Episodes", columns: COLUMNS, onOpen: open, onSort: sortBy });
    detail = Tinker.detail.make({ onMove: move, onClose: close });
    split = el("div", { class: "split" }, list.node, detail.node);
    const { chips, more } = filters.make();
    fill(
      root,
      el(
        "div",
        { class: "filters" },
        runSelect,
        el("div", { class: "search", role: "search" }, search),
        chips,
      ),
      more,
      found,
      split,
    );
    new ResizeObserver(fit).observe(document.body);
    more.addEventListener("toggle", fit);
  }

  /** The list takes the rest of the window. */
  function fit() {
    if (root.hidden) return;
    const top = split.getBoundingClientRect().top + scrollY;
    split.style.setProperty("--split-height", `${Math.max(320, innerHeight - top)}px`);
    list.measure();
  }

  function sortBy(name) {
    const by = state.get("sort");
    const first = ["title", "outcome", "step", "group", "member"].includes(name)
      ? [name, `-${name}`]
      : [`-${name}`, name];
    state.update({ sort: by === first[0] ? first[1] : by === first[1] ? null : first[0] });
  }

  /** Filters and sorts anew. */
  function refresh() {
    if (!columns) return;
    filters.show(columns);
    if (document.activeElement !== search) search.value = state.get("q");
    const rows = table.sort(
      columns,
      table.filter(columns, filters.chosen(hits && hits.rows)),
      state.get("sort"),
    );
    list.setRows(rows);
    list.showSort(state.get("sort"));
    if (!running) tell();
  }

  /** How much of what there is the list has: a dropped group has rows, but no episodes. */
  function counts() {
    const dropped = columns.outcomes.indexOf("dropped");
    const count = (rows) => {
      const groups = rows.filter((row) => columns.outcome[row] === dropped).map((row) => columns.group[row]);
      return { episodes: rows.length - groups.length, groups: new Set(groups).size };
    };
    const all = count(Array.from(columns.outcome.keys()));
    const shown = count(list.rows());
    const text = `${format.count(shown.episodes)} of ${format.plural(all.episodes, "episode")}`;
    return el("span", {
      id: "shown",
      text: all.groups
        ? `${text}, ${format.count(shown.groups)} of ${format.plural(all.groups, "dropped group")}`
        : text,
    });
  }

  function tell(progress = null) {
    const parts = [counts()];
    if (progress) {
      const going = progress.searched < progress.total;
      if (going)
        parts.push(
          el("progress", { max: progress.total, value: progress.searched, "aria-label": "Searched" }),
        );
      parts.push(
        el("span", {
          id: "searched",
          text: `${format.count(progress.found.size)} found, ${format.count(progress.searched)} of ${format.count(progress.total)} searched${progress.missing ? `; of ${format.count(progress.missing)} only the title is here` : ""}`,
        }),
      );
      if (going)
        parts.push(
          el("button", {
            type: "button",
            class: "button",
            id: "cancel",
            text: "Cancel",
            on: { click: () => stopSearch(true) },
          }),
        );
    }
    fill(found, parts);
  }

  function stopSearch(keep = false) {
    if (running) running.cancel();
    running = null;
    if (!keep) hits = null;
    else {
      fill(
        found,
        counts(),
        el("span", {
          id: "searched",
          text: `cancelled: ${format.count(hits.progress.searched)} of ${format.count(hits.progress.total)} searched`,
        }),
      );
    }
  }

  async function startSearch() {
    const query = state.get("q").trim();
    stopSearch();
    if (!query) return refresh();
    const rows = table.filter(columns, filters.chosen(null));
    hits = { query, rows: new Set(), progress: null };
    let drawn = 0;
    const progress = (count) => {
      hits.progress = { ...count };
      hits.rows = count.found;
      if (performance.now() - drawn < 150 && count.searched < count.total) return;
      drawn = performance.now();
      refresh();
      tell(count);
    };
    const mine = (running = Tinker.search.start(data.current().id, columns, rows, query, progress));
    try {
      await mine.promise;
    } catch (error) {
      Tinker.dom.message(`The search stopped: ${error.message}`);
    }
    if (running !== mine) return undefined;
    running = null;
    refresh();
    return hits && hits.progress ? tell(hits.progress) : undefined;
  }

  const opened = () =>
    state.integer("group") === null || !columns
      ? -1
      : table.find(columns, state.integer("group"), state.integer("member"));

  function open(row) {
    state.update(
      { run: data.current().id, group: columns.group[row], member: columns.member[row] },
      { push: true },
    );
  }

  function close() {
    state.update({ group: null, member: null });
    list.node.focus({ preventScroll: true });
  }

  /** To the next or previous episode of the list. */
  function move(direction) {
    const rows = list.rows();
    const here = rows.indexOf(opened());
    const next = rows[here < 0 ? 0 : here + direction];
    if (next !== undefined) state.update({ group: columns.group[next], member: columns.member[next] });
  }

  async function showOpened() {
    const row = opened();
    split.classList.toggle("open", row >= 0);
    list.measure();
    list.select(row);
    if (row < 0) {
      detail.hide();
      if (state.integer("group") !== null)
        Tinker.dom.message(
          `Group ${state.get("group")}${state.get("member") ? `, member ${state.get("member")}` : ""} is not in this run.`,
        );
      return;
    }
    Tinker.dom.message("");
    if (getComputedStyle(detail.node).position === "fixed") requestAnimationFrame(() => detail.node.focus());
    await detail.show(data.current(), columns, row);
  }

  async function load() {
    const run = data.current();
    columns = await data.blob(`${run.id}/episodes`);
    runSelect.value = run.id;
    stopSearch();
    if (!columns || !columns.count) {
      columns = null;
      detail.hide();
      fill(found);
      list.setRows(new Int32Array(0));
      split.hidden = true;
      root.classList.add("without");
      let note = root.querySelector(".empty");
      if (!note) root.append((note = el("p", { class: "empty" })));
      note.textContent = [Tinker.badges.unbegun("episodes", [run]), ...run.notes].join(" ");
      return;
    }
    const note = root.querySelector(":scope > .empty");
    if (note) note.remove();
    split.hidden = false;
    root.classList.remove("without");
    refresh();
    fit();
    if (state.get("q")) startSearch();
    await showOpened();
  }

  async function show(node) {
    if (!root) {
      root = node;
      build();
    }
    await load();
  }

  /** New episodes came: they join the list, which stays where it is. */
  async function changed(kind, runId) {
    if (!root || runId !== data.current().id) return;
    if (kind === "head" && !columns) return void (await load()); // it may have ended without any
    if (!["episodes", "generation"].includes(kind)) return;
    if (!columns || kind === "generation") return void (await load());
    columns = await data.blob(`${runId}/episodes`);
    if (!columns) return;
    refresh();
    list.select(opened());
    if (hits && !running) await startSearch();
  }

  Tinker.on("state", (keys) => {
    if (!root || state.get("tab") !== "episodes") return;
    if (keys.has("run")) load();
    else if (columns) {
      if (keys.has("q")) startSearch();
      else if (filters.KEYS.some((key) => keys.has(key))) refresh();
      if (keys.has("group") || keys.has("member")) showOpened();
    }
  });

  Tinker.episodes = {
    show,
    changed,
    move,
    close,
    isOpen: () => Boolean(root && !detail.node.hidden),
    focusSearch: () => search.focus(),
    columns: () => columns,
    rows: () => list.rows(),
  };
})(window.Tinker);
