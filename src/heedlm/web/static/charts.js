// Curves over steps as SVG: lines with the range behind them, alarms as shades, a cursor for pointer and keyboard.
import { make, word } from "/static/heed.js";

const SPACE = "http://www.w3.org/2000/svg";
const WIDTH = 360, HEIGHT = 176, LEFT = 46, RIGHT = 10, TOP = 8, BOTTOM = 22;

const draw = (name, attributes, ...children) => {
  const element = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};

/** A number with three digits that count, and a true minus sign. */
export function figure(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  let text;
  if (value === 0) text = "0";
  else if (size >= 1e6 || size < 1e-3) text = value.toExponential(1);
  else if (Number.isInteger(value)) text = size >= 1e4 ? value.toLocaleString("en").replaceAll(",", "\u202f") : String(value);
  else text = value.toFixed(Math.max(0, 2 - Math.floor(Math.log10(size))));
  return text.replace("-", "\u2212");
}

/** Seconds as people say them. */
export function clock(seconds) {
  const whole = Math.round(seconds);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (h) return `${h} h ${m} min`;
  return m ? `${m} min ${String(s).padStart(2, "0")} s` : `${s} s`;
}

/** Round values that divide a range into about `count` parts. */
function ticks(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((each) => each >= raw) ?? 10 * power;
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-9; at += step) found.push(Number(at.toPrecision(12)));
  return found;
}

function range(panel) {
  const all = [...panel.lines, ...(panel.band ?? [])].flatMap((line) => [...(line.low ?? line.values), ...(line.high ?? [])]);
  if (panel.level !== null && panel.level !== undefined) all.push(panel.level);
  let low = Math.min(...all), high = Math.max(...all);
  if (low === high) [low, high] = [low - (Math.abs(low) || 1) * 0.1, high + (Math.abs(high) || 1) * 0.1];
  const edge = (high - low) * 0.05;
  return [low - edge, high + edge];
}

/** The steps that a group of panels covers. */
export function span(panels) {
  const steps = panels.flatMap((panel) => panel.lines.flatMap((line) => [line.steps[0], line.steps.at(-1)]));
  const first = Math.min(...steps), last = Math.max(...steps);
  return steps.length ? [first, Math.max(last, first + 1)] : [0, 1];
}

/**
 * A chart.
 * panel: {title, unit, note, level, lines: [{label, steps, values, low, high, smooth}], band}
 * alarms: [{start, end, state, reasons, lost}]; across: [first step, last step].
 */
