/* The turns of an episode: prompts as text, answers as tokens whose colours say what the reader chose. */
((Tinker) => {
  "use strict";

  const { el, fill, breathe } = Tinker.dom;
  const { state, format, tokens } = Tinker;
  const MODES = ["advantage", "logprob", "ratio", "version", "none"];
  const PROMPT_CHARACTERS = 20000;
  const ANSWER_TOKENS = 20000;
  const TURNS = 60;
  let facts = []; // of every token of the episode, turn by turn
  let greatest = 0; // advantage of the run

  const mode = () => (MODES.includes(state.get("colour")) ? state.get("colour") : "advantage");

  const pairs = (values) =>
    el(
      "dl",
      { class: "pairs" },
      Object.entries(values).map(([name, value]) => [
        el("dt", { text: name }),
        el("dd", { text: format.value(value) }),
      ]),
    );

  /** The choice of what colours say, and the legend. */
  function colours() {
    const known = facts.flat();
    const has = {
      advantage: known.some((t) => t.advantage !== null),
      logprob: known.some((t) => t.logprob !== null),
      ratio: known.some((t) => t.ratio !== null),
      version: known.some((t) => t.version !== null),
      none: true,
    };
    const radios = MODES.map((name) =>
      el("button", {
        type: "button",
        role: "radio",
        class: "chip",
        text: name === "none" ? "no colour" : name,
        disabled: !has[name],
        title: has[name] ? "" : "The run did not record it",
        "aria-checked": String(name === mode()),
        tabindex: name === mode() ? "0" : "-1",
        data: { mode: name },
        on: { click: () => state.update({ colour: name }) },
      }),
    );
    const group = el("div", { role: "radiogroup", "aria-label": "Colour of the tokens" }, radios);
    group.addEventListener("keydown", (event) => {
      const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!move) return;
      event.preventDefault();
      const usable = radios.filter((radio) => !radio.disabled);
      const next =
        usable[
          (usable.findIndex((radio) => radio.dataset.mode === mode()) + move + usable.length) % usable.length
        ];
      state.update({ colour: next.dataset.mode });
      next.focus();
    });
    return el("div", { class: "colours" }, group, el("div", { class: "legend", id: "legend" }));
  }

  /** Colours every token that is on the page, and writes the legend. */
  function paint() {
    const { colour, legend, note } = Tinker.colours.scale(mode(), facts.flat(), greatest);
    for (const span of document.querySelectorAll(".detail .token"))
      span.style.setProperty("--c", colour(factOf(span)) || "transparent");
    const node = document.getElementById("legend");
    const isKnown = mode() === "none" || facts.flat().some((t) => t[mode()] !== null);
    if (node && !isKnown) fill(node, el("span", { text: `The ${mode()} is not known of these tokens` }));
    else if (node)
      fill(
        node,
        legend.map((entry) =>
          el("span", { class: "scale" }, el("i", { style: { "--c": entry.colour } }), entry.text),
        ),
        note ? el("span", { text: note }) : null,
      );
    for (const radio of document.querySelectorAll(".colours [role=radio]")) {
      radio.setAttribute("aria-checked", String(radio.dataset.mode === mode()));
      radio.tabIndex = radio.dataset.mode === mode() ? 0 : -1;
    }
  }

  const factOf = (span) => facts[Number(span.parentElement.dataset.turn)][Number(span.dataset.i)];

  async function writeTurns(node, episode, vocabulary, first, alive) {
    const last = Math.min(episode.turns.length, first + TURNS);
    for (let i = first; i < last && alive(); i++) await writeTurn(node, episode, vocabulary, i, alive);
    if (!alive()) return;
    paint();
    if (last === episode.turns.length) return;
    const more = el("button", {
      type: "button",
      class: "button",
      text: `Show more turns (${episode.turns.length - last} left)`,
      on: {
        click: () => {
          more.remove();
          writeTurns(node, episode, vocabulary, last, alive);
        },
      },
    });
    node.append(more);
  }

  async function writeTurn(node, episode, vocabulary, i, alive) {
    const turn = episode.turns[i];
    const several = episode.turns.length > 1;
    const prompt = el("div", { class: "text prompt", tabindex: "0", "aria-label": "Prompt" });
    const answer = el("div", {
      class: "text answer",
      tabindex: "0",
      role: "group",
      "aria-label": `Answer${several ? ` of turn ${i + 1}` : ""}, ${format.plural(turn.action.length, "token")}. Arrows go from token to token`,
      data: { turn: i },
    });
    const what =
      i === 0
        ? "Prompt"
        : turn.extends
          ? "Observation"
          : "Observation (the history was rewritten: all of it)";
    node.append(
      el(
        "section",
        { class: "turn" },
        heading(several ? `Turn ${i + 1} · ${what}` : what, [
          format.plural(turn.observation.length, "token"),
        ]),
        prompt,
        heading("Answer", answerFacts(turn)),
        turn.stop_reason === null ? null : answer,
        foot(turn, several),
      ),
    );
    const texts = tokens.decode(turn.observation, vocabulary);
    const written = await tokens.writePlain(prompt, texts, { limit: PROMPT_CHARACTERS, alive });
    if (written < texts.length && alive())
      prompt.after(
        moreButton(`Show the other ${format.plural(texts.length - written, "token")} of the prompt`, () =>
          tokens.writePlain(prompt, texts.slice(written), { alive }),
        ),
      );
    const painted = Tinker.colours.scale(mode(), facts.flat(), greatest);
    const each = (span, k) => {
      span.dataset.i = k;
      span.style.setProperty("--c", painted.colour(facts[i][k]) || "transparent");
      if (facts[i][k].untrained) span.classList.add("untrained");
    };
    const answers = facts[i].map((fact) => fact.text);
    const end = Math.min(answers.length, ANSWER_TOKENS);
    await tokens.writeSpans(answer, answers, { each, last: end, alive });
    if (end < answers.length && alive())
      answer.after(
        moreButton(`Show the other ${format.plural(answers.length - end, "token")}`, async () => {
          await tokens.writeSpans(answer, answers, { each, first: end, alive });
          paint();
        }),
      );
    Tinker.tip.listen(answer);
    await (i % 8 === 7 ? breathe() : null);
  }

  function moreButton(text, action) {
    const button = el("button", {
      type: "button",
      class: "quiet",
      text,
      on: {
        click: () => {
          button.remove();
          action();
        },
      },
    });
    return button;
  }

  const heading = (title, notes) =>
    el(
      "h3",
      {},
      el("b", { text: title }),
      notes.map((note) => el("span", { text: note })),
    );

  function answerFacts(turn) {
    if (turn.stop_reason === null) return ["none: the policy had not acted"];
    const versions = (turn.versions || []).filter(([version]) => version !== null);
    return [
      format.plural(turn.action.length, "token"),
      versions.length === 1
        ? `version ${versions[0][0]}`
        : versions.length
          ? `versions ${versions.map(([version, count]) => `${version} (${count})`).join(", ")}`
          : "",
      turn.stop_reason === "length" ? "cut at the limit" : "stopped",
      turn.reward === null ? "the environment failed on it" : "",
    ].filter(Boolean);
  }

  function foot(turn, several) {
    const block = (title, values) =>
      values &&
      Object.keys(values).length > 0 &&
      el(
        "details",
        { open: title === "Metrics" ? false : null },
        el("summary", { text: title }),
        pairs(values),
      );
    const parts = [
      several && turn.reward !== null
        ? el("span", {}, "reward of the turn ", el("b", { text: format.number(turn.reward) }))
        : null,
      block("Metrics of the turn", several ? turn.metrics : null),
      block("Logs", turn.logs),
    ].filter(Boolean);
    return parts.length ? el("div", { class: "foot" }, parts) : null;
  }

  /** Writes the turns of an episode into `node` for as long as `alive()`. `greatestAdvantage` is the run's. */
  async function show(node, episode, vocabulary, greatestAdvantage, alive) {
    greatest = greatestAdvantage;
    facts = episode.turns.map((turn) => tokens.facts(turn, episode, vocabulary));
    const turnsNode = el("div", { class: "body flat" });
    fill(node, episode.turns.length ? colours() : null, turnsNode);
    await writeTurns(turnsNode, episode, vocabulary, 0, alive);
  }

  Tinker.on("state", (keys) => keys.has("colour") && paint());

  Tinker.turns = { show, factOf, pairs, mode };
})(window.Tinker);
