/* The exact numbers of a token, beside it: for the pointer and for the keys. */
((Tinker) => {
  "use strict";

  const { el, fill } = Tinker.dom;
  const { format } = Tinker;

  let tip = null;
  /** Exact values of a token beside it; null takes them away. */
  function hint(span) {
    for (const old of document.querySelectorAll(".token.focus")) old.classList.remove("focus");
    if (!tip)
      document.body.append(
        (tip = el("div", {
          class: "tip",
          id: "token-tip",
          role: "status",
          hidden: true,
          style: { left: "0", top: "0" },
        })),
      );
    tip.hidden = !span;
    if (!span) return;
    span.classList.add("focus");
    const fact = Tinker.turns.factOf(span);
    const rows = [
      ["advantage", format.signed(fact.advantage)],
      ["sampler's logprob", format.number(fact.logprob)],
      ["learner's logprob", format.number(fact.learner)],
      ["ratio", format.ratio(fact.ratio)],
      ["version", fact.version ?? "–"],
      ["token", `${fact.id}, number ${fact.index + 1}`],
    ];
    fill(
      tip,
      el("strong", {
        class: "mono",
        text: fact.text === "" ? "part of the next character" : JSON.stringify(fact.text.slice(0, 80)),
      }),
      el(
        "dl",
        {},
        rows.map(([name, text]) => [el("dt", { text: name }), el("dd", { text })]),
      ),
      fact.untrained ? el("span", { class: "muted", text: "did not train" }) : null,
    );
    const box = span.getClientRects()[0] || span.getBoundingClientRect();
    const y =
      box.bottom + 6 + tip.offsetHeight > innerHeight ? box.top - tip.offsetHeight - 6 : box.bottom + 6;
    tip.style.transform = `translate(${Math.max(4, Math.min(box.left, innerWidth - tip.offsetWidth - 8))}px, ${Math.max(4, y)}px)`;
  }

  function listen(answer) {
    let at = -1;
    answer.addEventListener("mouseover", (event) => hint(event.target.closest(".token")));
    answer.addEventListener("mouseleave", () => hint(null));
    answer.addEventListener("blur", () => hint(null));
    answer.addEventListener("focus", () => answer.matches(":focus-visible") && go(Math.max(at, 0)));
    const go = (i) => {
      const spans = answer.querySelectorAll(".token");
      if (!spans.length) return;
      at = Math.max(0, Math.min(spans.length - 1, i));
      spans[at].scrollIntoView({ block: "nearest" });
      hint(spans[at]);
    };
    answer.addEventListener("click", (event) => {
      const span = event.target.closest(".token");
      if (span) go(Number(span.dataset.i));
    });
    answer.addEventListener("keydown", (event) => {
      const moves = {
        ArrowRight: at + 1,
        ArrowLeft: at - 1,
        ArrowDown: at + 10,
        ArrowUp: at - 10,
        Home: 0,
        End: Infinity,
      };
      if (!(event.key in moves)) return;
      event.preventDefault();
      go(moves[event.key]);
    });
  }

  document.addEventListener(
    "scroll",
    () => tip && !tip.hidden && !document.activeElement.classList.contains("answer") && hint(null),
    { capture: true, passive: true },
  );

  Tinker.tip = { hint, listen };
})(window.Tinker);
