// One run: its state and curves as they grow, and its answers at two steps side by side.
import { api, data, make, trying, word } from "/static/heed.js";
import { chart, clock, figure, span } from "/static/charts.js";
import { exchanges } from "/static/answers.js";

const PAUSE = 2000; // milliseconds between looks
const path = `/api/runs/${data.run.split("/").map(encodeURIComponent).join("/")}`;
const state = document.getElementById("state");
const curves = document.getElementById("curves");
const STATES = { healthy: ["healthy", ""], warn: ["warning", "warn"], collapsed: ["collapsed", "bad"] };

function progress(look) {
  const done = look.steps ? word("step {step} of {steps}", { step: figure(look.step), steps: figure(look.steps) }) : look.step ? word("step {step}", { step: figure(look.step) }) : "";
  const parts = [done, look.seconds ? clock(look.seconds) : "", look.left !== null ? word("{time} left", { time: clock(look.left) }) : ""].filter(Boolean);
  const bar = look.steps && !look.ended ? make("progress", { max: look.steps, value: Math.min(look.step, look.steps), "aria-label": word("Progress") }) : null;
  return [make("p", { class: "facts" }, parts.join(" · ")), bar];
}

function health(look) {
  if (!look.state) return null;
  const [name, kind] = STATES[look.state];
  const since = look.since !== null && look.state !== "healthy" ? ` · ${word("since step {step}", { step: figure(look.since) })}` : "";
  const lines = [...look.reasons, ...look.rollbacks.map((back) => word("went back from step {at} to {to}", { at: figure(back.at), to: figure(back.to) }))];
  return make("div", { class: "health" }, make("span", { class: `pill ${kind}` }, word(name)), since,
    lines.length ? make("ul", { lang: "en" }, ...lines.map((line) => make("li", {}, line))) : null);
}

function show(look) {
  const status = make("p", {}, make("span", { class: `pill ${look.status === "failed" || look.ended === "was killed" ? "bad" : look.status === "interrupted" ? "warn" : ""}` },
    look.ended === "was killed" ? word("killed") : look.status === "failed" ? word("run failed") : word(look.status)), look.reason ? make("span", { class: "soft said", lang: "en" }, ` ${look.reason}`) : null);
  state.replaceChildren(...[status, ...progress(look), health(look)].filter(Boolean));
  const held = [...curves.querySelectorAll("svg")].indexOf(document.activeElement);
  const across = span(look.panels);
  const order = (panel) => { const at = Math.min(...panel.lines.map((line) => (data.first.indexOf(line.key) + 99) % 99)); return at; };
  const ranked = [...look.panels].sort((a, b) => order(a) - order(b));
  const groups = new Map();
  for (const panel of ranked) {
    const group = data.first.includes(panel.lines[0].key) ? word("First of all") : word(panel.group);
    groups.set(group, [...(groups.get(group) ?? []), panel]);
  }
  curves.replaceChildren(...[...groups].map(([name, panels], k) => {
    const charts = make("div", { class: "charts" }, ...panels.map((panel) => chart(panel, { alarms: look.alarms, across })));
    return make("details", { open: k === 0 || open.has(name), "data-group": name }, make("summary", {}, make("h3", {}, name)), charts);
  }));
  if (!look.panels.length) curves.replaceChildren(make("p", { class: "hint" }, word("This run has logged no numbers.")));
  if (held >= 0) curves.querySelectorAll("svg")[held]?.focus();
}

const open = new Set();
curves.addEventListener("toggle", (event) => {
  const { group } = event.target.dataset;
  if (event.target.open) open.add(group); else open.delete(group);
}, true);

let look = data.look;
show(look);

async function follow() {
  if (look.ended) return;
  try {
    const next = await api("GET", `${path}/look?since=${encodeURIComponent(look.mark)}`);
    if (!next.same) {
      look = next;
      show(look);
      if (look.ended) loadAnswers();
    }
  } catch (error) {
    if (error.status) throw error; // the server answered: it is no pause in the connection
  }
  setTimeout(follow, document.hidden ? 5 * PAUSE : PAUSE);
}
setTimeout(follow, PAUSE);

const box = document.getElementById("answers");
const loadAnswers = trying(async () => {
  const found = await api("GET", `${path}/answers`);
  box.replaceChildren(...exchanges([{ name: data.run, ...found }]));
});
loadAnswers();
