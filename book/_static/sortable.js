// Tables of the notebooks: a click on a heading sorts, another one turns the order around.
document.addEventListener("DOMContentLoaded", () => {
  const number = (text) => {
    const found = text.replace("\u2212", "-").match(/^\s*[\[(]?(-?\d[\d.]*(?:e[-+]?\d+)?)/i);
    return found ? parseFloat(found[1]) : NaN;
  };
  const before = (a, b) => {
    const [x, y] = [number(a), number(b)];
    if (!isNaN(x) && !isNaN(y)) return x - y;
    if (isNaN(x) !== isNaN(y)) return isNaN(x) ? 1 : -1; // what has no number comes last
    return a.localeCompare(b);
  };
  for (const table of document.querySelectorAll("table.dataframe")) {
    const body = table.tBodies[0];
    const first = table.tHead?.rows[0];
    // headings over several columns and rows that belong together have an order of their own
    const merged = table.querySelector("[colspan]:not([colspan='1']), [rowspan]:not([rowspan='1'])");
    if (!body || !first || merged || body.rows.length < 3) continue;
    const headings = [...first.cells].map(
      (cell, i) => (cell.innerText.trim() ? cell : table.tHead.rows[1]?.cells[i])
    );
    headings.forEach((heading, column) => {
      if (!heading?.innerText.trim()) return;
      const sort = () => {
        const up = heading.getAttribute("aria-sort") !== "ascending";
        for (const other of headings) other?.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", up ? "ascending" : "descending");
        [...body.rows]
          .sort((a, b) => {
            const [x, y] = [a.cells[column].innerText, b.cells[column].innerText];
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
  }
});
