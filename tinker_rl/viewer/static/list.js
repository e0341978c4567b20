/* A list of any length: only the rows in view are in the document. The container has the focus, a cursor moves in it. */
((Tinker) => {
  "use strict";

  const { el, fill, perFrame } = Tinker.dom;
  const OVERSCAN = 8;

  /**
   * @param columns [{name, title, width, right, narrow, medium, text(row) -> string, tone(row) -> class name or ""}]; a column with
   *   `medium` or `narrow` false is left out where the list is that slim
   * @param onOpen(row), onSort(name), onCursor(position)
   */
  function make({ label, columns, onOpen, onSort }) {
    const heads = el("div", { class: "heads", role: "row", "aria-rowindex": "1" });
    const spacer = el("div", { class: "spacer", role: "rowgroup" });
    const node = el(
      "div",
      { class: "list", role: "grid", tabindex: "0", "aria-label": label },
      el("div", { role: "rowgroup", class: "unscrolled" }, heads),
      spacer,
    );
    const none = el("p", { class: "none", text: "No episode passes these filters.", hidden: true });
    node.append(none);
    const pool = [];
    let rows = new Int32Array(0);
    let cursor = -1;
    let selected = -1;
    let used = columns;
    let height = 30;
    let width = "";
    let serial = 0; // grows when what rows say may have changed
    const id = (position) => `row-${position}`;

    const draw = perFrame(() => {
      const top = Math.max(0, Math.floor(node.scrollTop / height) - OVERSCAN);
      const bottom = Math.min(
        rows.length,
        Math.ceil((node.scrollTop + node.clientHeight) / height) + OVERSCAN,
      );
      while (pool.length < bottom - top) pool.push(makeRow());
      // A position has its place in the pool: while scrolling, rows that stay in view are left as they are.
      pool.forEach((line, i) => {
        const position = top + ((((i - top) % pool.length) + pool.length) % pool.length);
        put(line, position < bottom ? position : -1);
      });
    });

    function makeRow() {
      const line = el("div", { class: "row", role: "row" });
      spacer.append(line);
      return line;
    }

    function put(line, position) {
      line.hidden = position < 0;
      if (position < 0) return;
      const row = rows[position];
      const key = `${position} ${row} ${serial} ${row === selected} ${position === cursor}`;
      if (line.dataset.key === key) return;
      line.dataset.key = key;
      if (line.childElementCount !== used.length)
        fill(
          line,
          used.map((column) =>
            el("span", { role: "gridcell", class: [column.name, column.right ? "right" : ""].join(" ") }),
          ),
        );
      used.forEach((column, i) => {
        const cell = line.children[i];
        const text = column.text(row);
        if (cell.textContent !== text) cell.textContent = text;
        if (column.tone) {
          const tone = column.tone(row);
          cell.classList.toggle("good", tone === "good");
          cell.classList.toggle("bad", tone === "bad");
        }
      });
      line.id = id(position);
      line.dataset.position = position;
      line.setAttribute("aria-rowindex", position + 2);
      line.setAttribute("aria-selected", row === selected);
      line.classList.toggle("cursor", position === cursor);
      line.style.transform = `translateY(${position * height}px)`;
    }

    function measure() {
      const next = node.clientWidth < 430 ? "narrow" : node.clientWidth < 760 ? "medium" : "wide";
      if (next !== width) {
        width = next;
        const place = node.scrollTop / height;
        height = width === "narrow" ? 54 : 30;
        used = columns.filter((column) => width === "wide" || column[width] !== false);
        node.classList.toggle("narrow", width === "narrow");
        const tracks = used
          .filter((column) => width !== "narrow" || !column.full)
          .map((column) => column.width);
        node.style.setProperty("--columns", tracks.join(" "));
        serial += 1;
        for (const line of pool) line.replaceChildren();
        drawHeads();
        spacer.style.height = `${rows.length * height}px`;
        node.scrollTop = place * height;
      }
      draw();
    }

    function drawHeads(sorted = heads.dataset.sort || "") {
      heads.dataset.sort = sorted;
      const direction = (column) =>
        sorted === column.name ? "ascending" : sorted === `-${column.name}` ? "descending" : "none";
      const shown = used.filter((column) => width !== "narrow" || !column.full);
      fill(
        heads,
        shown.map((column) =>
          el(
            "div",
            {
              role: "columnheader",
              class: column.right ? "right" : "",
              "aria-sort": direction(column),
              data: { column: column.name },
            },
            el("button", {
              type: "button",
              text: column.title,
              title: column.hint || `Sort by ${column.title}`,
              on: { click: () => onSort(column.name) },
            }),
          ),
        ),
      );
    }

    function move(position, middle = false) {
      if (!rows.length) return;
      cursor = Math.max(0, Math.min(rows.length - 1, position));
      reveal(cursor, middle);
      node.setAttribute("aria-activedescendant", id(cursor));
      draw();
    }

    /** Scrolls as little as it takes; with `middle`, what was out of sight comes into the middle. */
    function reveal(position, middle) {
      const y = position * height;
      const room = node.clientHeight - heads.offsetHeight;
      const out = y < node.scrollTop || y + height > node.scrollTop + room;
      if (out && middle) node.scrollTop = y - (room - height) / 2;
      else if (y < node.scrollTop) node.scrollTop = y;
      else if (y + height > node.scrollTop + room) node.scrollTop = y + height - room;
    }

    node.addEventListener("scroll", draw, { passive: true });
    node.addEventListener("click", (event) => {
      const line = event.target.closest(".row");
      if (!line) return;
      cursor = Number(line.dataset.position);
      onOpen(rows[cursor]);
    });
    node.addEventListener("keydown", (event) => {
      if (event.target !== node || event.ctrlKey || event.metaKey || event.altKey) return;
      const page = Math.max(1, Math.floor(node.clientHeight / height) - 2);
      const moves = {
        ArrowDown: cursor + 1,
        ArrowUp: cursor - 1,
        PageDown: cursor + page,
        PageUp: cursor - page,
        Home: 0,
        End: rows.length - 1,
      };
      if (event.key in moves) move(moves[event.key]);
      else if (event.key === "Enter" && cursor >= 0) onOpen(rows[cursor]);
      else return;
      event.preventDefault();
    });
    new ResizeObserver(measure).observe(node);

    /** Shows these rows. The scroll stays where it is, the cursor on its row if that is still there. */
    function setRows(next) {
      const kept = cursor >= 0 ? rows[cursor] : -1;
      rows = next;
      serial += 1;
      none.hidden = rows.length > 0;
      cursor = kept < 0 ? -1 : rows.indexOf(kept);
      spacer.style.height = `${rows.length * height}px`;
      node.setAttribute("aria-rowcount", rows.length + 1);
      draw();
    }

    /** Marks a row as the open one and brings it into view; -1 for none. */
    function select(row) {
      selected = row;
      const position = row < 0 ? -1 : rows.indexOf(row);
      if (position >= 0) move(position, true);
      draw();
    }

    return {
      node,
      setRows,
      select,
      measure,
      showSort: drawHeads,
      rows: () => rows,
      toTop: () => (node.scrollTop = 0),
    };
  }

  Tinker.list = { make };
})(window.Tinker);
