// What a container answers, as a browser would show it: a page in the frame that runs and loads nothing, with
// the page's own styles and pictures fetched by the request builder and put into it.
"use strict";
const mostParts = 32, mostBytes = 4 << 20;

const dataOf = (blob) => new Promise((done, failed) => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result);
  reader.onerror = () => failed(reader.error);
  reader.readAsDataURL(blob);
});

// whole returns a page's HTML with what it would load from its own container. ask gets a path of the container.
async function whole(html, path, ask) {
  const page = new DOMParser().parseFromString(html, "text/html");
  const base = new URL(path, "http://container.invalid/");
  let left = mostBytes;
  const part = async (address) => {
    const url = new URL(address, base);
    if (url.origin !== base.origin) return undefined;
    const response = await ask(url.pathname, url.search);
    if (!response.ok || Number(response.headers.get("content-length")) > left) return undefined;
    const blob = await response.blob();
    left -= blob.size;
    return left < 0 ? undefined : blob;
  };
  const parts = [...page.querySelectorAll("link[rel~=stylesheet][href], img[src]")].slice(0, mostParts);
  for (const el of parts) {
    const image = el.localName === "img";
    const blob = await part(el.getAttribute(image ? "src" : "href")).catch(() => undefined);
    if (!blob) continue;
    if (image) { el.src = await dataOf(blob); continue; }
    const style = page.createElement("style");
    style.textContent = await blob.text();
    el.replaceWith(style);
  }
  for (const el of page.querySelectorAll("script")) el.remove(); // which would not run
  return page.documentElement.outerHTML;
}

// viewOf returns the element that shows an answer, or undefined if there is nothing to look at.
async function viewOf(blob, type, path, ask) {
  if (blob.size > mostBytes) return undefined;
  if (/^text\/html\b/i.test(type)) {
    const frame = frameOf(await whole(await blob.text(), path, ask));
    frame.title = "The container's page";
    return frame;
  }
  if (!/^image\//i.test(type)) return undefined;
  const img = document.createElement("img");
  img.alt = "The container's picture";
  img.src = await dataOf(blob);
  return img;
}
