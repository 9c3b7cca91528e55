// The stepper: held exchanges, the phase in the life of a connection, changes, and a button for each action.

const LINES = {
  edit: "target=/x status=404 X-Tag:a Cookie: body='{\"a\": 1}'",
  respond: "503 'come back later' Retry-After:5",
};

class Step {
  constructor(asker, element) {
    this.asker = asker;
    this.element = element;
    this.found = null;
    this.doing = false;
    this.build();
    this.clock = setInterval(() => this.tick(), 250);
  }

  build() {
    const button = (what, title, more = {}) =>
      make("button", { type: "button", "data-do": what, title, onclick: () => this.do(what), ...more }, what);
    this.title = make("span", { class: "title" });
    this.held = make("div", { class: "tabs held" });
    this.phases = make("select", { "aria-label": "until which phase" });
    this.line = make("input", { class: "filter", spellcheck: "false", onkeydown: (event) => this.typed(event) });
    this.send = make("button", { type: "button", "data-do": "send", onclick: () => this.act(this.lineFor, { line: this.line.value }) }, "send");
    this.form = make("div", { class: "bar", hidden: true }, this.line, this.send);
    this.wrong = make("pre", { class: "wrong", hidden: true, role: "alert" });
    this.what = make("div", { class: "what" });
    this.drawing = make("div", { class: "cos-drawing" });
    this.told = make("div", { class: "told" });
    this.buttons = make(
      "div",
      { class: "bar" },
      button("next", "Resume until the next phase: step.next()", { class: "first" }),
      button("resume", "Resume it: step.resume()"),
      make("span", { class: "joined" }, button("until", "Resume until this phase: step.until(phase)"), this.phases),
      button("edit", "Edit it: step.edit(target=…)"),
      button("respond", "Answer without the handler: step.respond(503, …)"),
      button("abort", "Reset its connection: step.abort()"),
      make("span", { class: "gap" }),
      button("close", "Release all, and hold nothing more: step.close()"),
    );
    this.element.append(
      make("header", {}, this.title, this.asker.badge()),
      this.held, this.buttons, this.form, this.wrong, this.what, this.drawing, this.told,
    );
  }

  apply(message) {
    if (message.held === undefined) return;
    const before = this.found;
    this.found = message;
    this.skew = Math.abs(message.at - Date.now() / 1000) < 1 ? 0 : message.at - Date.now() / 1000;
    setText(this.title, `holds ${message.filter || "everything"} at ${message.at_phases.join(", ")}`);
    if (!this.phases.children.length) this.phases.append(...message.phases.map((one) => make("option", { value: one }, one)));
    if (before?.phase !== message.phase) this.suggest(message);
    if (before?.chosen !== message.chosen) {
      this.form.hidden = true;
      this.wrong.hidden = true;
    }
    this.drawHeld(message);
    if (before?.svg !== message.svg) this.drawing.innerHTML = themed(message.svg);
    if (before?.html !== message.html) this.told.innerHTML = message.html;
    this.enable();
    this.tick();
  }

  /** The phase after this one, among those to resume to. */
  suggest({ phases, phase }) {
    const at = phases.indexOf(phase);
    const next = phases.indexOf("response") > at ? "response" : phases[at + 1];
    if (next) this.phases.value = next;
  }

  drawHeld({ held, chosen }) {
    this.held.hidden = held.length < 2;
    this.held.replaceChildren(
      ...held.slice(0, 30).map((one) =>
        make("button", { type: "button", "aria-selected": one.id === chosen, onclick: () => this.act("choose", {}, one.id) }, `#${one.id} ${one.title} ‖ ${one.phase}`),
      ),
      ...(held.length > 30 ? [make("span", { class: "dim" }, `and ${held.length - 30} more`)] : []),
    );
  }

  tick() {
    const { found } = this;
    if (!found) return;
    const one = found.held.find((each) => each.id === found.chosen);
    const seconds = Date.now() / 1000 + (this.skew ?? 0) - found.began;
    setText(this.what, one ? `#${one.id} ${one.title} is held at ${one.phase}, for ${showSeconds(seconds)}` : "nothing is held; the next match is shown here");
    this.element.dataset.phase = found.phase;
  }

  enable() {
    const on = this.found.chosen !== null && !this.doing;
    for (const each of this.buttons.querySelectorAll("button, select"))
      each.disabled = each.dataset.do === "close" ? this.doing : !on;
    this.send.disabled = !on;
  }

  do(what) {
    this.wrong.hidden = true;
    if (what in LINES) {
      const shown = !this.form.hidden && this.lineFor === what;
      this.form.hidden = shown;
      this.lineFor = what;
      this.line.placeholder = LINES[what];
      this.line.value = "";
      setText(this.send, what);
      if (!shown) this.line.focus();
    } else {
      this.act(what, what === "until" ? { line: this.phases.value } : {});
    }
  }

  typed(event) {
    if (event.key === "Enter") this.act(this.lineFor, { line: this.line.value });
    if (event.key === "Escape") this.form.hidden = true;
  }

  async act(what, given, held = this.found?.chosen) {
    if (this.doing) return;
    this.doing = true;
    this.enable();
    try {
      await this.asker.ask(what, { ...given, held });
      this.wrong.hidden = true;
      if (what in LINES) this.form.hidden = true;
    } catch (error) {
      setText(this.wrong, error.message);
      this.wrong.hidden = false;
    }
    this.doing = false;
    this.enable();
  }

  themeChanged() {
    if (this.found) this.drawing.innerHTML = themed(this.found.svg);
  }

  stop() {
    clearInterval(this.clock);
  }
}
