/* Following a run that goes on: asks the server what changed, drops what is old, and tells the views. */
((Tinker) => {
  "use strict";

  const { data } = Tinker;
  const PERIOD_MS = 2000;
  const HIDDEN_MS = 15000;
  let lost = false;
  let wake = () => {};

  async function ask() {
    const response = await fetch("head", { cache: "no-store" });
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    return response.json();
  }

  /** Takes over the new heads. Returns [[kind, run id], ...] of what changed. */
  function take(heads) {
    const changes = [];
    for (const head of heads) {
      const run = data.run(head.id);
      if (!run) continue;
      if (run.generation !== head.generation) {
        data.forget(`${head.id}/`);
        changes.push(["generation", head.id]);
      } else {
        for (const kind of Object.keys(head.revision)) {
          if (run.revision[kind] === head.revision[kind]) continue;
          data.forget(`${head.id}/${kind}`);
          changes.push([kind, head.id]);
        }
        for (const [number, revision] of Object.entries(head.chunks || {})) {
          if ((run.chunks || {})[number] !== revision) data.forget(`${head.id}/chunk/${number}`);
        }
      }
      if (JSON.stringify(run) !== JSON.stringify({ ...head, name: run.name })) changes.push(["head", head.id]);
      Object.assign(run, head, { name: run.name });
    }
    return changes;
  }

  /** Says where a run is waited for; one that has begun needs the page anew, which keeps its address. */
  function join({ runs, waiting }) {
    if (runs.some((head) => !data.run(head.id))) location.reload();
    data.page.waiting = waiting;
  }

  async function once() {
    try {
      const news = await ask();
      join(news);
      const changes = take(news.runs);
      if (lost) Tinker.dom.message("");
      lost = false;
      for (const [kind, id] of changes) await Tinker.main.changed(kind, id);
    } catch (error) {
      if (!lost)
        Tinker.dom.message(
          `The server does not answer (${error.message}). What is here stays; the page goes on when it is back.`,
        );
      lost = true;
    }
    Tinker.badges.draw(lost ? "lost" : "live");
  }

  /** Follows for as long as the page is open; slowly while nobody sees it. */
  async function start() {
    if (data.page.mode !== "serve") return;
    Tinker.badges.draw("live");
    document.addEventListener("visibilitychange", () => wake());
    for (;;) {
      await new Promise((resolve) => {
        wake = resolve;
        setTimeout(resolve, document.hidden ? HIDDEN_MS : PERIOD_MS);
      });
      await once();
    }
  }

  Tinker.follow = { start, once };
})(window.Tinker);
