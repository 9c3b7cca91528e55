// Draw a panel over the frozen table, in each output with its mark; or in the view of a front end that makes views
// (VS Code, Colab). The frozen table is shown again when the panel is over.

const KINDS = { live: Live, step: Step };
/** Milliseconds between two searches for outputs, and between two reports to the kernel that one is visible. */
const LOOK = 250, WORD = 10_000;
const panels = new Map();

class Mounted {
  constructor(model) {
    this.model = model;
    this.mark = model.get("mark");
    this.asker = new Asker(model);
    this.views = new Map();
    this.number = 0;
    this.over = false;
    this.spoke = 0;
    this.looked = false;
    model.on("change:state", () => this.take(model.get("state")));
    model.on("msg:custom", (message) => this.asker.heard(message) || this.take(message));
    this.timer = setInterval(() => this.look(), LOOK);
    this.theme = new MutationObserver(() => this.themeChanged());
    this.theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "class"] });
    this.leave = () => this.say("away");
    addEventListener("pagehide", this.leave);
    this.look();
  }

  /** Take a whole state, or a change of the last one. */
  take(message) {
    if (!message?.n || message.n <= this.number) return;
    const isWhole = message.tables !== undefined || message.held !== undefined;
    if (!isWhole && message.n !== this.number + 1) {
      this.say("missed");
      return;
    }
    this.number = message.n;
    for (const view of this.views.values()) this.show(view, message);
    if (message.over) this.end();
  }

  show(view, message) {
    view.panel.apply(message);
    requestAnimationFrame(() => setTimeout(() => {
      view.element.dataset.lag = Math.round(Date.now() - message.at * 1000); // from the push to the paint
      view.element.dataset.number = message.n;
    }));
  }

  /** Find outputs with the mark; tell the kernel whether one is visible. */
  look() {
    if (this.over) return;
    for (const mark of document.getElementsByClassName(this.mark)) {
      const host = mark.closest(".jp-OutputArea-output") ?? mark.parentElement;
      if (host && !this.views.has(host)) this.mount(host);
    }
    let seen = false;
    for (const [host, view] of this.views) {
      if (host.isConnected) seen = true;
      else if (!host.getElementsByClassName(this.mark).length && !view.asked) this.unmount(host);
    }
    seen &&= document.visibilityState === "visible";
    if (seen && (!this.looked || Date.now() - this.spoke > WORD)) {
      if (!this.looked) this.say("here");
      this.spoke = Date.now();
      this.asker.ask("hello").catch(() => {});
    } else if (!seen && this.looked) this.say("away");
    this.looked = seen;
  }

  say(what) {
    this.model.send({ what, to: this.mark, origin: location.origin });
  }

  mount(host, asked = false) {
    const root = host.shadowRoot ?? host.attachShadow({ mode: "open" });
    const style = make("style");
    style.textContent = this.model.get("_css");
    const element = make("div", { class: `coserver ${this.model.get("kind")}` });
    element.classList.toggle("dark", isDark());
    root.replaceChildren(style, element);
    // Keys typed here must not trigger the notebook's shortcuts.
    host.setAttribute("data-lm-suppress-shortcuts", "true");
    const panel = new KINDS[this.model.get("kind")](this.asker, element);
    const view = { panel, element, root, asked };
    this.views.set(host, view);
    const state = this.model.get("state");
    this.number = Math.max(this.number, state.n ?? 0);
    this.show(view, state);
    if (state.n < this.number) this.say("missed");
    if (state.over) this.end();
    return view;
  }

  unmount(host) {
    const view = this.views.get(host);
    view?.panel.stop();
    this.views.delete(host);
  }

  themeChanged() {
    for (const { panel, element } of this.views.values()) {
      element.classList.toggle("dark", isDark());
      panel.themeChanged();
    }
  }

  /** Show the frozen table again. */
  end() {
    if (this.over) return;
    this.over = true;
    clearInterval(this.timer);
    this.theme.disconnect();
    removeEventListener("pagehide", this.leave);
    for (const [host, view] of this.views) {
      view.panel.stop();
      view.root.replaceChildren(make("slot"));
      host.removeAttribute("data-lm-suppress-shortcuts");
    }
    panels.delete(this.mark);
  }
}

function panelOf(model) {
  const mark = model.get("mark");
  if (!panels.has(mark)) panels.set(mark, new Mounted(model));
  return panels.get(mark);
}

export default {
  initialize({ model }) {
    const panel = panelOf(model);
    return () => panel.end();
  },
  render({ model, el }) {
    const panel = panelOf(model);
    panel.mount(el, true);
    return () => panel.unmount(el);
  },
};
