// A table that draws only visible rows. A row is a list of cells: [text, style, key], or [start] for a growing time.

/** Pixels of a row, as in the style sheet; rows drawn above and below the visible part. */
const ROW = 22, AROUND = 8;

class Table {
  constructor(columns, { now, choose }) {
    this.columns = columns;
    this.now = now;
    this.choose = choose;
    this.rows = new Map();
    this.sort = { at: 0, down: true };
    this.chosen = "";
    this.keys = [];
    this.drawn = [];
    this.head = make("div", { class: "row head", role: "row" });
    this.space = make("div", { class: "space", role: "rowgroup" });
    this.scroll = make(
      "div",
      { class: "scroll", tabindex: "0", role: "table", onscroll: () => this.draw(), onkeydown: (event) => this.key(event) },
      this.head,
      this.space,
    );
    const widths = columns.map((one) => (one.width ? `minmax(${one.width + 1}ch, max-content)` : "minmax(12ch, 1fr)"));
    // Not max-content: each row is a grid of its own, and all need the same widths.
    this.scroll.style.setProperty("--columns", widths.map((one) => one.replace(/minmax\((\d+)ch, max-content\)/, "$1ch")).join(" "));
    this.headings = columns.map((one, at) =>
      make("button", { class: `cell${one.right ? " right" : ""}`, type: "button", onclick: () => this.sortBy(at) }, one.name),
    );
    this.head.append(...this.headings);
  }

  sortBy(at) {
    this.sort = { at, down: this.sort.at === at ? !this.sort.down : false };
    this.changed();
  }

  /** Sort the changed rows, and draw. */
  changed() {
    const { at, down } = this.sort;
    const value = (key) => {
      const cell = this.rows.get(key)[at];
      if (typeof cell[0] === "number") return -cell[0]; // a later start is a shorter time
      return typeof cell[2] === "number" ? cell[2] : cell[0];
    };
    const sign = down ? -1 : 1;
    this.keys = [...this.rows.keys()]
      .map((key) => [value(key), key])
      .sort(([a], [b]) => sign * (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1))
      .map(([, key]) => key);
    this.headings.forEach((each, number) => {
      each.dataset.sort = number === at ? (down ? "down" : "up") : "";
    });
    this.draw();
  }

  draw() {
    this.space.style.height = `${this.keys.length * ROW}px`;
    const top = Math.max(Math.floor(this.scroll.scrollTop / ROW) - AROUND, 0);
    const count = Math.ceil((this.scroll.clientHeight || 300) / ROW) + 2 * AROUND;
    const seen = this.keys.slice(top, top + count);
    while (this.drawn.length > seen.length) this.drawn.pop().remove();
    while (this.drawn.length < seen.length) this.drawn.push(this.makeRow());
    seen.forEach((key, number) => this.drawRow(this.drawn[number], key, top + number));
  }

  makeRow() {
    const row = make("div", { class: "row", role: "row", onclick: () => this.pick(row.dataset.key) });
    row.append(...this.columns.map((one) => make("span", { class: `cell${one.right ? " right" : ""}`, role: "cell" })));
    this.space.append(row);
    return row;
  }

  drawRow(row, key, at) {
    row.dataset.key = key;
    row.style.top = `${at * ROW}px`;
    row.classList.toggle("chosen", key === this.chosen);
    this.rows.get(key).forEach((cell, number) => {
      const element = row.children[number];
      const runs = typeof cell[0] === "number";
      const text = runs ? showSeconds(this.now() - cell[0]) : cell[0];
      if (element.textContent !== text) {
        element.textContent = text;
        element.title = text.length > 12 ? text : ""; // the cell may cut it
      }
      const style = runs ? "" : (cell[1] ?? "");
      if (element.dataset.style !== style) element.dataset.style = style;
    });
  }

  pick(key) {
    this.chosen = key;
    this.draw();
    this.choose(key);
  }

  key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !this.keys.length) return;
    event.preventDefault();
    const at = Math.min(Math.max(this.keys.indexOf(this.chosen) + step, 0), this.keys.length - 1);
    const top = at * ROW, height = this.scroll.clientHeight - 2 * ROW;
    if (top < this.scroll.scrollTop) this.scroll.scrollTop = top;
    else if (top > this.scroll.scrollTop + height) this.scroll.scrollTop = top - height;
    this.pick(this.keys[at]);
  }
}
