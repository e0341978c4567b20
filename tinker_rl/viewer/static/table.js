/* The episodes of a run as columns: which rows a filter keeps, and their order. Knows nothing of the page. */
((Tinker) => {
  "use strict";

  const ENDED = new Set(["completed", "truncated"]);
  const INDEXED = { outcome: "outcomes", reason: "reasons", tag: "tags", title: "titles" };

  /** The value of a row in a column, its text where the column holds an index. */
  function value(columns, name, row) {
    const raw = columns[name] ? columns[name][row] : null;
    return name in INDEXED ? (columns[INDEXED[name]][raw] ?? "") : (raw ?? null);
  }

  /**
   * The rows that pass every filter.
   * @param filters {reward0, truncated, failed: booleans; outcome, tag: texts or ""; version, from, to, ratio: numbers or null; text: Set of rows or null}
   * @returns Int32Array of row numbers in their first order
   */
  function filter(columns, filters) {
    const index = (list, text) => (text ? columns[list].indexOf(text) : null);
    const [outcome, tag] = [index("outcomes", filters.outcome), index("tags", filters.tag)];
    const truncated = columns.outcomes.indexOf("truncated");
    const failed = new Set(columns.outcomes.map((name, i) => (ENDED.has(name) ? -1 : i)));
    const kept = new Int32Array(columns.count);
    let n = 0;
    for (let row = 0; row < columns.count; row++) {
      if (filters.reward0 && (columns.reward[row] === null || columns.reward[row] > 0)) continue;
      if (filters.truncated && columns.outcome[row] !== truncated) continue;
      if (filters.failed && !failed.has(columns.outcome[row])) continue;
      if (outcome !== null && columns.outcome[row] !== outcome) continue;
      if (tag !== null && columns.tag[row] !== tag) continue;
      if (filters.version !== null && columns.version[row] !== filters.version) continue;
      if (filters.from !== null && !(columns.step[row] !== null && columns.step[row] >= filters.from))
        continue;
      if (filters.to !== null && !(columns.step[row] !== null && columns.step[row] <= filters.to)) continue;
      if (filters.ratio !== null && !(columns.max_ratio[row] >= filters.ratio)) continue;
      if (filters.text && !filters.text.has(row)) continue;
      kept[n++] = row;
    }
    return kept.slice(0, n);
  }

  /** The rows in the order of a column; a leading "-" in `by` turns it round. Rows without a value come last; equal ones keep their order. */
  function sort(columns, rows, by) {
    const name = by.replace(/^-/, "");
    if (!by || !(name in columns)) return rows;
    const sign = by.startsWith("-") ? -1 : 1;
    const column = columns[name];
    const texts = INDEXED[name] && columns[INDEXED[name]];
    const rank =
      texts &&
      new Map(
        [...texts.keys()].sort((a, b) => (texts[a] < texts[b] ? -1 : 1)).map((i, position) => [i, position]),
      );
    const key = (row) => (rank ? (rank.get(column[row]) ?? null) : column[row]);
    return rows.slice().sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === null || y === null) return (x === null) - (y === null) || a - b;
      return (x - y) * sign || a - b;
    });
  }

  /** The row of an episode. Without a member: the first of its group. -1 when there is none. */
  function find(columns, group, member) {
    for (let row = 0; row < columns.count; row++) {
      if (columns.group[row] === group && (member === null || columns.member[row] === member)) return row;
    }
    return -1;
  }

  /** All rows of a group. */
  function members(columns, group) {
    const rows = [];
    for (let row = 0; row < columns.count; row++) if (columns.group[row] === group) rows.push(row);
    return rows;
  }

  Tinker.table = { value, filter, sort, find, members };
})(window.Tinker);
