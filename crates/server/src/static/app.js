// Makes pages live. Everything here works without it, but for what moves by itself.
"use strict";

// An activation link's secret goes out of the address bar and into the form.
const fromLink = document.querySelector("[data-from-link]");
if (fromLink && location.hash.length > 1) {
  fromLink.value = location.hash.slice(1);
  fromLink.readOnly = true;
  history.replaceState(null, "", location.pathname);
  document.getElementById("password").focus();
}

// What cannot be taken back is asked about first.
document.addEventListener("submit", (event) => {
  const asks = event.submitter?.dataset.ask || event.target.dataset.ask;
  if (asks && !confirm(asks)) event.preventDefault();
});

// Rows that are ticked, for one act on all of them; ticks outlive the renewal of the table.
const ticked = new Set();
const bulk = document.querySelector("[data-bulk]");
function showTicked() {
  const boxes = [...bulk.querySelectorAll("input[type=checkbox]")];
  const there = new Set(boxes.map((box) => box.value));
  for (const id of ticked) if (!there.has(id)) ticked.delete(id);
  for (const box of boxes) box.checked = ticked.has(box.value);
  bulk.querySelector("input[name=ids]").value = [...ticked].join(",");
  const acts = bulk.querySelector("[data-bulk-acts], [data-bulk-button]");
  if (acts) acts.hidden = ticked.size === 0;
  const count = bulk.querySelector("[data-bulk-count]");
  if (count) count.textContent = `${ticked.size} ticked`;
}
if (bulk) {
  bulk.addEventListener("change", (event) => {
    if (event.target.type !== "checkbox") return;
    if (event.target.checked) ticked.add(event.target.value);
    else ticked.delete(event.target.value);
    showTicked();
  });
  // The browser may have kept ticks of an earlier look at this page.
  for (const box of bulk.querySelectorAll("input[type=checkbox]:checked")) ticked.add(box.value);
  showTicked();
}

// Parts of a page that renew themselves while it is looked at: those of one address with one question, until the answer says no more of it.
function renewPart(part, now) {
  if (now.dataset.live) part.dataset.live = now.dataset.live;
  else delete part.dataset.live;
  if (now.innerHTML === part.innerHTML) return;
  const at = document.activeElement;
  const aside = [...part.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
  const key = (one) => one.getAttribute("href") || one.value || one.getAttribute("aria-label");
  const focused = at !== part && part.contains(at) ? key(at) : null;
  part.replaceChildren(...now.childNodes);
  [...part.querySelectorAll(".scroll")].forEach((box, number) => (box.scrollLeft = aside[number] ?? 0));
  if (bulk && bulk.contains(part)) showTicked();
  if (focused) [...part.querySelectorAll("a, input, button, [tabindex]")].find((one) => key(one) === focused)?.focus();
}
async function renew(address, parts) {
  const answer = await fetch(address, { headers: { accept: "text/html" } });
  if (answer.redirected && new URL(answer.url).pathname === "/sign-in") {
    location.href = answer.url;
    return;
  }
  // What may not be seen any more is not asked for again.
  if ([403, 404].includes(answer.status)) for (const part of parts) delete part.dataset.live;
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of parts) {
    const now = page.getElementById(part.id);
    if (now) renewPart(part, now);
  }
}
let renewing = false;
async function renewAll() {
  if (document.hidden || renewing) return;
  renewing = true;
  const addresses = new Map();
  for (const part of document.querySelectorAll("[data-live]")) {
    addresses.set(part.dataset.live, [...(addresses.get(part.dataset.live) ?? []), part]);
  }
  try {
    await Promise.all([...addresses].map(([address, parts]) => renew(address, parts)));
  } catch {
    // The server is away; the next turn tries again.
  }
  renewing = false;
  if (!document.querySelector("[data-live]")) clearInterval(turns);
}
const turns = setInterval(renewAll, 900);
document.addEventListener("visibilitychange", renewAll);

