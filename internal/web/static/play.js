// The playground: cells whose output streams in, files, and requests to containers.
"use strict";
const play = document.getElementById("play");
const endpoint = play.dataset.endpoint;
const session = document.getElementById("session");
const timing = document.getElementById("timing");
const word = document.querySelector("meta[name=csrf]").content;
const addressOf = (path, query) =>
  `/ui/api${endpoint}${path}?${new URLSearchParams({ "api-version": "2025-10-02-preview", identifier: session.value, ...query })}`;
const call = (path, query, options = {}) =>
  fetch(addressOf(path, query), { ...options, headers: { ...options.headers, "X-Csrf-Token": word }, redirect: "error" });
const random = () => "ui-" + Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");
const failure = async (response) => {
  const text = await response.text();
  try { return JSON.parse(text).error.message; } catch { return `${response.status} ${text.slice(0, 300)}`; }
};
const given = session.value !== ""; // it may be there already
if (!given) session.value = random();

// lines yields the events of an answer as they come.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.trim()) yield JSON.parse(line);
  }
}

// The contexts of the session, and the kernels that another one may have. They are known once there
// is a session.
const context = document.getElementById("context");
const optionOf = (value, text) => Object.assign(document.createElement("option"), { value, textContent: text });
async function listContexts(chosen = context.value) {
  const [contexts, kernels] = await Promise.all([call("/contexts", {}), call("/kernels", {})]);
  if (!contexts.ok || !kernels.ok) return forgetContexts();
  const known = (await contexts.json()).value, all = (await kernels.json()).value;
  context.replaceChildren(...known.map((c) => optionOf(c.name === "default" ? "" : c.name, c.name === c.kernel ? c.name : `${c.name} (${c.kernel})`)));
  context.value = known.some((c) => c.name === chosen) ? chosen : "";
  const kernel = document.getElementById("kernel"), before = kernel.value;
  kernel.replaceChildren(...all.map((k) => optionOf(k.name, k.displayName)));
  if (all.some((k) => k.name === before)) kernel.value = before;
  document.getElementById("more-contexts").hidden = false;
  document.getElementById("restart-context").disabled = false;
}
function forgetContexts() {
  context.replaceChildren(optionOf("", "default"));
  document.getElementById("more-contexts").hidden = true;
  document.getElementById("restart-context").disabled = true;
}
async function makeContext() {
  const kernel = document.getElementById("kernel").value;
  const taken = new Set([...context.options].map((o) => o.value));
  let name = kernel;
  for (let n = 2; taken.has(name); n++) name = `${kernel}-${n}`;
  const response = await call("/contexts/" + encodeURIComponent(name), {}, { method: "PUT", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ kernel }) });
  timing.textContent = response.ok ? `cells run in the context ${name} now` : await failure(response);
  if (response.ok) await listContexts(name);
}
async function restartContext() {
  const response = await call(`/contexts/${encodeURIComponent(context.value || "default")}/restart`, {}, { method: "POST" });
  timing.textContent = response.ok ? "the context is fresh; files are kept" : await failure(response);
}

