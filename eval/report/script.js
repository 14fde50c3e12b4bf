"use strict";

// One filter and one order for every list on the page. A list is a view: its records, and a page of
// them in the document. Without this script the lists are shown in full, except that of all images.

const TEXT_FIELDS = ["id", "solver", "stage", "reason"];

function compile(query) {
  const terms = query.match(/(?:[^\s"]|"[^"]*"?)+/g) ?? [];
  const tests = terms.map((term) => {
    const parts = /^(\w+)([:<>])(.+)$/.exec(term.replaceAll('"', ""));
    const [, field, sign, wanted] = parts ?? [];
    const number = Number(wanted);
    if (sign === ":" && TEXT_FIELDS.includes(field)) {
      const part = wanted.toLowerCase();
      return (record) => (record[field] ?? "").toLowerCase().includes(part);
    }
    if (sign === "<" && Number.isFinite(number)) return (record) => record[field] < number;
    if (sign === ">" && Number.isFinite(number)) return (record) => record[field] > number;
    const part = term.replaceAll('"', "").toLowerCase();
    return (record) => record.text.includes(part);
  });
  return (record) => tests.every((test) => test(record));
}

class View {
  constructor(root, records) {
    this.records = records;
    this.list = root.querySelector("[data-list]");
    this.size = Number(root.dataset.size);
    this.root = root;
    this.pager = root.querySelector("[data-pager]");
    this.status = root.querySelector("[data-status]");
    this.noun = this.status.dataset.noun;
    this.buttons = [...root.querySelectorAll("[data-step]")];
    for (const button of this.buttons) {
      button.addEventListener("click", () => this.turn(Number(button.dataset.step)));
    }
    this.pager.hidden = false;
  }

  apply(test, order) {
    this.shown = this.records.filter(test);
    if (order !== "id") {
      // Records without the number come last; sort is stable, so equal ones stay in order of id.
      this.shown.sort((a, b) => (b[order] ?? -Infinity) - (a[order] ?? -Infinity) || 0);
    }
    this.first = 0;
    this.draw();
  }

  turn(step) {
    this.first += step * this.size;
    this.draw();
    this.root.scrollIntoView({ block: "start" });
  }

  draw() {
    const page = this.shown.slice(this.first, this.first + this.size);
    this.list.replaceChildren(...page.map((record) => record.node()));
    const total = this.shown.length;
    const first = format(this.first + 1);
    const last = format(this.first + page.length);
    if (total === 0) this.status.textContent = "Nothing matches the filter.";
    else if (total <= this.size) this.status.textContent = this.summary;
    else this.status.textContent = `${first}–${last} of ${format(total)} ${this.noun}`;
    this.buttons[0].disabled = this.first === 0;
    this.buttons[1].disabled = this.first + this.size >= total;
    for (const button of this.buttons) button.hidden = total <= this.size;
  }

  get summary() {
    return `${format(this.shown.length)} of ${format(this.records.length)} ${this.noun}`;
  }
}

const format = (number) => number.toLocaleString("en");

function shortest(number) {
  if (number === null) return "not finite";
  return Math.abs(number) < 1e-12 ? "0" : String(number);
}

function duration(seconds) {
  if (seconds === null) return "–";
  return seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`;
}

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

// The order of the fields is that of `_compact` in sections.py.
function photoRecord(row, solvers) {
  const [id, height, width, gridHeight, gridWidth, eigenvalues, residual, solver, seconds] = row;
  const record = { id, height, width, solver: solvers[solver], seconds: seconds ?? undefined };
  record.residual = residual ?? Infinity; // not finite: worse than any
  record.text = `${id} ${record.solver}`.toLowerCase();
  record.node = () => {
    const line = element("tr");
    const head = element("th");
    head.scope = "row";
    head.append(record.card ? anchor(record) : id);
    line.append(
      head,
      element("td", residual === null ? "not finite" : residual.toExponential(1), "num"),
      element("td", record.solver),
      element("td", duration(seconds), "num"),
      element("td", `${height} × ${width}`, "num"),
      element("td", `${gridHeight} × ${gridWidth}`, "num"),
      element("td", eigenvalues.map(shortest).join("  "), "num"),
    );
    return line;
  };
  return record;
}

// A button, not a link: the strip may be on a page of the list that is not in the document.
function anchor(record) {
  const button = element("button", record.id, "to-strip");
  button.type = "button";
  button.title = "show the thumbnails";
  button.addEventListener("click", () => record.show());
  return button;
}

function photoViews(section) {
  const table = section.querySelector('[data-view="photos"]');
  const { solvers, rows } = JSON.parse(table.querySelector("[data-rows]").textContent);
  const records = rows.map((row) => photoRecord(row, solvers));
  const views = [];
  const strips = section.querySelector('[data-view="strips"]');
  if (strips) {
    const cards = [...strips.querySelectorAll("[data-row]")].map((card) => {
      const record = records[Number(card.dataset.row)];
      record.card = card;
      return { ...record, node: () => card };
    });
    const view = new View(strips, cards);
    for (const card of cards) {
      records[Number(card.card.dataset.row)].show = () => {
        const place = view.shown.indexOf(card);
        view.first = place - (place % view.size);
        view.draw();
        card.card.scrollIntoView({ block: "start" });
        card.card.querySelector(".tiles").focus({ preventScroll: true });
      };
    }
    views.push(view);
  }
  views.push(new View(table, records));
  return views;
}

function quarantineView(root) {
  const records = [...root.querySelectorAll("tbody tr")].map((line) => {
    const [id, stage, reason] = [...line.children].map((cell) => cell.textContent);
    return { id, stage, reason, text: `${id} ${stage} ${reason}`.toLowerCase(), node: () => line };
  });
  return new View(root, records);
}

function tableView(root) {
  const records = [...root.querySelectorAll("tbody tr")].map((line) => {
    const [id, ...others] = [...line.children].map((cell) => cell.textContent);
    return { id, text: [id, ...others].join(" ").toLowerCase(), node: () => line };
  });
  return new View(root, records);
}

function start() {
  const bar = document.getElementById("report-bar");
  if (!bar) return;
  const views = [];
  for (const root of document.querySelectorAll("[data-view]")) {
    if (root.dataset.view === "photos") views.push(...photoViews(root.closest("section")));
    if (root.dataset.view === "quarantine") views.push(quarantineView(root));
    if (root.dataset.view === "table") views.push(tableView(root));
  }
  const filter = document.getElementById("report-filter");
  // A page of tables alone has none; they stay in the order that they have.
  const order = document.getElementById("report-order") ?? { value: "id" };
  const status = document.getElementById("report-status");

  function apply() {
    const test = compile(filter.value);
    for (const view of views) view.apply(test, order.value);
    status.textContent = views.map((view) => view.summary).join(" · ");
  }
  function keep() {
    const state = new URLSearchParams();
    if (filter.value) state.set("q", filter.value);
    if (order.value !== "id") state.set("order", order.value);
    history.replaceState(null, "", `#${state}`);
  }
  function restore() {
    const state = new URLSearchParams(location.hash.slice(1));
    if (!state.has("q") && !state.has("order")) return false; // the anchor of a section
    filter.value = state.get("q") ?? "";
    order.value = state.get("order") ?? "id";
    return true;
  }
  for (const control of bar.querySelectorAll("input, select")) {
    control.addEventListener("input", () => {
      apply();
      keep();
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.matches("input, select, textarea")) return;
    event.preventDefault();
    filter.focus();
  });
  window.addEventListener("hashchange", () => {
    if (restore()) apply();
  });
  bar.hidden = false;
  restore();
  apply();
}

start();
