// Training from a project: ask for it, see how far it is, stop it, talk to the result, ask it for the next round.
import { api, data, make, tell, trying, word } from "/static/heed.js";
import { clock, figure } from "/static/charts.js";

const PAUSE = 2000; // milliseconds between looks
const NAMES = { "reward/mean": "Reward", "watch/win_rate": "Win rate", "kl/token_nats": "KL, nats a token", "loss/train": "Loss", "loss/held_out": "Held-out loss", "accuracy/held_out": "Accuracy" };

const talk = trying(async (run, button) => {
  button.disabled = true;
  tell(word("Loading the model…"));
  try {
    const { model } = await api("POST", `/api/runs/${run.split("/").map(encodeURIComponent).join("/")}/chat`);
    localStorage.setItem("model", model); // what the chat page starts with
    location.assign("/chat");
  } finally {
    button.disabled = false;
  }
});
for (const button of document.querySelectorAll("button.talk")) button.addEventListener("click", () => talk(button.dataset.run, button));

// ---------------------------------------------------------------- asking

const form = document.getElementById("train");
const reward = document.getElementById("reward");
const chooses = () => { reward.hidden = new FormData(form).get("way") !== "ppo"; };
form?.addEventListener("change", chooses);
form?.addEventListener("submit", trying(async (event) => {
  event.preventDefault();
  const asked = Object.fromEntries(new FormData(form));
  const button = form.querySelector("button.primary");
  button.disabled = true;
  try {
    await api("POST", `/api/projects/${data.project}/train`, { way: asked.way, model: asked.model, preset: asked.preset || null, reward: asked.way === "ppo" ? asked.reward : null });
    tell(word("Asked for."));
    await refresh();
    document.getElementById("jobs-title").scrollIntoView({ block: "nearest" });
  } finally {
    button.disabled = false;
  }
}));
if (form) chooses();

// ---------------------------------------------------------------- what is running

const box = document.getElementById("jobs");
const shown = new Map(); // by job: what is shown, and its text, so that only what changed is drawn anew
const KINDS = { failed: "bad", stopped: "warn", waiting: "warn" };

function facts(job) {
  const { look } = job;
  if (!look) return null;
  const parts = [look.steps ? word("step {step} of {steps}", { step: figure(look.step), steps: figure(look.steps) }) : look.step ? word("step {step}", { step: figure(look.step) }) : "",
    look.seconds ? clock(look.seconds) : "", look.left !== null && job.state === "running" ? word("{time} left", { time: clock(look.left) }) : "",
    ...Object.entries(look.latest).map(([key, value]) => `${word(NAMES[key])} ${figure(value)}`)].filter(Boolean);
  return parts.length ? make("p", { class: "hint" }, parts.join(" · ")) : null;
}

function buttons(job) {
  const found = [];
  if (job.run) found.push(make("a", { class: "button", href: `/runs/${job.run}` }, word("Curves and answers")));
  if (job.policy) {
    const button = make("button", { type: "button", onclick: () => talk(job.run, button) }, word("Talk to it"));
    found.push(button);
  }
  if (job.state === "running" || job.state === "waiting") found.push(make("button", { type: "button", class: "danger", onclick: trying(async () => { await api("POST", `/api/jobs/${job.id}/stop`); await refresh(); }) }, word("Stop")));
  if ((job.state === "stopped" || job.state === "failed") && job.run) found.push(make("button", { type: "button", onclick: trying(async () => { await api("POST", `/api/jobs/${job.id}/resume`); await refresh(); }) }, word("Go on")));
  if (job.state !== "waiting") found.push(log(job));
  return make("div", { class: "buttons" }, ...found);
}

const log = (job) => make("button", { type: "button", class: "quiet", onclick: trying(async (event) => {
  const card = event.target.closest(".job");
  const known = card.querySelector("pre");
  if (known) { known.remove(); return; }
  const response = await api("GET", `/api/jobs/${job.id}/log`, undefined, { raw: true });
  card.append(make("pre", { tabindex: "0", lang: "en" }, (await response.text()) || word("Nothing here yet.")));
}) }, word("Log"));

/** New answers by this model become new tasks: the next round of comparisons. */
function round(job) {
  if (!job.policy || !data.project || data.project === "chat") return null;
  const answers = make("input", { type: "number", name: "answers", min: data.fewest, max: data.most, value: Math.min(4, data.most), required: true });
  const limit = make("input", { type: "number", name: "limit", min: 1, max: 10000, value: 100, required: true });
  return make("form", { class: "row", onsubmit: trying(async (event) => {
    event.preventDefault();
    await api("POST", `/api/jobs/${job.id}/next`, { answers: Number(answers.value), limit: Number(limit.value) });
    tell(word("Asked for: its answers become new tasks."));
    await refresh();
  }) }, make("h4", { class: "wide" }, word("Next round")), make("label", {}, word("Answers a question"), answers), make("label", {}, word("Questions at most"), limit),
    make("button", {}, word("Sample and add as tasks")));
}

function card(job) {
  const note = job.note ? make("p", { class: job.state === "failed" ? "alert" : "hint", lang: /[\u4e00-\u9fff]/.test(job.note) ? null : "en" }, job.note) : null;
  const bar = job.state === "running" && job.look?.steps ? make("progress", { max: job.look.steps, value: Math.min(job.look.step, job.look.steps), "aria-label": word("Progress") }) : null;
  const upto = job.upto !== null ? make("span", { class: "hint" }, word("up to label {upto}", { upto: job.upto })) : null;
  return make("article", { class: "card job", "data-job": job.id, "data-state": job.state },
    make("h3", {}, `heed ${job.stage}`, make("span", { class: `pill ${KINDS[job.state] ?? ""}` }, job.state === "failed" ? word("run failed") : word(job.state)), upto),
    make("details", {}, make("summary", { class: "hint" }, word("Command")), make("code", {}, `heed ${job.words.join(" ")}`)),
    ...[bar, facts(job), note, buttons(job), round(job)].filter(Boolean));
}

function show(jobs) {
  if (!jobs.length) {
    box.replaceChildren(make("p", { class: "hint" }, word("Nothing here yet.")));
    return;
  }
  for (const job of jobs) {
    const text = JSON.stringify(job);
    const known = shown.get(job.id);
    if (known?.text === text || known?.element.contains(document.activeElement) && known.state === job.state) continue;
    const element = card(job);
    if (known) known.element.replaceWith(element);
    shown.set(job.id, { text, element, state: job.state });
  }
  const wanted = jobs.map((job) => shown.get(job.id).element);
  if (wanted.length !== box.children.length || wanted.some((element, k) => box.children[k] !== element)) box.replaceChildren(...wanted);
}

const open = (jobs) => jobs.some((job) => job.state === "running" || job.state === "waiting");
let timer = null;
async function refresh() {
  const jobs = await api("GET", data.project ? `/api/projects/${data.project}/jobs` : "/api/jobs");
  show(jobs);
  clearTimeout(timer);
  if (open(jobs)) timer = setTimeout(again, document.hidden ? 5 * PAUSE : PAUSE);
}
async function again() {
  try {
    await refresh();
  } catch (error) {
    if (error.status) throw error;
    timer = setTimeout(again, 5 * PAUSE); // the server is being started again
  }
}
if (box) {
  show(data.jobs);
  if (open(data.jobs)) timer = setTimeout(again, PAUSE);
}