let running;
async function run(code, box, status, record) {
  const output = new Output(box);
  record.begin();
  const id = random();
  const begin = performance.now();
  let last = 0, first = 0, over = false;
  running = id;
  document.getElementById("interrupt").disabled = false;
  status.textContent = "running";
  const headers = { Accept: "application/x-ndjson" };
  try {
    for (let tries = 0; !over && tries < 5; tries++) {
      const response = last || tries
        ? await call("/executions/" + id, { after: last }, { headers })
        : await call("/executions", {}, { method: "POST", headers: { ...headers, "Content-Type": "application/json", "Operation-Id": id },
            body: JSON.stringify({ codeInputType: "Inline", executionType: "Synchronous", ...(context?.value ? { context: context.value } : {}), ...code }) });
      if (!response.ok) { output.text("stderr", await failure(response)); status.textContent = "failed"; return; }
      first ||= performance.now() - begin;
      try {
        for await (const event of events(response)) {
          last = event.sequence ?? last;
          output.take(event);
          record.take(event);
          over = event.type === "result" || event.type === "error";
          if (event.status) status.textContent = event.status;
        }
      } catch (e) { if (over) break; }
      if (!over) await new Promise((done) => setTimeout(done, 300 * (tries + 1)));
    }
    timing.textContent = `first event after ${first.toFixed(0)} ms, whole ${(performance.now() - begin).toFixed(0)} ms`;
  } catch (e) {
    output.text("stderr", "No answer from the server: " + e.message);
    status.textContent = "no answer";
  } finally {
    record.end(status.textContent);
    about();
    running = undefined;
    document.getElementById("interrupt").disabled = true;
    if (!play.dataset.custom || play.dataset.custom === "false") {
      listFiles().catch(() => {});
      if (document.getElementById("more-contexts").hidden) listContexts().catch(() => {});
    }
  }
}

// What a cell has shown, for those who look on. It is bounded: the server takes no more than 2 MiB.
const records = [];
class Record {
  constructor(code) { this.code = code; this.events = []; this.size = 0; this.status = ""; records.push(this); code.addEventListener("input", publish); }
  begin() { this.events = []; this.size = 0; this.status = "running"; publish(); }
  take(event) {
    const small = event.type === "result" ? { ...event, execution: { result: event.execution?.result } } : event;
    this.size += JSON.stringify(small).length;
    if (this.size < 400000) this.events.push(small);
    publish();
  }
  end(status) { this.status = status; publish(); }
}

let link, waiting;
function publish() {
  if (!link || waiting) return;
  waiting = setTimeout(async () => {
    waiting = undefined;
    const body = JSON.stringify(records.map((r) => ({ code: r.code.value.slice(0, 100000), events: r.events, status: r.status })));
    const response = await fetch(link, { method: "PUT", body, headers: { "X-Csrf-Token": word } }).catch(() => undefined);
    if (response && !response.ok) {
      document.getElementById("until").textContent = await response.text();
      if (response.status === 410) link = undefined;
    }
  }, 700);
}

document.getElementById("share")?.addEventListener("click", async () => {
  const response = await fetch(location.pathname.replace(/play$/, "share"), { method: "POST", headers: { "X-Csrf-Token": word }, body: new URLSearchParams({ identifier: session.value }) });
  if (!response.ok) { timing.textContent = await response.text(); return; }
  const { path, until } = await response.json();
  link = path;
  publish();
  document.getElementById("shared-link").hidden = false;
  const field = document.getElementById("link");
  field.value = location.origin + path;
  document.getElementById("until").textContent = "until " + until.replace("T", " ").slice(0, 16) + " UTC, or until you sign out";
  field.select();
});
const about = () => {
  const el = document.getElementById("about");
  el.hidden = false;
  el.href = `/ui/pools/${encodeURIComponent(play.dataset.pool)}/sessions/${encodeURIComponent(session.value)}`;
};

function addCell(text = "") {
  const cell = document.createElement("section");
  cell.className = "cell";
  const n = document.querySelectorAll(".cell").length + 1;
  cell.setAttribute("aria-label", "Cell " + n);
  const code = document.createElement("textarea");
  code.value = text;
  const fit = () => { code.rows = Math.min(40, Math.max(3, code.value.split("\n").length)); };
  fit();
  code.addEventListener("input", fit);
  code.spellcheck = false;
  code.setAttribute("aria-label", "Code of cell " + n);
  const row = document.createElement("div");
  row.className = "row";
  const button = document.createElement("button");
  button.textContent = "Run";
  const status = document.createElement("span");
  status.setAttribute("role", "status");
  const output = document.createElement("div");
  output.className = "output";
  const record = new Record(code);
  const go = () => run(play.dataset.type === "Shell" ? { shellCommand: code.value } : { code: code.value }, output, status, record);
  button.addEventListener("click", go);
  code.addEventListener("keydown", (e) => {
    if (e.key === "Enter" && (e.ctrlKey || e.metaKey || e.shiftKey)) { e.preventDefault(); go(); }
  });
  row.append(button, status);
  cell.append(code, row, output);
  document.getElementById("cells").append(cell);
  return code;
}

