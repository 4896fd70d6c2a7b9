// The page of one session: what it takes, how its executions went, and its log as it is written.
"use strict";
const box = document.getElementById("session-page");
const from = (path, more = "") => api(`${box.dataset.endpoint}/${path}?${box.dataset.query}${more}`);

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
    document.getElementById("packets").textContent = `${s.egress.packets} packets and ${s.egress.names} names were refused.`;
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

watchSession();
files().catch(() => {});
if (document.getElementById("logs")) logs().catch(() => {});
