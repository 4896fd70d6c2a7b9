// Keeps the numbers, bars and events of a page up to date.
"use strict";
const csrf = document.querySelector("meta[name=csrf]")?.content ?? "";
const api = (path, options = {}) =>
  fetch("/ui/api" + path, { ...options, headers: { ...options.headers, "X-Csrf-Token": csrf }, redirect: "error" });
const version = "api-version=2025-07-01";

const signedOut = (response) => {
  if (response.status === 401) location.assign("/ui/sign-in?to=" + encodeURIComponent(location.pathname + location.search));
  return response.ok;
};

// sizeOf is a number of bytes as people read it.
const sizeOf = (n) => n === 1 ? "1 byte" : n < 1024 ? `${n ?? 0} bytes` : n < 2 ** 20 ? (n / 1024).toFixed(1) + " KiB" : n < 2 ** 30 ? (n / 2 ** 20).toFixed(1) + " MiB" : (n / 2 ** 30).toFixed(1) + " GiB";

// listing fills list with the files of page; way leads to a file's content, and more adds to its
// entry.
function listing(list, page, way, more = () => []) {
  list.replaceChildren(...page.value.map((f) => {
    const item = document.createElement("li");
    const link = document.createElement(f.type === "directory" ? "span" : "a");
    link.textContent = f.name;
    if (f.type !== "directory") {
      link.href = way(`/files/${encodeURIComponent(f.name)}/content`);
      link.download = f.name;
    }
    const size = document.createElement("span");
    size.className = "hint";
    size.textContent = sizeOf(f.sizeInBytes);
    item.append(link, size, ...more(f));
    return item;
  }));
}

const at = (value, path) => path.split(".").reduce((v, key) => v?.[key], value);

function watch(box) {
  const draw = (status) => {
    for (const el of box.querySelectorAll("[data-field]")) el.textContent = at(status, el.dataset.field) ?? 0;
    const max = status.maxConcurrentSessions || 1;
    const width = (n) => String(Math.min(1000, (1000 * n) / max));
    const bar = box.querySelector(".bar");
    if (bar) {
      bar.querySelector(".claimed").setAttribute("width", width(status.claimed));
      bar.querySelector(".ready").setAttribute("width", width(status.claimed + status.ready));
      bar.querySelector(".starting").setAttribute("width", width(status.claimed + status.ready + status.starting));
      bar.setAttribute("aria-label", `${status.claimed} sessions, ${status.ready} ready, ${status.starting} starting, of at most ${max}`);
    }
  };
  return async () => {
    const response = await api(box.dataset.status + "?" + version);
    if (signedOut(response)) draw(await response.json());
  };
}

async function follow(list) {
  let after = 0;
  for (;;) {
    const response = await api(`${list.dataset.events}?${version}&after=${after}&wait=${after ? 20 : 0}`).catch(() => undefined);
    if (!response || response.status >= 500) { // the server is away for a moment
      await new Promise((done) => setTimeout(done, 5000));
      continue;
    }
    if (!signedOut(response)) return;
    const page = await response.json();
    if (!after) list.replaceChildren();
    for (const e of page.value) {
      const item = document.createElement("li");
      item.className = e.level;
      const time = document.createElement("time");
      time.textContent = e.time.replace("T", " ").slice(0, 19);
      const name = document.createElement("b");
      name.textContent = e.name;
      item.append(time, " ", name, " ", [e.outcome, e.message, e.error].filter(Boolean).join(" – "));
      list.prepend(item);
    }
    while (list.children.length > 200) list.lastChild.remove();
    after = page.next || after;
    if (document.hidden || !after) await new Promise((done) => setTimeout(done, 5000));
  }
}

const boxes = [...document.querySelectorAll("[data-status]")].map(watch);
if (boxes.length) {
  const each = Math.max(2000, 100 * boxes.length);
  const turn = async () => {
    if (!document.hidden) for (const box of boxes) await box().catch(() => {});
    setTimeout(turn, each);
  };
  turn();
}
for (const list of document.querySelectorAll("[data-events]")) follow(list).catch(() => {});

const form = document.getElementById("new-pool");
if (form) {
  const quote = (s) => (/^[\w./:@-]+$/.test(s) ? s : "'" + s.replaceAll("'", "'\\''") + "'");
  const update = () => {
    const v = Object.fromEntries(new FormData(form));
    const custom = v.type === "CustomContainer";
    for (const id of ["image", "port"]) form.elements[id].disabled = !custom;
    form.elements.history.disabled = custom;
    const kept = !custom && v.history === "on";
    const flags = [["--container-type", v.type], ["--max-sessions", v.max], ["--ready-sessions", v.ready], ["--cooldown-period", v.cooldown],
      ["--cpu", v.cpu], ["--memory", v.memory], ["--network-status", v.egress], ...(custom ? [["--image", v.image], ["--target-port", v.port]] : [])];
    const given = flags.filter(([, x]) => x).map(([f, x]) => ` ${f} ${quote(x)}`).join("");
    const name = v.name || "NAME";
    document.getElementById("command").textContent = `sandpool pool create ${quote(name)}${given}${kept ? " --history" : ""}`;
    document.getElementById("az").textContent =
      `az containerapp sessionpool create --name ${quote(name)} --resource-group ${form.dataset.group} --location ${quote(form.dataset.location)}${given}${kept ? `\n# az has no option for the history: sandpool pool update ${quote(name)} --history` : ""}`;
    const number = (x) => (x ? Number(x) : undefined);
    const resources = v.cpu || v.memory ? { cpu: number(v.cpu), memory: v.memory || undefined } : undefined;
    const resource = { location: form.dataset.location, properties: { containerType: v.type,
      scaleConfiguration: { maxConcurrentSessions: number(v.max), readySessionInstances: number(v.ready) },
      dynamicPoolConfiguration: { lifecycleConfiguration: { lifecycleType: "Timed", cooldownPeriodInSeconds: number(v.cooldown) } },
      sessionNetworkConfiguration: { status: v.egress },
      ...(custom ? { customContainerTemplate: { containers: [{ image: v.image || "", name: "main", resources }],
        ingress: v.port ? { targetPort: number(v.port) } : undefined } } : resources || kept ? { sandpool: { ...resources, ...(kept ? { history: { enabled: true } } : {}) } } : {}) } };
    document.getElementById("resource").textContent = JSON.stringify(resource, null, 2);
    const url = `${location.origin}${form.dataset.parent}/${name}?${version}`;
    const body = JSON.stringify(resource);
    document.getElementById("curl").textContent = `curl -X PUT -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\\n  '${url}' \\\n  -d ${quote(body)}`;
    document.getElementById("python").textContent = `import json, os, urllib.request\nrequest = urllib.request.Request(\n    ${JSON.stringify(url)},\n    method="PUT", data=json.dumps(json.loads(${JSON.stringify(body)})).encode(),\n    headers={"Authorization": "Bearer " + os.environ["TOKEN"], "Content-Type": "application/json"})\nprint(urllib.request.urlopen(request).read().decode())`;
  };
  form.addEventListener("input", update);
  update();
}

// Lines to copy have a button that does it.
for (const text of document.querySelectorAll("pre[data-copy]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "quiet copy";
  button.textContent = "Copy";
  button.setAttribute("aria-label", "Copy: " + text.getAttribute("aria-label"));
  button.addEventListener("click", async () => {
    getSelection().selectAllChildren(text); // where a page may not copy, Ctrl-C does
    await navigator.clipboard?.writeText(text.textContent).then(() => {
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    }, () => {});
  });
  text.before(button);
}
