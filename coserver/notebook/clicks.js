// Send a click to the kernel: as a message, and if a running cell delays that, also to a port of the kernel's process.
// Both have the same number, so that the kernel carries it out once. The page shows which way answered.

const WAYS = {
  kernel: ["clicks: kernel", "The kernel is idle, and answers."],
  subshell: ["clicks: subshell", "The kernel answers, also while a cell runs."],
  port: ["clicks: control port", "A cell runs; the kernel's process answers on a port."],
  none: ["clicks wait for the cell", "A cell runs, and this browser cannot reach the kernel's port: see the guide."],
};
/** Milliseconds before the port is asked; the second after an answer by the port. */
const PATIENCE = 350, IMPATIENCE = 40;

class Asker {
  constructor(model) {
    this.model = model;
    this.mark = model.get("mark");
    this.way = "";
    this.pending = new Map();
    this.listeners = new Set();
    this.base = null;
    this.number = 0;
    this.tag = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
  }

  /** The kernel's answer; rejects with an Error whose message is for the person. */
  ask(what, given = {}) {
    const question = { ...given, id: `${this.tag}-${++this.number}`, to: this.mark, what };
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.askPort(question), this.way === "port" ? IMPATIENCE : PATIENCE);
      this.pending.set(question.id, { resolve, reject, timer });
      this.model.send(question);
    });
  }

  /** Take a message of the kernel, if it is an answer. */
  heard(message) {
    const waiting = this.pending.get(message?.re);
    if (message?.re === undefined) return false;
    if (!waiting) return true; // the other way was faster
    this.pending.delete(message.re);
    clearTimeout(waiting.timer);
    this.setWay(message.way);
    if (message.error !== undefined) waiting.reject(new Error(message.error));
    else waiting.resolve(message.answer);
    return true;
  }

  async askPort(question) {
    for (const base of this.base ? [this.base] : this.bases()) {
      try {
        const response = await fetch(`${base}ask`, {
          method: "POST",
          credentials: base.startsWith(location.origin) ? "same-origin" : "omit",
          headers: { "Content-Type": "application/json", "X-Coserver-Token": this.model.get("way").token },
          body: JSON.stringify(question),
        });
        const answer = response.ok ? await response.json() : {};
        if (answer.re === question.id) {
          this.base = base;
          this.heard(answer);
          return;
        }
      } catch {
        // not reachable from here: try the next one
      }
    }
    if (this.pending.has(question.id)) this.setWay("none");
  }

  /** Possible addresses of the port: at the given proxy, on this machine, behind jupyter-server-proxy. */
  bases() {
    const { port, pattern } = this.model.get("way");
    if (!port) return [];
    const found = [];
    if (pattern) found.push(new URL(pattern.replace("{port}", port), location.href).href);
    if (/^(localhost|127\.[\d.]+|\[::1\])$/.test(location.hostname)) found.push(`http://127.0.0.1:${port}/`);
    const page = document.getElementById("jupyter-config-data");
    const root = page ? JSON.parse(page.textContent).baseUrl : null;
    if (root) found.push(new URL(`${root}proxy/${port}/`, location.href).href);
    return [...new Set(found)];
  }

  setWay(way) {
    if (way === this.way) return;
    this.way = way;
    for (const each of this.listeners) each();
  }

  /** A line that shows which way clicks take. */
  badge() {
    const badge = make("span", { class: "way" });
    const show = () => {
      const [text, title] = WAYS[this.way] ?? ["", ""];
      setText(badge, text);
      badge.title = title;
      badge.dataset.way = this.way;
    };
    this.listeners.add(show);
    show();
    return badge;
  }
}
