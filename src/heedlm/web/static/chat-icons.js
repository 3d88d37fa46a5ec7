// Small drawings on a ground of 20 × 20.
const SHAPES = {
  copy: ["M7 7h9v10H7z", "M13 7V3H4v10h3"],
  edit: ["M4 16l1-4L14 3l3 3-9 9z", "M12 5l3 3"],
  again: ["M16 10a6 6 0 1 1-2-4.5", "M16.5 2.5V6.5H12.5"],
  up: ["M3 9h3v8H3z", "M6 10l4-7c2 0 2 2 1.5 5H16c1 0 1.5 1 1.3 2l-1.3 6c-.2.7-.7 1-1.3 1H6"],
  down: ["M3 3h3v8H3z", "M6 10l4 7c2 0 2-2 1.5-5H16c1 0 1.5-1 1.3-2l-1.3-6c-.2-.7-.7-1-1.3-1H6"],
  left: ["M12 5l-5 5 5 5"],
  right: ["M8 5l5 5-5 5"],
};
const SPACE = "http://www.w3.org/2000/svg";

export function icon(name) {
  const drawing = document.createElementNS(SPACE, "svg");
  drawing.setAttribute("viewBox", "0 0 20 20");
  drawing.setAttribute("aria-hidden", "true");
  for (const shape of SHAPES[name]) {
    const line = document.createElementNS(SPACE, "path");
    line.setAttribute("d", shape);
    drawing.append(line);
  }
  return drawing;
}
