
// The list of samples: packed columns, and only those rows in the page that can be seen.
function sampleRows(packed) {
  const numbers = ({ bytes, data }) => {
    const text = atob(data);
    const raw = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) raw[i] = text.charCodeAt(i);
    return bytes === 2 ? new Int16Array(raw.buffer) : new Int32Array(raw.buffer);
  };
  return {
    ...packed,
    labels: numbers(packed.labels),
    cells: packed.cells.map((cell) => ({ ...cell, preds: numbers(cell.preds) })),
  };
}

function sampleList(section, load, count) {
  const ROW = 30;
  const TALLEST = 8e6; // pixels; browsers draw no element that is much taller
  const form = section.querySelector("form");
  const list = section.querySelector(".list");
  const fill = list.querySelector(".fill");
  const table = list.querySelector("table");
  const groups = Array(count).fill(null);
  let group = null;
  let selected = new Uint32Array(0);

  const name = (label) => (label < 0 ? "none" : (group.classes[label] ?? String(label)));
  const option = (value, text) => new Option(text, value);
  const choice = (field) => form.elements[field].value;

  // The cell of a column: chosen by itself, or on a page of two stores with the same cell of the other.
  const cellOf = (field) => (group.paired ? 2 * Number(choice("cell")) + (field === "b") : Number(choice(field)));

  function fields() {
    if (group.paired) pairFields();
    else cellFields();
    const present = [...new Set(group.labels)].sort((x, y) => x - y);
    form.elements.label.replaceChildren(option("", "all"), ...present.map((label) => option(label, name(label))));
  }

  function pairFields() {
    const first = group.cells.filter((_, i) => i % 2 === 0);
    const models = [...new Set(first.map((cell) => cell.model))];
    const parts = models.map((model) => {
      const part = document.createElement("optgroup");
      part.label = model;
      first.forEach((cell, i) => cell.model === model && part.append(option(i, `${cell.setting}${models.length > 1 ? ` · ${model}` : ""} (${group.changed[i].toLocaleString("en")} changed)`)));
      return part;
    });
    form.elements.cell.replaceChildren(...parts);
    form.elements.cell.value = String(group.changed.indexOf(Math.max(...group.changed)));
  }

  function cellFields() {
    for (const field of ["a", "b"]) {
      const models = [...new Set(group.cells.map((cell) => cell.model))];
      const parts = models.map((model) => {
        const part = document.createElement("optgroup");
        part.label = model;
        group.cells.forEach((cell, i) => cell.model === model && part.append(option(i, models.length > 1 ? `${cell.setting} · ${model}` : cell.setting)));
        return part;
      });
      form.elements[field].replaceChildren(...parts);
      if (field === "b" && group.cells.length > 1) form.elements[field].value = "1";
    }
  }

  function select() {
    const { labels, samples, cells } = group;
    const a = cells[cellOf("a")].preds;
    const b = cells[cellOf("b")].preds;
    const only = choice("label") === "" ? null : Number(choice("label"));
    const words = choice("text").toLowerCase().split(/\s+/).filter(Boolean);
    const fits = {
      all: () => true,
      wrong: (i) => a[i] !== -1 && a[i] !== labels[i],
      right: (i) => a[i] === labels[i],
      lost: (i) => a[i] === labels[i] && b[i] !== -1 && b[i] !== labels[i],
      gained: (i) => b[i] === labels[i] && a[i] !== -1 && a[i] !== labels[i],
      changed: (i) => a[i] !== -1 && b[i] !== -1 && a[i] !== b[i],
      both: (i) => a[i] !== -1 && b[i] !== -1 && a[i] !== labels[i] && b[i] !== labels[i],
      other: (i) => a[i] !== -1 && b[i] !== -1 && a[i] !== b[i] && a[i] !== labels[i] && b[i] !== labels[i],
    }[choice("show")];
    const found = new Uint32Array(labels.length);
    let size = 0;
    for (let i = 0; i < labels.length; i++) {
      if (!fits(i) || (only !== null && labels[i] !== only)) continue;
      if (words.length) {
        const text = samples[i].toLowerCase();
        if (!words.every((word) => text.includes(word))) continue;
      }
      found[size++] = i;
    }
    selected = found.subarray(0, size);
    form.querySelector("output").textContent = `${size.toLocaleString("en")} of ${labels.length.toLocaleString("en")}`;
    list.scrollTop = 0;
    draw();
  }

  function draw() {
    const head = table.tHead.offsetHeight;
    const whole = selected.length * ROW + head;
    list.style.height = `${Math.min(480, whole + 2)}px`;
    fill.style.height = `${Math.min(whole, TALLEST)}px`;
    const room = Math.max(1, Math.min(whole, TALLEST) - list.clientHeight);
    const most = Math.max(0, selected.length - Math.floor((list.clientHeight - head) / ROW));
    const first = whole <= TALLEST ? Math.floor(list.scrollTop / ROW) : Math.round((list.scrollTop / room) * most);
    const start = Math.min(first, most);
    const rows = [];
    for (let at = start; at < Math.min(selected.length, start + Math.ceil(list.clientHeight / ROW) + 1); at++) rows.push(line(selected[at]));
    table.tBodies[0].replaceChildren(...rows);
    table.style.transform = `translateY(${list.scrollTop}px)`;
  }

  function line(i) {
    const row = document.createElement("tr");
    const add = (text, kind) => {
      const cell = row.insertCell();
      cell.textContent = text;
      if (kind) cell.className = kind;
      return cell;
    };
    add(group.samples[i]);
    add(name(group.labels[i]));
    for (const field of ["a", "b"]) {
      const pred = group.cells[cellOf(field)].preds[i];
      const right = pred === group.labels[i];
      const cell = add(pred === -1 ? "–" : `${right ? "✓" : "✕"} ${name(pred)}`, pred === -1 ? "none" : right ? "correct" : "wrong");
      const path = group.images[cellOf(field)]?.[i];
      if (path) {
        const image = new Image(24, 24);
        image.src = path;
        image.alt = "";
        cell.prepend(image);
      }
    }
    return row;
  }

  async function open(place) {
    groups[place] ??= sampleRows(await load(place));
    group = groups[place];
    fields();
    select();
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  const chosen = ({ target }) => {
    seen.disconnect();
    if (target.name !== "group" && group) select();
    else open(Number(form.elements.group?.value ?? 0));
  };
  form.addEventListener("input", chosen);
  form.addEventListener("change", chosen);
  list.addEventListener("scroll", draw, { passive: true });
  const seen = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    seen.disconnect();
    open(0);
  });
  seen.observe(section);
}

function samples(section) {
  const inline = [...section.querySelectorAll(".sample-rows")];
  const files = [...section.querySelectorAll(".sample-file")];
  const waiting = new Map();
  window.robustvitRows = (place, packed) => waiting.get(place)(packed);
  const load = (place) =>
    inline.length
      ? JSON.parse(inline[place].textContent)
      : new Promise((done) => {
          waiting.set(place, done);
          const script = document.createElement("script");
          script.src = files[place].href;
          document.head.append(script);
        });
  sampleList(section, load, inline.length || files.length);
}

if (document.querySelector("#samples form")) samples(document.getElementById("samples"));
