"use strict";

// Tables of boards: a filter by name, and two models side by side with their difference. Without this script the tables are whole.
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("table[data-board]")) enhance(table);
});

function enhance(table) {
  const heads = [...table.tHead.rows[0].cells];
  const first = heads.findIndex((head) => head.querySelector("a[href^='model-']"));
  const models = heads.slice(first).map((head) => head.textContent);
  const tools = document.createElement("div");
  tools.className = "board-tools";
  const filter = document.createElement("input");
  filter.type = "search";
  filter.placeholder = "Filter numbers";
  filter.setAttribute("aria-label", "Filter numbers");
  const count = document.createElement("output");
  tools.append(filter);
  const choices = models.length > 1 ? ["A", "B"].map((name) => choice(name, models)) : [];
  for (const one of choices) tools.append(one);
  tools.append(count);
  const before = table.closest(".md-typeset__scrollwrap") || table;
  before.before(tools);
  const shown = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const row of table.tBodies[0].rows) {
      const name = [...row.cells].slice(0, first).map((cell) => cell.textContent).join(" ").toLowerCase();
      row.hidden = !words.every((word) => name.includes(word));
      left += !row.hidden;
    }
    count.textContent = `${left} of ${table.tBodies[0].rows.length}`;
  };
  filter.addEventListener("input", shown);
  for (const one of choices) one.addEventListener("change", () => compare(table, first, choices.map((each) => each.value)));
  shown();
}

function choice(name, models) {
  const select = document.createElement("select");
  select.setAttribute("aria-label", `Compare: model ${name}`);
  select.append(new Option(`compare: ${name}`, ""));
  models.forEach((model, place) => select.append(new Option(model, place)));
  return select;
}

// Shows two columns and their difference, or all columns where not both are chosen. chosen: places of models, as text.
function compare(table, first, chosen) {
  const both = chosen.every((one) => one !== "") && chosen[0] !== chosen[1];
  const places = chosen.map((one) => first + Number(one));
  for (const row of [table.tHead.rows[0], ...table.tBodies[0].rows]) {
    row.querySelector(".board-difference")?.remove();
    [...row.cells].forEach((cell, place) => {
      cell.hidden = both && place >= first && !places.includes(place);
    });
    if (!both) continue;
    const cell = document.createElement(row.parentElement.tagName === "THEAD" ? "th" : "td");
    cell.className = "board-difference";
    cell.textContent = cell.tagName === "TH" ? "B − A" : difference(row.cells[places[0]], row.cells[places[1]], row.dataset.better);
    row.append(cell);
  }
}

// "+3.1 better": the difference, and which way it is where the intervals are apart.
function difference(a, b, better) {
  if (!a.dataset.value || !b.dataset.value) return "";
  const gap = Number(b.dataset.value) - Number(a.dataset.value);
  const digits = Math.abs(gap) >= 10 || gap === 0 ? gap.toFixed(1) : String(Number(gap.toPrecision(3)));
  const text = `${gap > 0 ? "+" : ""}${digits.replace("-", "−")}`;
  if (!a.dataset.low || !b.dataset.low) return text;
  const apart = Number(b.dataset.low) > Number(a.dataset.high) || Number(b.dataset.high) < Number(a.dataset.low);
  if (!apart) return `${text} · intervals overlap`;
  return `${text} · ${gap > 0 === (better === "up") ? "better" : "worse"}`;
}
