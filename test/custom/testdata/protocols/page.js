const seen = [];
(async () => {
  seen.push(await (await fetch("api/data?a=1;2")).text());
  const form = new FormData();
  form.append("x", "form");
  seen.push(await (await fetch("api/form", {method: "POST", body: form})).text());
  const ws = new WebSocket(new URL("ws", location.href).href.replace(/^http/, "ws").replace(/\?.*/, ""));
  seen.push(await new Promise(ok => {
    ws.onopen = () => ws.send("there and");
    ws.onmessage = m => ok(m.data);
    ws.onerror = () => ok("no WebSocket");
  }));
  const events = new EventSource("events");
  seen.push(await new Promise(ok => { events.onmessage = m => { events.close(); ok(m.data); }; }));
  seen.push(document.cookie === "" ? "no cookie" : document.cookie);
})().catch(e => seen.push(String(e)))
  .then(() => fetch("report", {method: "POST", body: seen.join(", ")}));
