/* One episode: prompt and answer turn by turn, its rewards, and tokens in colours with their exact numbers. */
((Tinker) => {
  "use strict";

  const { el, fill, copy } = Tinker.dom;
  const { state, data, format, table } = Tinker;
  const { pairs } = Tinker.turns;
  const { hint } = Tinker.tip;
  let shown = 0; // grows with each episode: what was begun for an older one stops

  /** The panel. `onMove(±1)` goes to the next episode of the list, `onClose()` closes it. */
  function make({ onMove, onClose }) {
    const title = el("h2", { class: "grow", id: "detail-title" });
    const body = el("div", { class: "body" });
    const button = (text, label, action) =>
      el("button", {
        type: "button",
        class: "button",
        text,
        title: label,
        "aria-label": label,
        on: { click: action },
      });
    const link = el("button", { type: "button", class: "button", text: "Copy link", id: "copy-link" });
    link.addEventListener("click", async () => {
      link.textContent = (await copy(link.dataset.link)) ? "Copied" : "Could not copy";
      setTimeout(() => (link.textContent = "Copy link"), 1500);
    });
    const node = el(
      "aside",
      { class: "detail", tabindex: "-1", "aria-labelledby": "detail-title", hidden: true },
      el(
        "header",
        {},
        title,
        button("↑", "Previous episode (k)", () => onMove(-1)),
        button("↓", "Next episode (j)", () => onMove(1)),
        link,
        button("×", "Close (Esc)", onClose),
      ),
      body,
    );
    return {
      node,
      show: (run, columns, row) => show({ node, title, body, link }, run, columns, row),
      hide: () => hide(node),
    };
  }

  function hide(node) {
    shown += 1;
    node.hidden = true;
    hint(null);
  }

  async function show({ node, title, body, link }, run, columns, row) {
    const mine = ++shown;
    const alive = () => mine === shown;
    const [group, member] = [columns.group[row], columns.member[row]];
    const step = columns.step[row];
    hint(null);
    node.hidden = false;
    title.textContent = `${step === null ? "Not trained" : `Step ${step}`} · group ${group}${member === null ? "" : ` · member ${member}`}`;
    link.dataset.link = state.link({
      tab: "episodes",
      run: run.id,
      group,
      ...(member === null ? {} : { member }),
      colour: Tinker.turns.mode(),
    });
    const greatest = columns.advantage.reduce(
      (most, value) => (value === null ? most : Math.max(most, Math.abs(value))),
      0,
    );
    const number = columns.chunk[row];
    let chunk;
    try {
      chunk = number === null || number === undefined ? null : await data.blob(`${run.id}/chunk/${number}`);
    } catch (error) {
      if (alive())
        fill(body, el("p", { class: "empty", text: `This episode could not be read: ${error.message}` }));
      return;
    }
    if (!alive()) return;
    const episode = chunk && chunk.episodes.find((e) => e.group === group && e.member === member);
    node.scrollTop = 0;
    if (!episode) {
      fill(
        body,
        members(columns, row),
        summary(columns, row),
        el("p", {
          class: "empty",
          text:
            data.page.mode === "file"
              ? "The text of this episode was left out to keep the file small. `python -m tinker_rl view RUN --serve` shows all of them."
              : "The text of this episode is not in the journal any more.",
        }),
      );
      return;
    }
    const turns = el("div", { class: "body flat" });
    fill(body, members(columns, row), summary(columns, row), failure(episode), rewards(episode), turns);
    await Tinker.turns.show(turns, episode, chunk.vocabulary, greatest, alive);
  }

  /** The members of the group, to switch between. */
  function members(columns, row) {
    const rows = table.members(columns, columns.group[row]);
    if (rows.length < 2) return null;
    return el(
      "nav",
      { class: "members", "aria-label": "Members of the group" },
      rows.map((other) => {
        const reward = columns.reward[other];
        const name = columns.member[other] === null ? "group" : columns.member[other];
        return el("button", {
          type: "button",
          class: reward > 0 ? "good" : "bad",
          "aria-current": String(other === row),
          title: `Member ${name}: reward ${format.number(reward)}`,
          text: `${name}: ${format.number(reward)}`,
          on: { click: () => state.update({ group: columns.group[other], member: columns.member[other] }) },
        });
      }),
    );
  }

  function summary(columns, row) {
    const value = (name) => table.value(columns, name, row);
    const outcome =
      value("outcome") +
      (value("reason") && value("reason") !== value("outcome") ? `: ${value("reason")}` : "");
    const pairs = [
      ["reward", format.number(value("reward"))],
      ["advantage", format.signed(value("advantage"))],
      ["outcome", outcome],
      ["turns", format.count(value("turns"))],
      ["tokens", format.count(value("tokens"))],
      ["largest ratio", format.ratio(value("max_ratio"))],
      ["first version", value("version") === null ? "–" : value("version")],
      ["tag", value("tag") || "–"],
    ];
    return el(
      "dl",
      { class: "figures" },
      pairs.map(([name, text]) => el("div", {}, el("dt", { text: name }), el("dd", { text }))),
    );
  }

  function failure(episode) {
    const earlier = (episode.failures || []).filter((line) => line !== episode.error);
    if (!episode.error && !earlier.length) return null;
    return el(
      "div",
      {},
      episode.error ? el("p", { class: "error", text: episode.error }) : null,
      earlier.length
        ? el(
            "details",
            {},
            el("summary", {
              text: `${earlier.length} earlier failed ${earlier.length === 1 ? "attempt" : "attempts"}`,
            }),
            earlier.map((line) => el("p", { class: "error", text: line })),
          )
        : null,
    );
  }

  function rewards(episode) {
    const [parts, metrics] = [episode.reward_parts || {}, episode.metrics || {}];
    const block = (title, values) =>
      Object.keys(values).length > 0 && el("div", {}, el("h3", { text: title }), pairs(values));
    return el(
      "div",
      { class: "columns small", style: { margin: "0" } },
      block("Reward", parts),
      block("Metrics", metrics),
    );
  }

  Tinker.detail = { make };
})(window.Tinker);
