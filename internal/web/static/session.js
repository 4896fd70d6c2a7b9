// The page of one session: what it takes, how its executions went, and its log as it is written.
"use strict";
const box = document.getElementById("session-page");
const from = (path, more = "", options = {}) => api(`${box.dataset.endpoint}/${path}?${box.dataset.query}${more}`, options);

const cell = (text, className = "") => {
  const el = document.createElement("td");
  el.textContent = text;
  el.className = className;
  return el;
};
const fill = (id, rows, none) => {
  const body = document.getElementById(id);
  if (!rows.length) {
    const td = cell(none, "hint");
    td.colSpan = 9;
    rows = [[td]];
  }
  body.replaceChildren(...rows.map((cells) => {
    const row = document.createElement("tr");
    row.append(...cells);
    return row;
  }));
};
const when = (text) => text.replace("T", " ").slice(0, 19);

function draw(s) {
  const to = Date.now(), oldest = s.use.length ? Date.parse(s.use[0].time) : to;
  const begin = Math.min(oldest, to - 5 * 60e3);
  const frame = { from: begin, to, gap: 61e3 };
  lines(document.getElementById("use-memory"), { ...frame, text: bytes, unit: 2 ** 20, label: "Memory",
    series: [{ name: "memory", className: "claimed", points: s.use.map((p) => [Date.parse(p.time), p.memoryBytes]) }] });
  const rates = [];
  for (let i = 1; i < s.use.length; i++) {
    const span = (Date.parse(s.use[i].time) - Date.parse(s.use[i - 1].time)) / 1000;
    if (span > 0) rates.push([Date.parse(s.use[i].time), Math.max(0, s.use[i].cpuSeconds - s.use[i - 1].cpuSeconds) / span]);
  }
  lines(document.getElementById("use-cpu"), { ...frame, label: "Cores",
    series: [{ name: "cores", className: "ready", points: rates }] });
  fill("runs", s.runs.toReversed().map((r) => [cell(when(r.time)), cell(r.outcome, r.outcome === "ok" ? "" : "bad"), cell(seconds(r.seconds), "n"), cell(r.by ?? "")]),
    "No code has run in it yet.");
  document.getElementById("count").textContent = String(s.executions);
  document.getElementById("callers").textContent = s.callers.join(", ") || "nobody yet";
  document.getElementById("last").textContent = when(s.lastAccessedAt) + " UTC";
  document.getElementById("ends").textContent = when(s.expiresAt) + " UTC";
  if (s.egress) {
    document.getElementById("packets").textContent = `Refused: ${s.egress.packets} packets, ${s.egress.names} names.`;
    fill("refusals", s.egress.recent.map((r) => [cell(when(r.time)), cell(r.host + (r.port ? ":" + r.port : "")), cell(r.protocol), cell(String(r.count), "n"), cell(r.reason ?? "", "words")]),
      "Nothing was refused.");
  }
}

async function watchSession() {
  for (;;) {
    if (!document.hidden) {
      const response = await from(".management/session").catch(() => undefined);
      if (response && signedOut(response)) draw(await response.json());
      if (response?.status === 404) {
        document.getElementById("over").hidden = false;
        return;
      }
    }
    await new Promise((done) => setTimeout(done, 5000));
  }
}

async function files() {
  const list = document.getElementById("files");
  if (!list) return;
  const response = await from("files");
  if (!response.ok) return;
  const page = await response.json();
  listing(list, page, (path) => `/ui/api${box.dataset.endpoint}${path}?${box.dataset.query}`);
  if (!page.value.length) list.textContent = "None.";
}

async function logs() {
  const out = document.getElementById("logs");
  let after = "";
  for (;;) {
    const response = await from(".management/logs", "&follow=true" + (after ? "&after=" + encodeURIComponent(after) : "")).catch(() => undefined);
    if (response?.status >= 400 && response.status < 500) {
      if (!out.childNodes.length) out.textContent = "There is no log.";
      return;
    }
    let rest = "";
    try {
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (; response.ok;) {
        const { value, done } = await reader.read();
        if (done) break;
        const parts = (rest + value).split("\n");
        rest = parts.pop();
        for (const text of parts) {
          if (!text.trim()) continue;
          const line = JSON.parse(text);
          after = line.next ?? after;
          const low = out.scrollTop + out.clientHeight > out.scrollHeight - 30;
          const span = document.createElement("span");
          span.className = line.stream;
          span.textContent = (line.text ?? "") + (line.part ? "" : "\n");
          out.append(span);
          while (out.childNodes.length > 2000) out.firstChild.remove();
          if (low) out.scrollTop = out.scrollHeight;
        }
      }
    } catch { /* the stream broke off, or none began: go on where it was */ }
    await new Promise((done) => setTimeout(done, 3000));
  }
}

// What the session ran, the newest first. Text that a session wrote is text alone.
const past = document.getElementById("past"), known = new Map();
function pastItem(e) {
  const item = document.createElement("article");
  item.className = "past";
  item.setAttribute("aria-label", "Execution " + e.number);
  const line = document.createElement("p");
  line.className = "hint";
  const outcome = document.createElement("b");
  outcome.textContent = e.outcome ?? "running";
  outcome.className = !e.outcome || e.outcome === "ok" ? "" : "bad";
  line.append(when(e.began) + " UTC ", outcome, [e.outcome ? " after " + seconds(e.seconds) : "", e.by ? "by " + e.by : "",
    [e.kernel, e.context].filter(Boolean).join("/"), e.displays ? `figures and the like: ${e.displays}` : "", e.cut ? "cut: " + e.cut.join(", ") : ""].filter(Boolean).join(", "));
  item.append(line);
  for (const [name, className] of [["code", "code"], ["stdout", ""], ["stderr", "stderr"], ["result", "value"], ["error", "stderr"]]) {
    if (!e[name]) continue;
    const text = document.createElement("pre");
    text.className = className;
    text.tabIndex = 0;
    text.setAttribute("role", "region");
    text.setAttribute("aria-label", `${name} of execution ${e.number}`);
    text.append(coloured(e[name]));
    item.append(text);
  }
  return item;
}
async function watchPast() {
  let after = 0;
  for (;;) {
    if (!document.hidden) {
      const response = await from(".management/history", after ? "&after=" + after : "").catch(() => undefined);
      if (response?.status === 401) return signedOut(response);
      if (response?.status >= 400 && response.status < 500) {
        past.textContent = await failureOf(response);
        return;
      }
      if (response?.ok) {
        const page = await response.json();
        if (!after || page.value.length) {
          for (const e of page.value) {
            const item = pastItem(e), old = known.get(e.number);
            if (old) old.replaceWith(item);
            else if (known.size) past.prepend(item);
            else past.replaceChildren(item);
            known.set(e.number, item);
          }
          // Those that run are asked for again, and what comes after them.
          after = (page.value.find((e) => !e.outcome)?.number ?? (page.value.at(-1)?.number ?? 0) + 1) - 1;
        }
        if (!known.size) past.textContent = "Nothing is kept of it.";
      }
    }
    await new Promise((done) => setTimeout(done, 5000));
  }
}
const failureOf = async (response) => {
  try { return (await response.json()).error.message; } catch { return String(response.status); }
};
document.getElementById("forget")?.addEventListener("click", async () => {
  const response = await from(".management/history", "", { method: "DELETE" });
  if (!signedOut(response)) return;
  known.clear();
  past.textContent = "Nothing is kept of it.";
});

if (past) watchPast().catch(() => {});
if (!("over" in box.dataset)) watchSession();
if (document.getElementById("files")) files().catch(() => {});
if (document.getElementById("logs")) logs().catch(() => {});
