// The playground's terminal: xterm.js over the WebSocket of docs/terminals.md. It uses what play.js defines.
"use strict";
{
const box = document.getElementById("terminal");
const name = document.getElementById("terminal-name");
const button = document.getElementById("open-terminal");
const state = document.getElementById("terminal-state");
const most = 4 << 20; // bytes that wait to be drawn; beyond, what came last comes again
const encoder = new TextEncoder();
let now; // the view that is open

const script = (src) => new Promise((done, failed) => {
  const el = document.createElement("script");
  el.src = "/ui/static/xterm/" + src;
  el.onload = done;
  el.onerror = () => failed(new Error("xterm.js cannot be loaded"));
  document.head.append(el);
});

// strict has xterm.js set its styles by the object model: the pages' policy allows no text that is a style.
function strict() {
  const make = document.createElement;
  document.createElement = function (tag, ...rest) {
    const el = make.call(document, tag === "style" ? "span" : tag, ...rest);
    if (tag === "style") {
      const sheet = new CSSStyleSheet();
      document.adoptedStyleSheets.push(sheet);
      el.hidden = true;
      Object.defineProperty(el, "textContent", { set: (text) => sheet.replaceSync(text) });
      el.remove = () => {
        document.adoptedStyleSheets = document.adoptedStyleSheets.filter((s) => s !== sheet);
        Element.prototype.remove.call(el);
      };
    } else if (tag === "span") {
      el.setAttribute = (key, value) => { if (key === "style") el.style.cssText = value; else Element.prototype.setAttribute.call(el, key, value); };
    }
    return el;
  };
}

let loaded;
const library = () => (loaded ??= (async () => { strict(); await script("xterm.js"); await script("addon-fit.js"); })());

const dark = matchMedia("(prefers-color-scheme: dark)");
function theme() {
  const style = getComputedStyle(document.documentElement);
  const color = (v) => style.getPropertyValue(v).trim();
  return { background: color("--card"), foreground: color("--fg"), cursor: color("--accent"), cursorAccent: color("--card"), selectionBackground: dark.matches ? "#5b4a3d" : "#f0d2bd" };
}
dark.addEventListener("change", () => { if (now) now.term.options.theme = theme(); });

class View {
  constructor() {
    this.over = false;  // nobody is to connect again
    this.waiting = 0;   // bytes that are not drawn yet
    this.used = 0;
    this.term = new Terminal({ fontFamily: "ui-monospace, monospace", fontSize: 14, scrollback: 5000, minimumContrastRatio: 4.5, theme: theme() });
    this.fit = new FitAddon.FitAddon();
    this.term.loadAddon(this.fit);
    this.term.open(box);
    this.fit.fit();
    this.watch = new ResizeObserver(() => { if (box.clientWidth) this.fit.fit(); });
    this.watch.observe(box);
    this.term.attachCustomKeyEventHandler((e) => {
      if (!e.ctrlKey || e.code !== "BracketRight" && e.key !== "]") return true;
      if (e.type === "keydown") { e.preventDefault(); button.focus(); }
      return false;
    });
    this.term.onData((text) => this.send(encoder.encode(text)));
    this.term.onBinary((text) => this.send(Uint8Array.from(text, (c) => c.charCodeAt(0))));
    this.term.onResize(() => this.resized());
  }
  resized() { if (this.ready()) this.socket.send(JSON.stringify({ type: "resize", columns: this.term.cols, rows: this.term.rows })); }
  ready() { return this.socket?.readyState === WebSocket.OPEN; }
  send(bytes) {
    if (!this.ready()) return;
    for (let i = 0; i < bytes.length; i += 32768) this.socket.send(bytes.subarray(i, i + 32768));
    if (Date.now() - this.used > 60000) { // to type is to use the sign-in
      this.used = Date.now();
      call("/session", {}).catch(() => {});
    }
  }
  // connect resolves when the connection has ended, with whether there was one.
  connect() {
    const query = new URLSearchParams({ "api-version": "2025-10-02-preview", identifier: this.identifier, columns: this.term.cols, rows: this.term.rows });
    const address = `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}/ui/api${endpoint}/terminals/${encodeURIComponent(this.name)}?${query}`;
    return new Promise((done) => {
      let opened = false;
      const socket = this.socket = new WebSocket(address, ["sandpool", word]);
      socket.binaryType = "arraybuffer";
      socket.onopen = async () => {
        opened = this.opened = true;
        this.term.reset();
        state.textContent = "connected";
        about();
        this.resized();
        this.began ??= await began(this.identifier).catch(() => undefined);
      };
      socket.onmessage = ({ data }) => {
        if (this.over) return;
        if (typeof data === "string") {
          const end = JSON.parse(data);
          if (end.type === "exit") { this.over = true; state.textContent = end.signal ? `the shell was ended by signal ${end.signal}` : `the shell has ended with ${end.code}`; }
          return;
        }
        this.waiting += data.byteLength;
        this.term.write(new Uint8Array(data), () => { this.waiting -= data.byteLength; });
        if (this.waiting > most) socket.close();
      };
      socket.onclose = () => done(opened);
    });
  }
  async run() {
    for (let tries = 0; !this.over; ) {
      state.textContent = tries || this.began ? "connecting again" : "connecting";
      if (await this.connect()) tries = 0;
      if (this.over) break;
      const why = await this.lost(++tries);
      if (this.over) break;
      if (why) { state.textContent = why; break; }
      await new Promise((done) => setTimeout(done, Math.min(5000, 300 * tries)));
      while (this.waiting && !this.over) await new Promise((done) => setTimeout(done, 100));
    }
    if (now === this) { now = undefined; button.textContent = "Open"; this.still(); }
  }
  // lost says why a connection is not to be made again, if so: a new one would begin a new session.
  async lost(tries) {
    if (tries > 20) return "no connection; open it again";
    try {
      if (this.opened && !this.began) return "the connection has ended; open it again";
      if (!this.began) {
        const response = await call("/terminals", { identifier: this.identifier });
        return response.ok ? undefined : await failure(response);
      }
      const at = await began(this.identifier);
      return at === this.began ? undefined : "the session has ended";
    } catch (e) { return e.refused; } // no answer: the server may come back
  }
  still() { this.watch.disconnect(); this.term.options.disableStdin = true; this.term.options.cursorBlink = false; }
  leave() {
    this.over = true;
    this.socket?.close();
    this.still();
    this.term.dispose();
  }
}

// began is when the session began; undefined if there is none.
async function began(identifier) {
  const response = await call("/session", { identifier });
  if (response.status === 400) {
    const { error } = await response.json();
    if (error.code === "SessionWithIdentifierNotFound") return undefined;
    throw Object.assign(new Error(), { refused: error.message });
  }
  if (response.status >= 500) throw new Error("the server is not ready");
  if (!response.ok) throw Object.assign(new Error(), { refused: response.status === 401 ? "signed out; reload the page" : await failure(response) });
  return (await response.json()).createdAt;
}

let last;
button.addEventListener("click", async () => {
  if (now) {
    now.leave();
    now = last = undefined;
    box.hidden = true;
    button.textContent = "Open";
    state.textContent = "closed; the shell goes on";
    return;
  }
  button.disabled = true;
  try {
    await library();
    last?.term.dispose();
    box.hidden = false;
    now = last = new View();
    now.identifier = session.value;
    now.name = name.value.trim() || "main";
    button.textContent = "Close";
    now.run();
    now.term.focus();
  } catch (e) {
    state.textContent = e.message;
  } finally { button.disabled = false; }
});
addEventListener("pagehide", () => now?.socket?.close());
}
