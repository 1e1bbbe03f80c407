// Tables that are wider than their place scroll. While there is more to the right, the edge fades,
// and the first column stays in view: with tables of several index columns, as many of them as
// leave half of the place to the rest.
document.addEventListener("DOMContentLoaded", () => {
  // the column that each cell begins in: cells over several rows or columns push others aside
  const columns = (table) => {
    const found = new Map();
    const taken = [];
    [...table.rows].forEach((row, y) => {
      let x = 0;
      for (const cell of row.cells) {
        while (taken[y]?.[x]) x += 1;
        found.set(cell, x);
        for (let down = 0; down < cell.rowSpan; down += 1) {
          for (let along = 0; along < cell.colSpan; along += 1) {
            (taken[y + down] ??= [])[x + along] = true;
          }
        }
        x += cell.colSpan;
      }
    });
    return found;
  };
  for (const table of document.querySelectorAll(".bd-article table")) {
    let box = table.closest(".pst-scrollable-table-container");
    if (!box) {
      box = document.createElement("div");
      box.className = "wide-table";
      table.replaceWith(box);
      box.append(table);
    }
    const at = columns(table);
    const body = [...(table.tBodies[0]?.rows ?? [])];
    const index = Math.max(1, ...body.map((row) => row.querySelectorAll("th").length));
    const pin = () => {
      for (const cell of at.keys()) {
        cell.classList.remove("pinned");
        cell.style.left = "";
      }
      if (box.scrollWidth <= box.clientWidth) return;
      let left = 0;
      for (let column = 0; column < index; column += 1) {
        const own = [...at.keys()].filter((cell) => at.get(cell) === column && cell.colSpan === 1);
        const width = own[0]?.getBoundingClientRect().width ?? 0;
        if (column > 0 && left + width > box.clientWidth / 2) break;
        for (const cell of own) {
          cell.classList.add("pinned");
          cell.style.left = `${left}px`;
        }
        left += width;
      }
    };
    const hint = () => {
      const more = box.scrollLeft + box.clientWidth < box.scrollWidth - 1;
      box.classList.toggle("more", more);
    };
    const fit = () => {
      pin();
      hint();
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0; // keys scroll it
      else box.removeAttribute("tabindex");
    };
    box.addEventListener("scroll", hint, { passive: true });
    new ResizeObserver(fit).observe(box);
  }
});
