// Tables of results: a click on a heading sorts, another one turns the order around. Tables of the
// class `filtered` have menus above them, too, which leave only the rows that are asked for.
document.addEventListener("DOMContentLoaded", () => {
  const number = (text) => {
    const plain = text.replace("\u2212", "-").replace(/(\d),(?=\d{3})/g, "$1");
    const found = plain.match(/^\s*[\[(<]?\s*(-?\.?\d[\d.]*(?:e[-+]?\d+)?)/i);
    return found ? parseFloat(found[1]) : NaN;
  };
  const before = (a, b) => {
    const [x, y] = [number(a), number(b)];
    if (!isNaN(x) && !isNaN(y)) return x - y;
    if (isNaN(x) !== isNaN(y)) return isNaN(x) ? 1 : -1; // what has no number comes last
    return a.localeCompare(b);
  };
  for (const table of document.querySelectorAll("table.dataframe, table.filtered")) {
    const body = table.tBodies[0];
    const first = table.tHead?.rows[0];
    // headings over several columns and rows that belong together have an order of their own
    const merged = table.querySelector("[colspan]:not([colspan='1']), [rowspan]:not([rowspan='1'])");
    if (!body || !first || merged || body.rows.length < 3) continue;
    const headings = [...first.cells].map(
      (cell, i) => (cell.textContent.trim() ? cell : table.tHead.rows[1]?.cells[i])
    );
    headings.forEach((heading, column) => {
      if (!heading?.textContent.trim()) return;
      const sort = () => {
        const up = heading.getAttribute("aria-sort") !== "ascending";
        for (const other of headings) other?.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", up ? "ascending" : "descending");
        [...body.rows]
          .sort((a, b) => {
            const [x, y] = [a.cells[column].textContent, b.cells[column].textContent];
            return up ? before(x, y) : before(y, x);
          })
          .forEach((row) => body.append(row));
      };
      heading.tabIndex = 0;
      heading.classList.add("sortable");
      heading.title = "sort by this column";
      heading.addEventListener("click", sort);
      heading.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          sort();
        }
      });
    });
    if (table.classList.contains("filtered")) addMenus(table, headings);
  }

  function addMenus(table, headings) {
    const rows = [...table.tBodies[0].rows];
    const bar = document.createElement("div");
    const count = document.createElement("output");
    const menus = [];
    bar.className = "filters";
    const update = () => {
      const shown = rows.filter((row) => {
        row.hidden = !menus.every(({ column, menu, fits }) =>
          menu.value === "" || fits(row.cells[column].textContent.trim(), menu.value));
        return !row.hidden;
      });
      count.value = `${shown.length} of ${rows.length} rows`;
    };
    headings.forEach((heading, column) => {
      const name = heading.textContent.trim();
      const values = [...new Set(rows.map((row) => row.cells[column].textContent.trim()))].sort();
      let choices;
      let fits = (text, value) => text === value;
      if (name.startsWith("Cost")) {
        choices = ["0.1", "0.5", "1"].map((most) => [most, `at most ${most} × retraining`]);
        fits = (text, most) => number(text) <= parseFloat(most);
      } else if (column > 0 && values.length > 1 && values.length <= 8 && !values.some((v) => number(v) >= 0)) {
        choices = values.filter((value) => value !== "–").map((value) => [value, value]);
      } else return;
      const menu = document.createElement("select");
      menu.add(new Option("all", ""));
      for (const [value, text] of choices) menu.add(new Option(text, value));
      menu.addEventListener("change", update);
      const label = document.createElement("label");
      label.append(name.split(",")[0], menu);
      bar.append(label);
      menus.push({ column, menu, fits });
    });
    bar.append(count);
    (table.closest(".pst-scrollable-table-container, .wide-table") ?? table).before(bar);
    update();
  }
});
