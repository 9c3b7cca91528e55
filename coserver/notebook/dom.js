// Shared parts: elements, the theme, times, and the difference between the clocks of kernel and page.

/** An element: `make("div", {class: "x", onclick: f, "data-key": 1}, "text", child)`. Text is text, never markup. */
function make(tag, given = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((each) => each != null));
  return element;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** JupyterLab and Notebook set an attribute of the body, VS Code a class; elsewhere it is the system's theme. */
function isDark() {
  const { body } = document;
  const said = body.dataset.jpThemeLight;
  if (said) return said === "false";
  if (body.classList.contains("vscode-dark") || body.classList.contains("vscode-high-contrast")) return true;
  return !body.classList.contains("vscode-light") && matchMedia("(prefers-color-scheme: dark)").matches;
}

/** Let a drawing follow the page's theme, not the system's. The markup comes from the kernel. */
function themed(markup) {
  return markup.replaceAll("@media(prefers-color-scheme:dark)", isDark() ? "@media all" : "@media not all");
}

function showSeconds(seconds) {
  if (seconds < 0.0995) return `${Math.max(seconds * 1000, 0).toFixed(0)} ms`;
  if (seconds < 99.5) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} m ${Math.floor(seconds % 60)} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} m`;
}
