"use strict";
(() => {
  const period = 1000 * Number(document.body.dataset.refresh || 0);
  if (!period) return;

  /* Puts the header and the main part of a newer page in the place of those here; what was opened or closed stays so. */
  function renew(text) {
    const page = new DOMParser().parseFromString(text, "text/html");
    document.title = page.title;
    for (const name of ["header", "main"]) {
      const here = document.querySelector(name), newer = page.querySelector(name);
      if (!here || !newer) continue;
      for (const one of newer.querySelectorAll("details[id]")) {
        const known = document.getElementById(one.id);
        if (known) one.open = known.open;
      }
      if (here.innerHTML === newer.innerHTML) continue;
      const focused = here.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      here.replaceChildren(...newer.childNodes);
      if (focused) here.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
    }
  }

  async function look() {
    if (!document.hidden) {
      let ended = false;
      try {
        const answer = await fetch(location.pathname, { cache: "no-store" });
        if (answer.ok) renew(await answer.text());
        else ended = true;
      } catch {
        ended = true;
      }
      const told = document.getElementById("ended");
      if (told && told.hidden === ended) told.hidden = !ended;
    }
    setTimeout(look, period);
  }
  setTimeout(look, period);
})();
