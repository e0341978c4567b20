/* Tokens as text: bytes that make a character together, what cannot be seen made visible, and spans that carry numbers. */
((Tinker) => {
  "use strict";

  const { el, breathe } = Tinker.dom;
  const SLICE = 1200;
  const SPECIAL = /^(<\|[^|<>]{1,60}\|>|<\/?s>|<(pad|unk|bos|eos|mask)>|<(start|end)_of_turn>|\[\/?INST\])$/i;
  // Control characters, what has no width, and marks that turn the direction of the text round.
  const UNSEEN =
    /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u115f\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e01ef}]/gu;

  /**
   * The text of each token. Bytes of a character that several tokens share go to the last of them; the others get "".
   * @param vocabulary {id: text | [byte, ...]}
   */
  function decode(ids, vocabulary) {
    const texts = [];
    let decoder = null;
    const flush = () => {
      if (decoder && texts.length) texts[texts.length - 1] += decoder.decode();
      decoder = null;
    };
    for (const id of ids) {
      const entry = vocabulary[id];
      if (Array.isArray(entry)) {
        decoder = decoder || new TextDecoder("utf-8", { ignoreBOM: true });
        texts.push(decoder.decode(new Uint8Array(entry), { stream: true }));
      } else {
        flush();
        texts.push(entry === undefined ? `⟨${id}⟩` : entry);
      }
    }
    flush();
    return texts;
  }

  /** Appends text to `node`; line ends, control characters and special tokens become visible marks. Copying gives the text itself. */
  function write(node, text) {
    if (SPECIAL.test(text)) return node.append(el("span", { class: "mark special", text }));
    let end = 0;
    for (const { 0: character, index } of text.matchAll(UNSEEN)) {
      if (index > end) node.append(text.slice(end, index));
      end = index + character.length;
      node.append(...mark(character));
    }
    if (end < text.length) node.append(text.slice(end));
    return undefined;
  }

  function mark(character) {
    if (character === "\n")
      return [el("span", { class: "mark", data: { shown: "↵" }, "aria-hidden": "true" }), "\n"];
    if (character === "\t")
      return [el("span", { class: "mark", data: { shown: "⇥" }, "aria-hidden": "true" }), "\t"];
    const code = `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
    return [el("span", { class: "mark control", data: { shown: code }, title: code })];
  }

  /** Writes texts (of a prompt) without a span each, in slices. `more` says when to stop: characters. Resolves to how many tokens were written. */
  async function writePlain(node, texts, { limit = Infinity, alive = () => true } = {}) {
    let length = 0;
    let i = 0;
    let open = "";
    const close = () => {
      if (open) write(node, open);
      open = "";
    };
    for (; i < texts.length && length < limit; i++) {
      const text = texts[i].length > limit ? texts[i].slice(0, limit) : texts[i];
      length += text.length;
      if (SPECIAL.test(text)) {
        close();
        write(node, text);
      } else open += text;
      if (open.length > 20000) {
        close();
        await breathe();
        if (!alive()) return i;
      }
    }
    close();
    return i;
  }

  /** Writes one span a token, in slices, so that ten thousand do not stop the page. `each(span, index)` finishes a span. */
  async function writeSpans(node, texts, { each, first = 0, last = texts.length, alive = () => true }) {
    for (let i = first; i < last;) {
      const slice = document.createDocumentFragment();
      for (const end = Math.min(last, i + SLICE); i < end; i++) {
        const span = el("span", { class: "token" });
        if (texts[i] === "") span.classList.add("part");
        else write(span, texts[i].length > 100000 ? `${texts[i].slice(0, 100000)}…` : texts[i]);
        each(span, i);
        slice.append(span);
      }
      node.append(slice);
      if (i < last) await breathe();
      if (!alive()) return;
    }
  }

  /** What is known of each action token of a turn: [{id, text, index, logprob, learner, ratio, advantage, version}], null for what is not. */
  function facts(turn, episode, vocabulary) {
    const texts = decode(turn.action, vocabulary);
    const versions = [];
    for (const [version, count] of turn.versions || [])
      for (let i = 0; i < count; i++) versions.push(version);
    return turn.action.map((id, index) => {
      const logprob = turn.logprobs ? (turn.logprobs[index] ?? null) : null;
      const learner = turn.learner_logprobs ? (turn.learner_logprobs[index] ?? null) : null;
      return {
        id,
        index,
        text: texts[index],
        logprob,
        learner,
        ratio: logprob !== null && learner !== null ? Math.exp(learner - logprob) : null,
        advantage: turn.advantages ? (turn.advantages[index] ?? null) : (episode.advantage ?? null),
        version: versions[index] ?? null,
        untrained: Boolean(turn.learner_logprobs) && learner === null,
      };
    });
  }

  Tinker.tokens = { decode, write, writePlain, writeSpans, facts };
})(window.Tinker);
