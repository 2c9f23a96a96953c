"use strict";
// Two pictures in one place that alternate under the pointer, on a tap and by the keyboard.
for (const figure of document.querySelectorAll("[data-flicker]")) {
  const stack = figure.querySelector(".stack");
  const pictures = [...stack.querySelectorAll("img")];
  const play = figure.querySelector("button.play");
  const turn = figure.querySelector("button.turn");
  const now = figure.querySelector(".now");
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let timer = 0;
  let shown = 0;
  const show = (index) => {
    shown = index;
    stack.classList.toggle("other", index === 1);
    now.textContent = pictures[index].dataset.name;
  };
  const swap = () => show(1 - shown);
  const stop = () => { clearInterval(timer); timer = 0; play.setAttribute("aria-pressed", "false"); };
  // Fewer than three flashes per second, which would be harmful.
  const start = () => { stop(); timer = setInterval(swap, 700); play.setAttribute("aria-pressed", "true"); };
  stack.addEventListener("pointerenter", (event) => {
    if (event.pointerType !== "mouse") return;
    if (still.matches) { swap(); } else { swap(); start(); }
  });
  stack.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse") { stop(); show(0); }
  });
  stack.addEventListener("click", () => { stop(); swap(); });
  turn.addEventListener("click", () => { stop(); swap(); });
  play.addEventListener("click", () => (timer ? stop() : start()));
  const own = pictures[0].cloneNode();
  for (const choice of figure.querySelectorAll("input[type=radio]")) {
    choice.addEventListener("change", () => {
      const source = document.getElementById(choice.value) ?? own;
      pictures[0].src = source.src;
      pictures[0].alt = source.alt;
      pictures[0].dataset.name = source.dataset.name;
      stop();
      show(0);
    });
  }
  show(0);
}
// The squares of the checkerboard.
for (const figure of document.querySelectorAll("[data-checkers]")) {
  const top = figure.querySelector("img + img");
  const slider = figure.querySelector("input[type=range]");
  const output = figure.querySelector("output");
  const draw = () => {
    const side = slider.value;
    const tile = (2 * side * top.clientWidth) / top.naturalWidth;
    const mask = `repeating-conic-gradient(#000 0 25%, transparent 0 50%) 0 0 / ${tile}px ${tile}px`;
    top.style.webkitMask = mask;
    top.style.mask = mask;
    output.textContent = `${(side * figure.dataset.mm).toFixed(0)} mm`;
  };
  slider.addEventListener("input", draw);
  addEventListener("resize", draw);
  addEventListener("beforeprint", draw);
  if (top.complete) { draw(); } else { top.addEventListener("load", draw); }
}
// Tables that can be sorted by a column; rows without a value stay at the end.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const body = table.tBodies[0];
  const status = document.getElementById("sorted");
  for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
    const button = head.querySelector("button");
    if (!button) continue;
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.value;
      const rows = [...body.rows].sort((first, second) => {
        const [a, b] = [key(first), key(second)];
        if (a === b) return 0;
        if (a === "" || b === "") return a === "" ? 1 : -1;
        const order = head.dataset.kind === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
        return up ? order : -order;
      });
      body.append(...rows);
      status.textContent = `Sorted by ${button.textContent}, ${up ? "ascending" : "descending"}.`;
    });
  }
}
