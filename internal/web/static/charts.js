// Draws how pools and sessions did: lines over time, made as elements, without a library.
"use strict";
const svgNS = "http://www.w3.org/2000/svg";
const make = (name, attributes = {}, text) => {
  const el = document.createElementNS(svgNS, name);
  for (const [k, v] of Object.entries(attributes)) el.setAttribute(k, String(v));
  if (text !== undefined) el.textContent = text;
  return el;
};

const seconds = (s) => s === undefined || s === null ? "–" : s < 0.001 ? (s * 1e6).toFixed(0) + " µs" : s < 1 ? (s * 1000).toPrecision(2) * 1 + " ms" : s.toPrecision(2) * 1 + " s";
const bytes = (n) => n >= 2 ** 30 ? (n / 2 ** 30).toFixed(1) + " GiB" : Math.round(n / 2 ** 20) + " MiB";
const plain = (n) => n === 0 ? "0" : n < 10 ? String(Number(n.toPrecision(2))) : String(Math.round(n));

// A round number that is at least n.
const ceiling = (n) => {
  if (n <= 0) return 1;
  const unit = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 5, 10].map((k) => k * unit).find((v) => v >= n);
};

// lines draws series of {name, className, points: [[time in ms, value]]} into box, from one time to another.
function lines(box, { series, from, to, text = plain, log = false, gap, label, unit = 1 }) {
  // A narrow screen gets a narrow drawing: one that is scaled down cannot be read.
  const width = Math.max(260, Math.min(520, box.clientWidth || 520)), height = 170, left = 58, right = 8, top = 8, bottom = 22;
  if (!series.some((s) => s.points.length)) {
    const none = document.createElement("p");
    none.className = "hint";
    none.textContent = "Nothing was measured in this time.";
    box.replaceChildren(make("svg", { viewBox: `0 0 ${width} 20`, role: "img", class: "chart", "aria-label": `${label}: none` }), none);
    return;
  }
  const all = series.flatMap((s) => s.points.map((p) => p[1])).filter((v) => v > 0);
  const most = log ? 10 ** Math.ceil(Math.log10(Math.max(...all, 0.001))) : unit * ceiling(Math.max(...all, 0) / unit);
  const least = log ? 10 ** Math.floor(Math.log10(Math.min(...all, most / 10))) : 0;
  const x = (t) => left + ((t - from) / (to - from)) * (width - left - right);
  const y = (v) => {
    const part = log ? (Math.log10(Math.max(v, least)) - Math.log10(least)) / (Math.log10(most) - Math.log10(least)) : v / most;
    return height - bottom - part * (height - top - bottom);
  };
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", class: "chart" });
  const marks = [];
  if (log) for (let v = least; v <= most * 1.01; v *= 10) marks.push(v);
  else marks.push(0, most / 2, most);
  for (const v of marks) {
    svg.append(make("line", { x1: left, x2: width - right, y1: y(v), y2: y(v), class: "mark" }),
      make("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, text(v)));
  }
  const day = to - from > 26 * 3600e3;
  for (let i = 0; i <= 3; i++) {
    const t = new Date(from + ((to - from) * i) / 3);
    const when = day ? t.toLocaleDateString(undefined, { month: "short", day: "numeric" }) : t.toTimeString().slice(0, 5);
    svg.append(make("text", { x: x(t.getTime()), y: height - 6, "text-anchor": i === 0 ? "start" : i === 3 ? "end" : "middle" }, when));
  }
  const told = [];
  for (const s of series) {
    let path = "", last = -Infinity;
    for (const [t, v] of s.points) {
      const broken = !path || t - last > gap;
      path += `${broken ? "M" : "L"}${x(t).toFixed(1)} ${y(v).toFixed(1)}`;
      if (broken) path += `h0.01`; // a dot, if nothing follows
      last = t;
    }
    svg.append(make("path", { d: path, class: "line " + s.className }));
    if (s.points.length) svg.append(make("circle", { cx: x(last).toFixed(1), cy: y(s.points.at(-1)[1]).toFixed(1), r: 2.5, class: "dot " + s.className }));
    const now = s.points.at(-1)?.[1];
    told.push(`${s.name} ${now === undefined ? "none" : text(now)}`);
  }
  svg.setAttribute("aria-label", `${label}: ${told.join(", ")}`);
  const legend = document.createElement("p");
  legend.className = "legend";
  for (const [i, s] of series.entries()) {
    const key = document.createElement("span");
    key.className = "key " + s.className;
    const item = document.createElement("span");
    item.append(key, " " + told[i]);
    legend.append(item, " ");
  }
  box.replaceChildren(svg, legend);
}

const length = { hour: 3600e3, day: 86400e3, week: 7 * 86400e3 };

// perMinute sums claims up to a number for each minute, or for each step if that is longer.
function perMinute(history, count) {
  const sums = new Map();
  const span = Math.max(60, history.stepSeconds) * 1000;
  const first = history.points.length ? Math.floor(Date.parse(history.points[0].time) / span) : 0;
  const last = Math.floor(Date.now() / span);
  for (let at = first; history.points.length && at <= last; at++) sums.set(at, 0);
  for (const p of history.points) {
    const at = Math.floor(Date.parse(p.time) / span);
    sums.set(at, (sums.get(at) ?? 0) + count(p) * 60e3 / span);
  }
  return [...sums].map(([at, n]) => [at * span, n]);
}

function drawPool(section, history) {
  const to = Date.now(), from = to - length[history.window], step = history.stepSeconds * 1000;
  const at = (p) => Math.max(from, Date.parse(p.time));
  const level = (field) => history.points.filter((p) => p.level).map((p) => [at(p), p.level[field]]);
  const took = (field) => history.points.filter((p) => p[field] !== undefined).map((p) => [at(p), p[field]]);
  const box = (name) => section.querySelector(`[data-chart=${name}]`);
  const frame = { from, to, gap: 4 * step };
  const claims = (count) => perMinute(history, count).filter(([t]) => t >= from);
  lines(box("levels"), { ...frame, label: "Sandboxes", series: [
    { name: "sessions", className: "claimed", points: level("claimed") },
    { name: "ready", className: "ready", points: level("ready") },
    { name: "starting", className: "starting", points: level("starting") }] });
  lines(box("claims"), { ...frame, gap: Infinity, label: "Claims a minute", series: [
    { name: "by a ready sandbox", className: "ready", points: claims((p) => p.claimsReady ?? 0) },
    { name: "by a new one", className: "starting", points: claims((p) => p.claimsNew ?? 0) },
    { name: "refused", className: "lost", points: claims((p) => p.claimsFull ?? 0) }] });
  lines(box("latency"), { ...frame, gap: Infinity, text: seconds, log: true, label: "Time taken", series: [
    { name: "claim p50", className: "ready", points: took("claimP50") },
    { name: "claim p99", className: "ready dashed", points: took("claimP99") },
    { name: "first answer p50", className: "claimed", points: took("answerP50") },
    { name: "first answer p99", className: "claimed dashed", points: took("answerP99") }] });
  lines(box("memory"), { ...frame, text: bytes, unit: 2 ** 20, label: "Memory", series: [
    { name: "memory", className: "claimed", points: level("memoryBytes") }] });
}

const ask = async (path, window) => {
  const response = await api(`${path}?${version}&window=${window}`);
  return signedOut(response) ? response.json() : undefined;
};

for (const section of document.querySelectorAll("[data-history]")) {
  let window = "hour", again;
  const draw = async () => {
    clearTimeout(again);
    if (!document.hidden) {
      const history = await ask(section.dataset.history, window).catch(() => undefined);
      if (history && history.window === window) drawPool(section, history);
    }
    again = setTimeout(draw, 15000);
  };
  for (const button of section.querySelectorAll("[data-window]")) {
    button.addEventListener("click", () => {
      window = button.dataset.window;
      for (const b of section.querySelectorAll("[data-window]")) b.setAttribute("aria-pressed", String(b === button));
      draw();
    });
  }
  draw();
}

// A line without axes, as high as a row of a table, with the newest number beside it.
function spark(box, points, text, label) {
  const svg = make("svg", { viewBox: "0 0 60 16", preserveAspectRatio: "none", class: points.length > 1 ? "spark" : "spark empty", role: "img", "aria-label": label });
  const from = Date.now() - 3600e3, most = Math.max(...points.map((p) => p[1]), 1e-9);
  svg.append(make("polyline", { points: points.map(([t, v]) => `${((60 * (t - from)) / 3600e3).toFixed(1)},${(15 - (14 * v) / most).toFixed(1)}`).join(" ") }));
  box.replaceChildren(svg, " " + text);
}

const rows = [...document.querySelectorAll("[data-sparks]")];
if (rows.length) {
  const turn = async () => {
    for (const row of rows) {
      if (document.hidden) break;
      const history = await ask(row.dataset.sparks, "hour").catch(() => undefined);
      if (!history) continue;
      const cell = (name) => row.querySelector(`[data-spark=${name}]`);
      const claims = perMinute(history, (p) => (p.claimsReady ?? 0) + (p.claimsNew ?? 0));
      spark(cell("claims"), claims, plain(claims.at(-2)?.[1] ?? claims.at(-1)?.[1] ?? 0), "claims a minute in the last hour");
      for (const name of ["claim", "answer"]) {
        const known = history.points.filter((p) => p[name + "P50"] !== undefined);
        const last = known.at(-1);
        const p50 = known.map((p) => [Date.parse(p.time), p[name + "P50"]]);
        spark(cell(name), p50, last ? `${seconds(last[name + "P50"])} / ${seconds(last[name + "P99"])}` : "–", "median in the last hour");
      }
    }
    setTimeout(turn, Math.max(15000, 200 * rows.length));
  };
  turn();
}
