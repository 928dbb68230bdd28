// Keeps the page up to date: it asks for the page again and puts in what has
// changed. All that is shown is made by the server; without this script the page
// is the same, and refreshed by the browser.
"use strict";

const every = 1000; // ms
const state = document.getElementById("state");

function say(text, lost) {
  if (state.textContent !== text) state.textContent = text;
  state.classList.toggle("lost", lost);
}

function put(fresh) {
  for (const now of document.querySelectorAll("[data-live]")) {
    const next = fresh.querySelector(`[data-live="${now.dataset.live}"]`);
    if (!next || next.innerHTML === now.innerHTML) continue;
    const selection = document.getSelection();
    if (!selection.isCollapsed && selection.containsNode(now, true)) continue; // somebody copies from it
    const left = now.scrollLeft;
    now.replaceChildren(...next.childNodes);
    now.scrollLeft = left;
  }
}

async function update() {
  try {
    const r = await fetch(location.pathname + location.search, { signal: AbortSignal.timeout(10 * every) });
    if (!r.ok) throw new Error(r.status);
    const fresh = new DOMParser().parseFromString(await r.text(), "text/html");
    put(fresh);
    say("live", false);
  } catch {
    say("not updated since the server was lost", true);
  }
}

async function run() {
  for (;;) {
    if (!document.hidden) await update();
    await new Promise((done) => setTimeout(done, every));
  }
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) update(); });
run();
