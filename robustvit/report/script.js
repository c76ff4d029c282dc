"use strict";

// Sorting: numbers by value, text in natural order, missing values last.
const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

function compare(a, b, sign) {
  const missing = (x) => x === "" || x === null || x === undefined;
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  return sign * (typeof a === "number" && typeof b === "number" ? a - b : collator.compare(a, b));
}

function toggleSort(head) {
  const first = head.dataset.first || "ascending";
  const other = first === "ascending" ? "descending" : "ascending";
  const next = head.getAttribute("aria-sort") === first ? other : first;
  for (const one of head.parentElement.children) if (one.hasAttribute("aria-sort")) one.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", next);
  return next === "ascending" ? 1 : -1;
}

function onSort(table, apply) {
  table.tHead.addEventListener("click", (event) => {
    const head = event.target.closest("button") && event.target.closest("th");
    if (head) apply(head.cellIndex, toggleSort(head));
  });
}

function filterOf(form) {
  const fields = Object.fromEntries(new FormData(form));
  const words = (fields.text || "").toLowerCase().split(/\s+/).filter(Boolean);
  delete fields.text;
  delete fields.sort;
  return { words, fields: Object.entries(fields).filter(([, value]) => value) };
}

function onFilter(form, apply) {
  form.addEventListener("input", apply);
  form.addEventListener("change", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
}

function ranking(table) {
  const body = table.tBodies[0];
  const form = document.querySelector('form[data-for="ranking"]');
  const key = (row, column) => {
    const cell = row.cells[column];
    if (!("sort" in cell.dataset)) return cell.textContent.trim();
    return cell.dataset.sort === "" ? "" : Number(cell.dataset.sort);
  };
  const original = [...body.rows];
  const sort = (column, sign) => body.append(...[...body.rows].sort((a, b) => compare(key(a, column), key(b, column), sign)));
  onSort(table, sort);
  form.elements.sort.addEventListener("change", ({ target }) => {
    const head = table.tHead.rows[0].cells[Number(target.value)];
    if (target.value) sort(head.cellIndex, head.dataset.first === "ascending" ? 1 : -1);
    else body.append(...original);
  });
  onFilter(form, () => {
    const { words, fields } = filterOf(form);
    let shown = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !(words.every((word) => text.includes(word)) && fields.every(([name, value]) => row.dataset[name] === value));
      shown += !row.hidden;
    }
    form.querySelector("output").textContent = shown === body.rows.length ? "" : `${shown} of ${body.rows.length}`;
  });
}

