// The live table: tabs of tables, a filter, a pause; a chosen row opens below.

class Live {
  constructor(asker, element) {
    this.asker = asker;
    this.element = element;
    this.tables = null;
    this.about = {};
    this.more = {};
    this.shown = "requests";
    this.paused = false;
    this.missed = 0; // changes while it was paused
    this.skew = 0; // seconds that the kernel's clock is ahead of the page's
    this.opened = { key: "", html: "" };
    this.build();
    this.clock = setInterval(() => this.tick(), 250);
  }

  build() {
    this.title = make("span", { class: "title" });
    this.link = make("a", { target: "_blank", rel: "noreferrer" });
    this.counts = make("span", { class: "dim" });
    this.tabs = make("div", { class: "tabs", role: "tablist" });
    this.filter = make("input", {
      type: "search", class: "filter", spellcheck: "false", placeholder: "filter: ~u /items & ~c 5xx",
      "aria-label": "filter", onkeydown: (event) => event.key === "Enter" && this.setFilter(),
      onchange: () => this.setFilter(), onsearch: () => this.setFilter(),
    });
    this.pause = make("button", { type: "button", "data-do": "pause", onclick: () => this.setPause(!this.paused) }, "pause");
    this.wrong = make("pre", { class: "wrong", hidden: true, role: "alert" });
    this.place = make("div", { class: "place" });
    this.note = make("div", { class: "note dim" });
    this.detail = make("section", { class: "detail", hidden: true });
    this.element.append(
      make("header", {}, this.title, this.link, this.counts, this.asker.badge()),
      make("div", { class: "bar" }, this.tabs, this.filter, this.pause),
      this.wrong, this.place, this.note, this.detail,
    );
  }

  /** Take a message of the kernel. */
  apply(message) {
    if (message.columns && !this.tables) this.makeTables(message.columns);
    if (!this.tables) return;
    this.skew = message.at - Date.now() / 1000;
    if (Math.abs(this.skew) < 1) this.skew = 0;
    this.about = message.about ?? this.about;
    this.more = message.more ?? this.more;
    if (message.whole) {
      for (const [name, table] of Object.entries(this.tables)) table.next = new Map(Object.entries(message.tables[name] ?? {}));
    } else {
      for (const [name, keys] of Object.entries(message.gone ?? {})) for (const key of keys) this.tables[name].next.delete(key);
      for (const [name, rows] of Object.entries(message.put ?? {}))
        for (const [key, cells] of Object.entries(rows)) this.tables[name].next.set(key, cells);
    }
    this.missed += 1;
    if (message.opened && !this.paused) this.open(message.opened);
    if (!this.paused) this.draw();
  }

  makeTables(columns) {
    this.tables = {};
    for (const [name, given] of Object.entries(columns)) {
      const table = new Table(given, {
        now: () => (this.paused ? this.stopped : Date.now() / 1000 + this.skew),
        choose: (key) => name === "requests" && this.choose(key),
      });
      table.next = new Map();
      table.tab = make("button", { type: "button", role: "tab", "data-tab": name, onclick: () => this.show(name) });
      this.tables[name] = table;
      this.tabs.append(table.tab);
    }
    this.show("requests");
  }

  show(name) {
    this.shown = name;
    this.place.replaceChildren(this.tables[name].scroll);
    for (const [each, table] of Object.entries(this.tables)) table.tab.setAttribute("aria-selected", each === name);
    this.draw();
  }

  draw() {
    this.missed = 0;
    for (const [name, table] of Object.entries(this.tables)) {
      table.rows = new Map(table.next);
      const number = table.rows.size + (this.more[name] ?? 0);
      setText(table.tab, number ? `${name} ${number}` : name);
      table.tab.hidden = name === "upstreams" && !number;
    }
    this.tables[this.shown].changed();
    this.tell();
  }

  tell() {
    const { server, state, served, open, url, recording } = this.about;
    setText(this.title, server ?? "");
    setText(this.link, url ?? "");
    if (this.link.getAttribute("href") !== url && /^(https?:|\/)/.test(url ?? "")) this.link.setAttribute("href", url);
    setText(this.counts, `${state === "running" ? "" : `${state}, `}${open} open, ${served} served`);
    if (this.about.filter !== undefined && !this.touched && this.element.getRootNode().activeElement !== this.filter)
      this.filter.value = this.about.filter;
    const table = this.tables[this.shown], more = this.more[this.shown] ?? 0;
    const said = [];
    if (!table.rows.size && more > 0) said.push(`nothing matches the filter (${more.toLocaleString("en")} hidden)`);
    else if (!table.rows.size) said.push(this.shown === "requests" ? "no request so far" : "none");
    else if (more > 0) said.push(`and ${more.toLocaleString("en")} more`);
    if (this.shown === "requests" && recording === false) said.push("finished requests are not recorded: server.traces.start()");
    if (this.paused) said.push("paused");
    setText(this.note, said.join("; "));
  }

  tick() {
    if (!this.tables || !this.element.isConnected) return;
    if (this.paused) setText(this.pause, this.missed ? "go on •" : "go on");
    else this.tables[this.shown].draw();
  }

  setPause(on) {
    this.paused = on;
    this.stopped = Date.now() / 1000 + this.skew;
    this.element.classList.toggle("paused", on);
    setText(this.pause, on ? "go on" : "pause");
    this.pause.setAttribute("aria-pressed", on);
    if (on) this.tell();
    else this.draw();
  }

  async setFilter() {
    const said = this.filter.value.trim();
    if (said === this.asked) return;
    this.asked = said;
    this.touched = true; // messages of the kernel until then are older
    try {
      await this.asker.ask("filter", { filter: said });
      this.wrong.hidden = true;
    } catch (error) {
      setText(this.wrong, error.message);
      this.wrong.hidden = false;
    }
    this.touched = false;
  }

  async choose(key) {
    try {
      this.open(await this.asker.ask("open", { key }));
    } catch (error) {
      this.open({ key, html: "" });
      setText(this.detail.querySelector(".told"), error.message);
    }
  }

  /** Show an exchange in full. The kernel has escaped all text from clients in this markup. */
  open({ key, html }) {
    const changed = key !== this.opened.key || html !== this.opened.html;
    if (!changed && this.detail.hidden === !key) return;
    this.opened = { key, html };
    this.tables.requests.chosen = key;
    this.detail.hidden = !key;
    if (!key) return;
    const told = make("div", { class: "told" });
    told.innerHTML = themed(html);
    const close = () => {
      this.open({ key: "", html: "" });
      this.asker.ask("open", { key: "" }).catch(() => {});
    };
    this.detail.replaceChildren(make("button", { class: "close", type: "button", title: "close", onclick: close }, "×"), told);
  }

  themeChanged() {
    const { key, html } = this.opened;
    this.opened = { key: "", html: "" };
    if (key) this.open({ key, html });
  }

  stop() {
    clearInterval(this.clock);
  }
}