// By keyboard: j and k go through the rows, x ticks one, / goes to the filter.
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input:not([type=checkbox]), select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") {
    const field = document.querySelector('[data-key="/"]');
    if (field) {
      event.preventDefault();
      field.focus();
    }
  } else if (event.key === "j" || event.key === "k") {
    const rows = [...document.querySelectorAll("table.list tbody tr")].map((row) => row.querySelector("a")).filter(Boolean);
    if (rows.length === 0) return;
    const row = document.activeElement.closest("tr");
    const at = rows.findIndex((link) => link === document.activeElement || (row && link.closest("tr") === row));
    const to = at < 0 ? 0 : Math.min(rows.length - 1, Math.max(0, at + (event.key === "j" ? 1 : -1)));
    rows[to].focus();
  } else if (event.key === "x") {
    document.activeElement.closest("tr")?.querySelector("input[type=checkbox]")?.click();
  }
});

// Text that is shown once, to the clipboard.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
  button.textContent = "Copied";
});

// The line of a configuration that a problem is about.
const wrong = document.querySelector("[data-line]");
if (wrong) {
  const lines = wrong.value.split("\n");
  const start = lines.slice(0, wrong.dataset.line - 1).reduce((sum, line) => sum + line.length + 1, 0);
  wrong.focus({ preventScroll: true });
  wrong.setSelectionRange(start, start + (lines[wrong.dataset.line - 1]?.length ?? 0));
}

// A log that is followed: lines are fetched as they are written, from the last one that is there.
const LOG_LINES_MAX = 20000;
const log = document.querySelector("[data-log]");
if (log) {
  const status = document.getElementById("log-status");
  const pause = document.getElementById("log-pause");
  const find = document.getElementById("log-find");
  const box = log.parentElement;
  let waiting = [];
  let paused = "logWaits" in log.dataset;
  let source = null;
  const wanted = () => find?.value.toLowerCase() ?? "";
  const add = (line, text, into) => {
    const row = document.createElement("div");
    row.className = "line " + line.stream;
    row.id = "L" + line.number;
    const number = document.createElement("span");
    number.className = "n";
    number.textContent = line.number;
    const words = document.createElement("span");
    words.className = "t";
    // Colours of terminals are left out.
    words.textContent = line.text.replace(/\x1b\[[0-9;]*[A-Za-z]/g, "");
    row.append(number, words);
    row.hidden = text !== "" && !words.textContent.toLowerCase().includes(text);
    into.append(row);
  };
  const flush = () => {
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    const rows = document.createDocumentFragment();
    const text = wanted();
    for (const line of waiting) add(line, text, rows);
    log.append(rows);
    waiting = [];
    while (log.childElementCount > LOG_LINES_MAX) log.firstElementChild.remove();
    if (atEnd) box.scrollTop = box.scrollHeight;
  };
  const say = (text) => {
    status.textContent = text;
  };
  const follow = () => {
    source = new EventSource(log.dataset.log);
    source.addEventListener("open", () => say(paused ? "paused" : "following"));
    source.addEventListener("message", (event) => {
      for (const line of JSON.parse(event.data)) waiting.push(line);
      if (waiting.length > LOG_LINES_MAX) waiting = waiting.slice(-LOG_LINES_MAX);
      if (!paused) flush();
      else say(`paused; ${waiting.length} more lines`);
    });
    source.addEventListener("end", () => {
      source.close();
      if (pause) pause.hidden = waiting.length === 0;
      say(waiting.length === 0 ? "ended" : `ended; paused before the last ${waiting.length} lines`);
    });
    source.addEventListener("failure", (event) => {
      source.close();
      say(JSON.parse(event.data).message);
    });
    source.addEventListener("error", () => say("connection lost; trying again"));
  };
  box.scrollTop = box.scrollHeight;
  if (log.dataset.log && !paused) follow();
  pause?.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Follow" : "Pause";
    pause.setAttribute("aria-pressed", paused);
    say(paused ? "paused" : "following");
    if (paused) return;
    if (!source) follow();
    flush();
    box.scrollTop = box.scrollHeight;
    if (source.readyState === EventSource.CLOSED) {
      pause.hidden = true;
      say("ended");
    }
  });
  // What is here is looked through as one types; all of the log is searched by the form.
  find?.addEventListener("input", () => {
    const text = wanted();
    for (const row of log.children) row.hidden = text !== "" && !row.lastElementChild.textContent.toLowerCase().includes(text);
  });
}

// Where menu and tabs are wider than a telephone, the entry that one is at comes into view.
for (const bar of document.querySelectorAll(".top nav, .tabs")) {
  const here = bar.querySelector("[aria-current=page]");
  if (here) bar.scrollLeft = here.offsetLeft - bar.offsetLeft - (bar.clientWidth - here.offsetWidth) / 2;
}
