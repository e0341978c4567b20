/* Search in prompts, answers and logs: through the chunks one after the other, in slices, as long as nobody cancels. */
((Tinker) => {
  "use strict";

  const { breathe } = Tinker.dom;
  const SLICE_MS = 12;

  /** All text of an episode, in lower case. */
  function textOf(episode, vocabulary) {
    const parts = episode.error ? [episode.error] : [];
    for (const turn of episode.turns) {
      parts.push(
        Tinker.tokens.decode(turn.observation || [], vocabulary).join(""),
        Tinker.tokens.decode(turn.action || [], vocabulary).join(""),
      );
      for (const [name, value] of Object.entries(turn.logs || {}))
        parts.push(`${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`);
    }
    return parts.join("\n").toLowerCase();
  }

  /**
   * Finds the rows whose text has `query`.
   * @param columns the run's episodes
   * @param rows those to look at
   * @param progress({searched, total, found, missing}) now and then and at the end; missing: rows whose text is not there
   * @returns {promise of Set of rows, or null when cancelled; cancel()}
   */
  function start(runId, columns, rows, query, progress) {
    let alive = true;
    const wanted = query.toLowerCase();
    const byChunk = new Map();
    for (const row of rows) {
      const chunk = columns.chunk[row];
      if (!byChunk.has(chunk)) byChunk.set(chunk, []);
      byChunk.get(chunk).push(row);
    }
    async function go() {
      const found = new Set();
      const count = { searched: 0, total: rows.length, found, missing: 0 };
      let since = performance.now();
      for (const [number, members] of byChunk) {
        const chunk = number === null ? null : await Tinker.data.blob(`${runId}/chunk/${number}`);
        if (!alive) return null;
        const episodes = new Map(
          ((chunk && chunk.episodes) || []).map((episode) => [`${episode.group}/${episode.member}`, episode]),
        );
        for (const row of members) {
          const episode = episodes.get(`${columns.group[row]}/${columns.member[row]}`);
          if (!episode) count.missing += 1;
          const text = episode
            ? textOf(episode, chunk.vocabulary)
            : (columns.titles[columns.title[row]] || "").toLowerCase();
          if (text.includes(wanted)) found.add(row);
          count.searched += 1;
          if (performance.now() - since < SLICE_MS) continue;
          progress(count);
          await breathe();
          if (!alive) return null;
          since = performance.now();
        }
      }
      progress(count);
      return found;
    }
    return { promise: go(), cancel: () => (alive = false) };
  }

  Tinker.search = { start };
})(window.Tinker);
