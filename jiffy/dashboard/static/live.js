// Keeps a page current: asks for what has changed and touches only what differs, so that the
// keyboard's focus, what is selected and the scroll position stay where they are.  Also the keys, and
// completion in the filter box.  Every page is whole without it.
"use strict";

(() => {
  const PATIENCE_MS = 15000;
  const PARTS = ["strip", "banners", "main"];
  const UNITS = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
  const byId = (id) => document.getElementById(id);
  const notice = byId("notice"), lamp = byId("live"), every = byId("every");
  let timer = 0, current = new Date(), tag = "", x = -1, y = -1, arrived = null, arrivedAt = 0, stood = new Map(), changedAt = 0, skew = 0;

  // Live

  async function refresh() {
    try {
      const headers = { "X-Requested-With": "live" };
      if (tag) headers["If-None-Match"] = tag;
      const answer = await fetch(location.href, { headers, redirect: "manual", signal: AbortSignal.timeout(PATIENCE_MS) });
      learn(answer.headers.get("Date"));
      // To the login, ours or that of a proxy, and back here.
      if (answer.status === 401 || answer.type === "opaqueredirect") return location.reload();
      if (answer.status === 304) fresh(null);
      else {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        if (answer.ok && page.getElementById("main")) { // a proxy may say something of its own
          if (byId("message")) return location.reload(); // what stands here was only an error
          tag = answer.headers.get("ETag") ?? "";
          fresh(page);
        } else stale(page.getElementById("message")?.textContent);
      }
    } catch {
      stale("The dashboard does not answer.");
    }
    wait();
  }

  function fresh(page) {
    current = new Date();
    if (page) {
      localize(page);
      const aimed = underPointer(), row = document.querySelector("tbody tr:hover, tbody tr:focus-within");
      const top = row?.getBoundingClientRect().top;
      // What stood before the first of several changes in a row.
      if (Date.now() - changedAt > 500) stood = new Map([...document.querySelectorAll("button, a, summary, input, label")].map((node) => [node, node.getBoundingClientRect()]));
      const follows = isAtEnd(log());
      for (const id of PARTS) if (byId(id) && page.getElementById(id)) morph(byId(id), page.getElementById(id));
      if (follows) toEnd(log());
      // The row under the pointer stays under it.
      if (row?.isConnected) scrollBy({ top: row.getBoundingClientRect().top - top, behavior: "instant" });
      if (underPointer() !== aimed) [arrived, arrivedAt] = [underPointer(), Date.now()];
      changedAt = Date.now();
      document.title = page.title;
      count();
    } else localize(document);
    report("", "live");
  }

  // Of a log that grows, the newest lines are shown, unless a person has scrolled up.
  const log = () => document.querySelector(".log");
  const isAtEnd = (log) => !log || log.scrollTop + log.clientHeight > log.scrollHeight - 20;
  const toEnd = (log) => log && (log.scrollTop = log.scrollHeight);

  // A click in the half second after another button, or box, has come under the pointer was not meant for it.
  const clickable = (node) => node?.closest("button, a, summary, input");
  const underPointer = () => clickable(document.elementFromPoint(x, y));
  document.addEventListener("pointermove", (event) => ({ clientX: x, clientY: y } = event));
  document.addEventListener("click", (event) => {
    if (event.detail && arrived && clickable(event.target) === arrived && Date.now() - arrivedAt < 500) event.preventDefault();
    if (event.pointerType === "touch" && clickable(event.target) && Date.now() - changedAt < 500 && !didStand(event)) event.preventDefault();
  }, true);

  // Whether a finger, which is nowhere before it taps, would have hit the same before the change.
  function didStand({ target, clientX: x, clientY: y }) {
    const { left, right, top, bottom } = stood.get(target.closest("label") ?? clickable(target)) ?? {};
    return left - 4 < x && x < right + 4 && top - 4 < y && y < bottom + 4;
  }

  function stale(reason) {
    const time = current.toLocaleTimeString();
    tag = "";
    report(`${reason || "Something is wrong."} Shown as of ${time}; trying again.`, "stale");
  }

  function report(words, state) {
    if (notice.textContent !== words) notice.textContent = words;
    lamp.textContent = state;
    document.body.classList.toggle("stale", state === "stale");
  }

  function wait() {
    clearTimeout(timer);
    const seconds = every ? Number(every.value) : 2;
    if (document.hidden) lamp.textContent = "paused";
    else if (!seconds) lamp.textContent = "off";
    else timer = setTimeout(refresh, seconds * 1000);
  }

  // Make `old` equal to `target`, touching nothing that is equal already.
  function morph(old, target) {
    if (old.nodeType === Node.TEXT_NODE) {
      if (old.data !== target.data) old.data = target.data;
      return;
    }
    for (const { name } of [...old.attributes])
      if (!target.hasAttribute(name) && !isOurs(old, name)) old.removeAttribute(name);
    for (const { name, value } of target.attributes)
      if (old.getAttribute(name) !== value && !isOurs(old, name)) old.setAttribute(name, value);
    morphChildren(old, target);
  }

  // What a person has opened, and what this script shows.
  function isOurs(node, name) {
    return (name === "open" && node.localName === "details") || name === "hidden";
  }

  function morphChildren(old, target) {
    const known = new Map([...old.children].filter(idOf).map((child) => [idOf(child), child]));
    const children = [...target.childNodes];
    let next = old.firstChild;
    for (const [place, child] of children.entries()) {
      // What is not there any more makes room, so that what follows it stays itself.
      while (next && !isAlike(next, child) && (next.nodeType === Node.TEXT_NODE || !children.slice(place + 1).some((later) => isAlike(next, later)))) {
        const gone = next;
        next = next.nextSibling;
        gone.remove();
      }
      // Two may have one id: each stands for itself.
      const match = isAlike(next, child) ? next : known.get(idOf(child));
      if (known.get(idOf(child)) === match) known.delete(idOf(child));
      if (!match) {
        old.insertBefore(document.importNode(child, true), next);
        continue;
      }
      if (match === next) next = next.nextSibling;
      else old.insertBefore(match, next);
      morph(match, child);
    }
    while (next) {
      const rest = next.nextSibling;
      next.remove();
      next = rest;
    }
  }

  // Not `node.id`: of a form, that is its field of this name.
  function idOf(node) {
    return node.getAttribute?.("id");
  }

  function isAlike(node, target) {
    if (!node || node.nodeName !== target.nodeName || idOf(node) !== idOf(target)) return false;
    return idOf(node) || sends(node) === sends(target);
  }

  // What a form does, or those that a person has unfolded: a button that is about to be pressed must
  // not become another.
  function sends(node) {
    if (node.localName === "details") return [...node.querySelectorAll("form")].map(sends).join();
    return node.localName === "form" ? [node.getAttribute("action"), ...[...node.querySelectorAll("[type=hidden]:not([name=asked])")].map((field) => field.defaultValue)].join() : "";
  }

  // Times: relative as of now, and on hover exact in the person's own zone

  // What time it is for the server: this machine's clock may be minutes off.
  function learn(written) {
    const off = Date.parse(written) - Date.now();
    if (off) skew = Math.abs(off) < 5000 ? 0 : off;
  }

  function localize(root) {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const moment = new Date(time.dateTime), past = Math.round((Date.now() + skew - moment) / 1000);
      if (time.classList.contains("since")) setText(time, units(Math.max(0, past), 2));
      else if (!time.classList.contains("exact"))
        setText(time, past > 0 ? `${units(past, 1)} ago` : past < 0 ? `in ${units(-past, 1)}` : "now");
      const zoned = moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
      if (!time.title.includes(zoned)) time.title = `${zoned} · ${time.title}`;
    }
  }

  function setText(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }

  function units(seconds, most) {
    const parts = [];
    for (const [unit, size] of UNITS)
      if (seconds >= size && parts.length < most) {
        parts.push(Math.floor(seconds / size) + unit);
        seconds %= size;
      }
    return parts.join("") || "0s";
  }

  // Selecting rows

  const boxes = () => [...document.querySelectorAll("tbody input[type=checkbox]")];

  function count() {
    const chosen = boxes().filter((box) => box.checked).length;
    for (const output of document.querySelectorAll("[data-count]"))
      setText(output, chosen ? `${chosen} selected` : output.dataset.count);
    const all = byId("all");
    if (all) {
      all.hidden = false;
      all.checked = chosen > 0 && chosen === boxes().length;
      all.indeterminate = chosen > 0 && !all.checked;
    }
  }

  document.addEventListener("change", ({ target }) => {
    if (target.id === "all") for (const box of boxes()) box.checked = target.checked;
    if (target === every) {
      localStorage.setItem("every", every.value);
      refresh();
    }
    count();
  });

  // A double click sends a form once

  const sent = new WeakSet();

  document.addEventListener("submit", (event) => {
    if (event.target.getAttribute("method") !== "post") return;
    if (sent.has(event.target)) event.preventDefault();
    sent.add(event.target);
    setTimeout(() => sent.delete(event.target), 2000);
  });

  // Keys

  document.addEventListener("keydown", (event) => {
    const at = event.target;
    if (event.ctrlKey || event.metaKey || event.altKey || at.closest("textarea, select, dialog, input:not([type=checkbox])")) return;
    const action = { "/": find, j: () => step(1), k: () => step(-1), x: select, r: retry, "?": help }[event.key];
    if (action && action() !== false) event.preventDefault();
  });

  function find() {
    const box = byId("filter"), link = document.querySelector("nav a[href$='/jobs']");
    if (box) box.focus();
    else if (link) location.href = `${link.href}#filter`;
  }

  const rows = () => [...document.querySelectorAll("main tbody tr")].filter((row) => row.querySelector("a"));
  const row = () => document.activeElement?.closest("main tbody tr");

  function step(by) {
    const all = rows(), next = all[all.indexOf(row()) + by] ?? (row() ? null : all[0]);
    next?.querySelector("a").focus();
    next?.scrollIntoView({ block: "nearest" });
  }

  function select() {
    row()?.querySelector("input[type=checkbox]")?.click();
  }

  function retry() {
    const button = document.querySelector("main [data-key=r]");
    if (!button) return false;
    if (boxes().length && !boxes().some((box) => box.checked)) select();
    if (!boxes().length || boxes().some((box) => box.checked)) button.click();
  }

  const help = () => byId("keys")?.showModal();

  // Completion: a list's options stand for the last word in the box

  const box = byId("filter");
  if (box) {
    const list = box.list, terms = [...list.options].map((option) => option.value);
    box.addEventListener("input", () => {
      const [, before, last] = box.value.match(/^(.*\s)?(\S*)$/s);
      const fitting = terms.filter((term) => term.startsWith(last) && term !== last).slice(0, 20);
      list.replaceChildren(...fitting.map((term) => Object.assign(document.createElement("option"), { value: (before ?? "") + term })));
    });
    if (location.hash === "#filter") box.focus();
  }

  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(byId(button.dataset.copy).textContent);
      button.textContent = "Copied";
    });
  }

  if (every) {
    every.value = localStorage.getItem("every") ?? "2";
    every.hidden = false;
  }
  learn(document.body.dataset.now);
  localize(document);
  count();
  toEnd(document.querySelector(".log.grows"));
  if (lamp) {
    report("", byId("message") ? "stale" : "live"); // without this script, no page is live
    wait();
    document.addEventListener("visibilitychange", () => {
      clearTimeout(timer);
      if (document.hidden) wait();
      else refresh();
    });
  }
})();
