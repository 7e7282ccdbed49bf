// Sorts and filters the tables of one figure. Without it all rows of all tables are shown.
(id => {
  "use strict";
  const figure = document.getElementById(id);
  if (!figure || figure.dataset.alive) return;
  figure.dataset.alive = "yes";
  const start = JSON.parse(figure.dataset.start);
  const tables = [...figure.querySelectorAll("table")];
  const said = figure.querySelector("[role=status]");
  const chosen = {};

  const lines = table => [...table.querySelectorAll("tr[data-kinds]")];
  const kinds = line => JSON.parse(line.dataset.kinds);

  function show() {
    for (const table of tables) {
      table.hidden = chosen.table !== undefined && table.dataset.name !== chosen.table;
      for (const line of lines(table)) {
        const own = kinds(line);
        line.hidden = Object.keys(own).some(kind => chosen[kind] && own[kind] !== chosen[kind]);
      }
    }
    const seen = tables.filter(table => !table.hidden);
    const rows = seen.flatMap(table => [...table.tBodies[0].rows]).filter(row => !row.hidden);
    said.textContent = `${rows.length} rows`;
  }

  function choice(name, title, values, first) {
    const label = document.createElement("label"), select = document.createElement("select");
    select.name = name;
    for (const [value, text] of values) select.add(new Option(text, value));
    select.value = first;
    chosen[name] = select.value;
    select.addEventListener("change", () => { chosen[name] = select.value; show(); });
    label.append(title + " ", select);
    figure.querySelector(".choices").append(label);
  }

  function key(row, column, numeric) {
    const text = row.cells[column].dataset.key;
    return text === undefined ? null : numeric ? Number(text) : text;
  }

  function sort(table, heads, column) {
    const head = heads[column], numeric = head.dataset.numbers !== undefined;
    const first = head.dataset.first === "descending" ? "descending" : "ascending";
    const other = first === "descending" ? "ascending" : "descending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    heads.forEach(one => one.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const rows = [...table.tBodies[0].rows].map(row => [key(row, column, numeric), row]);
    rows.sort(([a], [b]) => {  // what is missing comes last in both orders
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (numeric ? a - b : a.localeCompare(b));
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
    said.textContent = `sorted by ${head.dataset.title}, ${order}`;
  }

  if (tables.length > 1) {
    const names = tables.map(table => [table.dataset.name, table.dataset.name]);
    choice("table", figure.dataset.tables, names, start.table || names[0][0]);
  }
  const found = new Map();
  for (const line of tables.flatMap(lines)) {
    for (const [kind, value] of Object.entries(kinds(line))) {
      found.set(kind, (found.get(kind) || new Set()).add(value));
    }
  }
  for (const [kind, values] of found) {
    if (values.size < 2) continue;
    const options = [...[...values].map(value => [value, value]), ["", "all"]];
    choice(kind, kind, options, values.has(start[kind]) ? start[kind] : "");
  }
  for (const table of tables) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => sort(table, heads, column));
    });
  }
  show();
})