export function chart(panel, { alarms = [], across = span([panel]) } = {}) {
  const [low, high] = range(panel);
  const x = (step) => LEFT + ((WIDTH - LEFT - RIGHT) * (step - across[0])) / (across[1] - across[0]);
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / (high - low));
  const path = (steps, values) => steps.map((step, k) => `${k ? "L" : "M"}${x(step).toFixed(1)} ${y(values[k]).toFixed(1)}`).join("");
  const area = (steps, below, above) =>
    `${path(steps, above)}${[...steps].reverse().map((step, k) => `L${x(step).toFixed(1)} ${y(below[below.length - 1 - k]).toFixed(1)}`).join("")}Z`;

  const parts = [];
  for (const alarm of alarms) {
    const from = Math.max(x(alarm.start), LEFT), to = Math.min(Math.max(x(alarm.end), from + 1.5), WIDTH - RIGHT);
    if (to > from) parts.push(draw("rect", { x: from, y: TOP, width: to - from, height: HEIGHT - TOP - BOTTOM, class: `alarm ${alarm.state}${alarm.lost ? " lost" : ""}` }));
  }
  for (const at of ticks(low, high, 4)) {
    parts.push(draw("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(at), y2: y(at), class: "grid" }));
    parts.push(draw("text", { x: LEFT - 6, y: y(at) + 3.5, class: "tick end" }, figure(at)));
  }
  for (const at of ticks(across[0], across[1], 4)) {
    const last = x(at) > WIDTH - RIGHT - 14;
    parts.push(draw("text", { x: last ? WIDTH - RIGHT : x(at), y: HEIGHT - 6, class: last ? "tick end" : "tick middle" }, figure(at)));
  }
  if (panel.level !== null && panel.level !== undefined) parts.push(draw("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(panel.level), y2: y(panel.level), class: "level" }));
  if (panel.band) parts.push(draw("path", { d: area(panel.band[0].steps, panel.band[0].values, panel.band[1].values), class: "band line-0" }));
  panel.lines.forEach((line, k) => {
    if (line.low && !panel.band) parts.push(draw("path", { d: area(line.steps, line.low, line.high), class: `band line-${k % 6}` }));
    if (line.smooth) parts.push(draw("path", { d: path(line.steps, line.values), class: `curve faint line-${k % 6}` }));
    if (line.steps.length === 1) parts.push(draw("circle", { cx: x(line.steps[0]), cy: y(line.values[0]), r: 3, class: `dot line-${k % 6}` }));
    else parts.push(draw("path", { d: path(line.steps, line.smooth ?? line.values), class: `curve line-${k % 6}` }));
  });
  const cursor = draw("line", { y1: TOP, y2: HEIGHT - BOTTOM, class: "cursor", visibility: "hidden" });
  const said = panel.lines.map((line) => `${line.label}: ${figure(line.values[0])} → ${figure(line.values.at(-1))}`).join("; ");
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", tabindex: "0", "aria-label": `${word(panel.title)}. ${said}` }, ...parts, cursor);
  const readout = make("output", { class: "readout", "aria-live": "polite" }, summary(panel));
  follow(svg, cursor, readout, panel, alarms, across, x);
  return make("figure", { class: "chart" },
    make("figcaption", {}, make("span", { class: "name" }, word(panel.title)), panel.unit ? make("span", { class: "soft" }, ` ${word(panel.unit)}`) : null),
    svg, panel.lines.length > 1 ? legend(panel) : null, readout);
}

const summary = (panel) => panel.lines.map((line) => `${panel.lines.length > 1 ? `${word(line.label)} ` : ""}${figure(line.values.at(-1))}`).join(" · ");

function legend(panel) {
  return make("p", { class: "legend" }, ...panel.lines.map((line, k) => make("span", {}, make("i", { class: `key line-${k % 6}` }), word(line.label))));
}

/** The place of a step in a sorted list. */
function nearest(steps, at) {
  let low = 0, high = steps.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle] < at) low = middle + 1;
    else high = middle;
  }
  return low && at - steps[low - 1] < steps[low] - at ? low - 1 : low;
}

function follow(svg, cursor, readout, panel, alarms, across, x) {
  const longest = panel.lines.reduce((best, line) => (line.steps.length > best.length ? line.steps : best), []);
  let place = null;
  const show = () => {
    if (place === null) {
      cursor.setAttribute("visibility", "hidden");
      readout.textContent = summary(panel);
      return;
    }
    const step = longest[place];
    cursor.setAttribute("visibility", "visible");
    cursor.setAttribute("x1", x(step));
    cursor.setAttribute("x2", x(step));
    const values = panel.lines.map((line) => `${panel.lines.length > 1 ? `${word(line.label)} ` : ""}${figure(line.values[nearest(line.steps, step)])}`);
    const why = alarms.filter((alarm) => alarm.start <= step && step <= alarm.end).flatMap((alarm) => alarm.reasons)[0];
    readout.textContent = `${word("step {step}", { step: figure(step) })}: ${values.join(" · ")}${why ? ` · ${why}` : ""}`;
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * WIDTH;
    place = nearest(longest, across[0] + ((at - LEFT) / (WIDTH - LEFT - RIGHT)) * (across[1] - across[0]));
    show();
  });
  svg.addEventListener("pointerleave", () => { place = null; show(); });
  svg.addEventListener("blur", () => { place = null; show(); });
  svg.addEventListener("keydown", (event) => {
    const far = Math.max(1, Math.round(longest.length / 10));
    const move = { ArrowLeft: -1, ArrowRight: 1, PageUp: far, PageDown: -far, Home: -Infinity, End: Infinity }[event.key];
    if (move === undefined) return;
    event.preventDefault();
    place = Math.min(longest.length - 1, Math.max(0, (place ?? longest.length - 1) + move));
    show();
  });
}
