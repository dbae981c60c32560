// Keeps a page current: fetches it every two seconds and changes only what differs, so that the
// keyboard's focus, the selection and the scroll position stay where they are.
"use strict";

(() => {
  const EVERY_MS = 2000;
  const PATIENCE_MS = 15000;
  const notice = document.getElementById("notice");
  const lamp = document.getElementById("live");
  let timer = 0;
  let current = new Date();

  async function refresh() {
    try {
      const answer = await fetch(location.href, {
        headers: { "X-Requested-With": "live" },
        signal: AbortSignal.timeout(PATIENCE_MS),
      });
      if (answer.status === 401) return location.reload(); // to the login, and back here
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (answer.ok) fresh(page);
      else stale(page.getElementById("message")?.textContent);
    } catch {
      stale("The dashboard does not answer.");
    }
    wait();
  }

  function fresh(page) {
    current = new Date();
    morph(document.getElementById("main"), page.getElementById("main"));
    document.title = page.title;
    report("", "live");
  }

  function stale(reason) {
    const time = current.toLocaleTimeString();
    report(`${reason || "Something is wrong."} Shown as of ${time}; trying again.`, "stale");
  }

  function report(words, state) {
    if (notice.textContent !== words) notice.textContent = words;
    lamp.textContent = state;
    document.body.classList.toggle("stale", state === "stale");
  }

  function wait() {
    clearTimeout(timer);
    if (document.hidden) lamp.textContent = "paused";
    else timer = setTimeout(refresh, EVERY_MS);
  }

  // Make `old` equal to `target`, touching nothing that is equal already.
  function morph(old, target) {
    if (old.nodeType === Node.TEXT_NODE) {
      if (old.data !== target.data) old.data = target.data;
      return;
    }
    for (const { name } of [...old.attributes])
      if (!target.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of target.attributes)
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    morphChildren(old, target);
  }

  function morphChildren(old, target) {
    const byId = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
    let next = old.firstChild;
    for (const child of [...target.childNodes]) {
      const match = byId.get(child.id) ?? (isAlike(next, child) ? next : null);
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

  function isAlike(node, target) {
    return node && node.nodeName === target.nodeName && !node.id && !target.id;
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (document.hidden) wait();
    else refresh();
  });
  wait();
})();
