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
  for (const box of bulk.querySelectorAll("input[type=checkbox]")) box.checked = ticked.has(box.value);
  const there = new Set([...bulk.querySelectorAll("input[type=checkbox]")].map((box) => box.value));
  for (const id of ticked) if (!there.has(id)) ticked.delete(id);
  bulk.querySelector("input[name=ids]").value = [...ticked].join(",");
  const button = bulk.querySelector("[data-bulk-button]");
  if (button) button.hidden = ticked.size === 0;
}
if (bulk) {
  bulk.addEventListener("change", (event) => {
    if (event.target.type !== "checkbox") return;
    if (event.target.checked) ticked.add(event.target.value);
    else ticked.delete(event.target.value);
    showTicked();
  });
}

// Parts of a page that renew themselves while it is looked at.
async function renew(part) {
  if (document.hidden) return;
  try {
    const answer = await fetch(part.dataset.live, { headers: { accept: "text/html" } });
    if (answer.redirected && new URL(answer.url).pathname === "/sign-in") {
      location.href = answer.url;
      return;
    }
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const now = page.getElementById(part.id);
    if (!now || now.innerHTML === part.innerHTML) return;
    const at = document.activeElement;
    const aside = [...part.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
    const link = part.contains(at) ? at.getAttribute("href") || at.value : null;
    part.replaceChildren(...now.childNodes);
    [...part.querySelectorAll(".scroll")].forEach((box, number) => (box.scrollLeft = aside[number] ?? 0));
    if (bulk && bulk.contains(part)) showTicked();
    if (link) {
      for (const one of part.querySelectorAll("a, input")) {
        if ((one.getAttribute("href") || one.value) === link) {
          one.focus();
          break;
        }
      }
    }
  } catch {
    // The server is away; the next turn tries again.
  }
}
for (const part of document.querySelectorAll("[data-live]")) setInterval(renew, 2000, part);

// By keyboard: j and k go through the rows, / to the filter.
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") {
    const field = document.querySelector('[data-key="/"]');
    if (field) {
      event.preventDefault();
      field.focus();
    }
  } else if (event.key === "j" || event.key === "k") {
    const rows = [...document.querySelectorAll("table.list tbody a")];
    if (rows.length === 0) return;
    const at = rows.indexOf(document.activeElement);
    const to = at < 0 ? 0 : Math.min(rows.length - 1, Math.max(0, at + (event.key === "j" ? 1 : -1)));
    rows[to].focus();
  }
});

// Text that is shown once, to the clipboard.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
  button.textContent = "Copied";
});

// A log that is followed: lines are fetched as they are written, from the last one that is there.
const log = document.querySelector("[data-log]");
if (log) {
  const status = document.getElementById("log-status");
  const pause = document.getElementById("log-pause");
  const find = document.getElementById("log-find");
  const box = log.parentElement;
  let waiting = [];
  let paused = false;
  const fits = (text) => !find?.value || text.toLowerCase().includes(find.value.toLowerCase());
  const add = (line) => {
    const row = document.createElement("div");
    row.className = "line " + line.stream;
    row.id = "L" + line.number;
    const number = document.createElement("span");
    number.className = "n";
    number.textContent = line.number;
    const text = document.createElement("span");
    text.className = "t";
    // Colours of terminals are left out.
    text.textContent = line.text.replace(/\x1b\[[0-9;]*[A-Za-z]/g, "");
    row.append(number, text);
    row.hidden = !fits(text.textContent);
    log.append(row);
  };
  const flush = () => {
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    waiting.forEach(add);
    waiting = [];
    while (log.childElementCount > 20000) log.firstElementChild.remove();
    if (atEnd) box.scrollTop = box.scrollHeight;
  };
  const say = (text) => {
    status.textContent = text;
  };
  const source = new EventSource(log.dataset.log);
  source.addEventListener("open", () => say("following"));
  source.addEventListener("message", (event) => {
    waiting.push(...JSON.parse(event.data));
    if (!paused) flush();
    else say(`paused; ${waiting.length} more lines`);
  });
  source.addEventListener("end", () => {
    source.close();
    say("ended");
  });
  source.addEventListener("failure", (event) => {
    source.close();
    say(JSON.parse(event.data).message);
  });
  source.addEventListener("error", () => say("connection lost; trying again"));
  pause?.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Follow" : "Pause";
    pause.setAttribute("aria-pressed", paused);
    if (!paused) flush();
    say(paused ? "paused" : "following");
  });
  find?.addEventListener("input", () => {
    for (const row of log.children) row.hidden = !fits(row.lastElementChild.textContent);
  });
  document.getElementById("log-error")?.addEventListener("click", () => {
    const first = [...log.children].find((row) => /error|exception|traceback|panic|fatal/i.test(row.textContent));
    if (first) {
      first.scrollIntoView({ block: "center" });
      first.classList.add("found");
    } else say("no line speaks of an error");
  });
}