// A table of many rows is stored by column and drawn one page at a time.
function tidy(table, packed) {
  const PAGE = 100;
  const form = document.querySelector('form[data-for="tidy"]');
  const pager = document.querySelector(".pager");
  const columns = packed.data.map((one) => one.v || one.i.map((i) => one.t[i]));
  const at = Object.fromEntries(packed.columns.map((name, i) => [name, i]));
  const numeric = packed.data.map((one) => Boolean(one.v));
  const count = columns.length ? columns[0].length : 0;
  const all = Array.from({ length: count }, (_, i) => i);
  let selected = all;
  let page = 0;
  let sorted = null;

  const show = (value, decimals) => (typeof value === "number" && decimals !== undefined ? value.toFixed(decimals) : typeof value !== "number" ? value ?? "" : Number.isInteger(value) ? value : value.toFixed(Math.abs(value) >= 1 ? 2 : 4));
  const make = (name, text, ...kinds) => {
    const element = document.createElement(name);
    element.textContent = text;
    element.classList.add(...kinds);
    return element;
  };

  const heads = table.tHead.insertRow();
  packed.columns.forEach((name, i) => {
    const head = make("th", "", ...(numeric[i] ? ["num"] : []));
    head.scope = "col";
    head.setAttribute("aria-sort", "none");
    const button = make("button", packed.titles?.[name] ?? name);
    button.type = "button";
    head.append(button);
    heads.append(head);
  });

  function draw() {
    const pages = Math.max(1, Math.ceil(selected.length / PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    const rows = selected.slice(page * PAGE, (page + 1) * PAGE).map((i) => {
      const row = document.createElement("tr");
      columns.forEach((column, c) => {
        const text = String(show(column[i], packed.decimals?.[packed.columns[c]]));
        const badge = packed.badges?.[packed.columns[c]]?.[text];
        const cell = make("td", badge ? "" : text, ...(numeric[c] ? ["num"] : text.length > 40 ? ["long"] : []));
        if (badge) cell.append(make("span", text, "badge", badge));
        if (!numeric[c] && text.length > 40) cell.title = text;
        row.append(cell);
      });
      return row;
    });
    table.tBodies[0].replaceChildren(...rows);
    form.querySelector("output").textContent = `${selected.length.toLocaleString("en")} of ${count.toLocaleString("en")} rows`;
    pager.hidden = pages === 1;
    pager.querySelector("span").textContent = `${page + 1} of ${pages}`;
    pager.querySelector('[data-step="-1"]').disabled = page === 0;
    pager.querySelector('[data-step="1"]').disabled = page === pages - 1;
  }

  function select() {
    const { words, fields } = filterOf(form);
    selected = all.filter(
      (i) =>
        fields.every(([name, value]) => columns[at[name]][i] === value) &&
        words.every((word) => columns.some((column) => String(column[i] ?? "").toLowerCase().includes(word))),
    );
    if (sorted) selected.sort((a, b) => compare(columns[sorted.column][a], columns[sorted.column][b], sorted.sign));
    page = 0;
    draw();
  }

  onSort(table, (column, sign) => {
    sorted = { column, sign };
    select();
  });
  pager.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    page += Number(button.dataset.step);
    draw();
    table.parentElement.scrollTop = 0;
  });
  form.querySelector(".csv").addEventListener("click", () => {
    const cell = (value) => (/[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
    const line = (i) => packed.all.map((name) => cell(String((name in at ? columns[at[name]][i] : packed.same[name]) ?? ""))).join(",");
    const text = [packed.all.join(","), ...selected.map(line)].join("\n") + "\n";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = packed.file ?? "leaderboard.csv";
    link.click();
    URL.revokeObjectURL(link.href);
  });
  onFilter(form, select);
  draw();
}

function tooltips(tip) {
  const place = (x, y) => {
    const box = tip.getBoundingClientRect();
    const left = Math.min(Math.max(8, x + 14), window.innerWidth - box.width - 8);
    const below = y + 18 + box.height < window.innerHeight;
    tip.style.left = `${left}px`;
    tip.style.top = `${below ? y + 18 : Math.max(8, y - box.height - 12)}px`;
  };
  const show = (event) => {
    const source = event.target.closest("[data-tip]");
    tip.hidden = !source;
    if (!source) return;
    tip.textContent = source.dataset.tip;
    place(event.clientX, event.clientY);
  };
  // The arrow keys go from one tooltip to the next in a figure or table that has the focus; Escape closes it.
  let tipped = null;
  const hide = () => {
    tip.hidden = true;
    if (tipped) tipped.classList.remove("tipped");
    tipped = null;
  };
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
    const home = document.activeElement;
    if (!(event.key in step) || !home || !home.matches(".scroll, .panel svg, .strips, .forest")) return;
    const all = [...home.querySelectorAll("[data-tip]")].filter((one) => one.getClientRects().length);
    if (!all.length) return;
    event.preventDefault();
    const next = tipped && all.includes(tipped) ? all.indexOf(tipped) + step[event.key] : 0;
    const source = all[Math.min(Math.max(next, 0), all.length - 1)];
    hide();
    source.scrollIntoView({ block: "nearest", inline: "nearest", behavior: "instant" });
    tipped = source;
    source.classList.add("tipped");
    tip.textContent = source.dataset.tip;
    tip.hidden = false;
    const box = source.getBoundingClientRect();
    place(box.left + box.width / 2, Math.min(box.bottom, box.top + 40));
  });
  document.addEventListener("focusout", hide);
  document.addEventListener("pointerover", show);
  document.addEventListener("pointermove", show);
  document.addEventListener("scroll", () => tipped || (tip.hidden = true), { passive: true });
}

function legends() {
  for (const button of document.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") === "false";
      button.setAttribute("aria-pressed", String(on));
      const place = button.closest(".curves, section");
      for (const curve of place.querySelectorAll(`.curve[data-slot="${button.dataset.slot}"]`)) {
        if (curve.closest(".curves, section") === place) curve.classList.toggle("off", !on);
      }
    });
  }
}

function copyButtons() {
  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", () => {
      const text = button.nextElementSibling;
      const done = () => {
        button.textContent = "copied";
        setTimeout(() => (button.textContent = "copy"), 1500);
      };
      const select = () => getSelection().selectAllChildren(text);
      if (navigator.clipboard) navigator.clipboard.writeText(text.textContent).then(done, select);
      else select();
    });
  }
}

if (document.getElementById("ranking")) ranking(document.getElementById("ranking"));
if (document.getElementById("tidy")) {
  tidy(document.getElementById("tidy"), JSON.parse(document.getElementById("tidy-data").textContent));
}
tooltips(document.getElementById("tip"));
legends();
copyButtons();
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => (one.open = true)));
