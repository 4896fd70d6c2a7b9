// A playground as somebody else sees it: the cells of its owner, with nothing to press.
"use strict";
const shared = document.getElementById("shared");
let known = "";

function show(cells) {
  document.getElementById("cells").replaceChildren(...cells.map((c, i) => {
    const cell = document.createElement("section");
    cell.className = "cell";
    cell.setAttribute("aria-label", "Cell " + (i + 1));
    const code = document.createElement("pre");
    code.className = "code";
    code.tabIndex = 0;
    code.textContent = c.code;
    const status = document.createElement("p");
    status.className = "hint row";
    status.textContent = c.status || "has not run";
    const out = document.createElement("div");
    out.className = "output";
    const output = new Output(out);
    for (const event of c.events) output.take(event);
    cell.append(code, status, out);
    return cell;
  }));
}

async function look() {
  for (;;) {
    if (!document.hidden) {
      const response = await fetch(`${shared.dataset.path}/board?version=${known}`).catch(() => undefined);
      const state = document.getElementById("state");
      if (response?.status === 410) {
        state.textContent = "The owner has ended this link.";
        return;
      }
      if (response?.ok) {
        const board = await response.json();
        state.textContent = board.began ? "The session runs." : "There is no session now.";
        if (board.cells) {
          show(board.cells);
          const files = (board.files ?? []).map((f) => {
            const item = document.createElement("li");
            item.textContent = `${f.name} (${sizeOf(f.sizeInBytes)})`;
            return item;
          });
          document.getElementById("files").replaceChildren(...files);
        }
        known = String(board.version);
      } else state.textContent = "The server does not answer.";
    }
    await new Promise((done) => setTimeout(done, 1500));
  }
}
look();