async function listFiles() {
  const list = document.getElementById("files");
  const response = await call("/files", {});
  if (!response.ok) return;
  listing(list, await response.json(), addressOf, (f) => {
    const remove = document.createElement("button");
    remove.className = "quiet";
    remove.textContent = "Delete";
    remove.setAttribute("aria-label", "Delete " + f.name);
    remove.addEventListener("click", async () => { await call("/files/" + encodeURIComponent(f.name), {}, { method: "DELETE" }); listFiles(); });
    return [remove];
  });
}

async function upload(files) {
  for (const file of files) {
    const form = new FormData();
    form.append("file", file);
    const response = await call("/files", {}, { method: "POST", body: form });
    if (!response.ok) timing.textContent = `${file.name}: ${await failure(response)}`;
  }
  listFiles();
}

document.getElementById("fresh").addEventListener("click", () => { session.value = random(); if (context) forgetContexts(); timing.textContent = "the next cell gets a new session"; });
document.getElementById("restart").addEventListener("click", async () => {
  const response = play.dataset.custom === "true" ? await call("/.management/stopSession", {}, { method: "POST" }) : await call("/session", {}, { method: "DELETE" });
  timing.textContent = response.ok ? "the session has ended" : await failure(response);
  if (response.ok && context) forgetContexts();
});
document.getElementById("interrupt").addEventListener("click", () => { if (running) call("/executions/" + running, {}, { method: "DELETE" }); });

if (play.dataset.custom === "true") {
  document.getElementById("request").addEventListener("submit", async (e) => {
    e.preventDefault();
    const method = document.getElementById("method").value, path = document.getElementById("path").value;
    const body = document.getElementById("body").value;
    const begin = performance.now();
    const answer = document.getElementById("answer");
    const ask = (way, query, options) => call(way.startsWith("/") ? way : "/" + way, Object.fromEntries(new URLSearchParams(query)), options);
    const [way, query] = path.split("?");
    const response = await ask(way, query, { method, body: method === "GET" ? undefined : body });
    const blob = await response.blob();
    const text = await blob.text();
    answer.textContent = `${response.status} ${response.statusText}\n${[...response.headers].map(([k, v]) => `${k}: ${v}`).join("\n")}\n\n${text.slice(0, 200000)}`;
    timing.textContent = `${(performance.now() - begin).toFixed(0)} ms`;
    about();
    const view = await viewOf(blob, response.headers.get("content-type") ?? "", way, ask);
    document.getElementById("view").replaceChildren(...(view ? [view] : []));
  });
} else {
  const first = { Shell: "uname -a; echo $((6*7))", NodeLTS: "const [a, b] = [6, 7];\na * b" }[play.dataset.type] ??
    "import matplotlib.pyplot as plt\nplt.plot([1, 4, 9, 16]); plt.show()\nprint('hello from', __import__('platform').node())\n6 * 7";
  addCell(first);
  document.getElementById("add").addEventListener("click", () => addCell().focus());
  document.getElementById("upload").addEventListener("change", (e) => upload(e.target.files));
  const drop = document.getElementById("drop");
  drop.addEventListener("dragover", (e) => { e.preventDefault(); drop.classList.add("over"); });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (e) => { e.preventDefault(); drop.classList.remove("over"); upload(e.dataTransfer.files); });
  listFiles().catch(() => {});
  if (given) listContexts().catch(() => {});
  document.getElementById("make-context").addEventListener("click", makeContext);
  document.getElementById("restart-context").addEventListener("click", restartContext);
}
