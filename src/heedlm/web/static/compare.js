// Several runs: the same curve of each in one chart, and answers side by side.
import { api, data, make, trying, word } from "/static/heed.js";
import { chart, span } from "/static/charts.js";
import { exchanges } from "/static/answers.js";

const curves = document.getElementById("curves");
const box = document.getElementById("answers");
const at = (run) => `/api/runs/${run.split("/").map(encodeURIComponent).join("/")}`;

/** One panel for each metric that any of the runs has, with a line for each run. */
function together(looks) {
  const found = new Map();
  looks.forEach((look, k) => {
    for (const panel of look.panels) {
      for (const line of panel.lines) {
        const title = panel.lines.length > 1 ? `${word(panel.title)}: ${word(line.label)}` : panel.title;
        const known = found.get(line.key) ?? { key: line.key, group: panel.group, title, unit: panel.unit, level: panel.level, lines: [] };
        known.lines.push({ ...line, low: undefined, high: undefined, label: data.runs[k] });
        found.set(line.key, known);
      }
    }
  });
  return [...found.values()];
}

const load = trying(async () => {
  if (data.runs.length < 2) return;
  const looks = await Promise.all(data.runs.map((run) => api("GET", `${at(run)}/look`)));
  const panels = together(looks);
  const across = span(panels);
  const first = data.first.flatMap((key) => panels.filter((panel) => panel.key === key));
  const rest = panels.filter((panel) => !data.first.includes(panel.key));
  const group = (name, some, open) => some.length ? make("details", { open }, make("summary", {}, make("h3", {}, name)),
    make("div", { class: "charts" }, ...some.map((panel) => chart(panel, { across })))) : null;
  curves.replaceChildren(...[group(word("First of all"), first, true), group(word("Everything else"), rest, !first.length)].filter(Boolean));
  const answers = await Promise.all(data.runs.map((run) => api("GET", `${at(run)}/answers`)));
  const kept = answers.map((found, k) => ({ name: data.runs[k], ...found })).filter((source) => source.steps.length);
  box.replaceChildren(...(kept.length > 1 ? exchanges(kept) : [make("p", { class: "hint" }, word("Fewer than two of these runs have kept answers."))]));
});
load();

