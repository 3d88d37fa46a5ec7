// The task page: takes a task, shows it, keeps what is entered, hands it in, takes the next.

import { api, data, newKey, tell, trying, typing, word } from "/static/heed.js";
import { Clock, minutes } from "/static/annotate/clock.js";
import { ask, fillKeys, skipReason } from "/static/annotate/dialogs.js";
import { differencePanel } from "/static/annotate/difference.js";
import { deliver, Drafts, forgetDraft, localDraft, outbox, tryNow } from "/static/annotate/keeping.js";
import { KINDS } from "/static/annotate/kinds.js";
import { answerName, letterName } from "/static/annotate/parts.js";
import * as stage from "/static/annotate/stage.js";

const part = (id) => document.getElementById(id);
const kind = KINDS[data.kind];
const remembered = (name) => `heed ${name} ${data.me} ${data.project}`;
const session = (name) => sessionStorage.getItem(remembered(name));
const tab = newKey();
let now = null; // the task on the stage: {task, state, past, base, view, drafts, clock, sending, doubted, typed}

// ---------------------------------------------------------------- showing

const put = (...elements) => {
  part("stage").replaceChildren(...elements.filter((each) => each !== null));
  part("task")?.focus({ preventScroll: true });
  scrollTo(0, 0);
};

async function leave() {
  const left = now;
  now = null;
  part("stage").inert = false;
  part("notices").replaceChildren();
  part("bar").hidden = true;
  left?.clock?.stop();
  await left?.drafts?.stop();
}

/** Show a task: hidden behind a warning where it has topics, with what was entered before. */
async function show(task) {
  await leave();
  const draft = localDraft(task.id) ?? task.draft;
  const current = draft?.state !== undefined && draft.version === task.version;
  const state = current ? draft.state : task.reply ? kind.from(task.reply, task) : kind.start(task);
  now = { task, state, past: [], base: task.version, spent: current ? draft.seconds ?? 0 : 0 };
  if (task.guideline !== data.guideline.version) await renewGuideline();
  if (task.topics.length && session(`seen ${task.id}`) === null) {
    put(stage.topicWarning(task, () => { sessionStorage.setItem(remembered(`seen ${task.id}`), "1"); build(draft, current); }, skip));
  } else build(draft, current);
}

function build(draft, current) {
  const { task } = now;
  now.view = kind.draw(task, act);
  now.clock = new Clock(now.spent, task.state === "done" ? null : task.seconds_left, tick, renew);
  keepDrafts();
  put(task.version ? stage.correction(task, kind) : null, stage.conversation(task), now.view.element);
  now.view.show(now.state, false);
  part("bar").hidden = false;
  fillKeys(kind.keys(task));
  if (current && localDraft(task.id) !== null) now.drafts.change(snapshot());
  if (draft !== null && !current && draft.state !== undefined) {
    remark(word("You entered something here before version {n} was saved in another tab.", { n: task.version }), word("Show it"), (event) => {
      event.target.closest("p").remove();
      act(draft.state);
    });
  }
  channel?.postMessage({ task: task.id, tab, asks: true });
  paint();
}

function keepDrafts() {
  now.drafts = new Drafts(now.task.id, (how, error) => {
    const words = { saved: word("Draft saved"), sending: word("Saving…"), kept: word("Kept in this browser; the server has not got it yet") };
    part("kept").textContent = words[how];
    part("kept").classList.toggle("bad", how === "kept");
    if (error && error.status >= 400 && error.status < 500) tell(error.message, "bad");
  }, (left) => now?.clock?.lease(left));
}

function renew() {
  now.drafts.change(snapshot());
  now.drafts.send();
}

const snapshot = () => ({ state: now.state, version: now.base, seconds: now.clock.spent });
const remark = (...given) => part("notices").replaceChildren(stage.notice(...given));

function paint() {
  const texts = differing();
  part("submit").disabled = now.sending === true;
  part("undo").disabled = now.past.length === 0;
  part("differences").hidden = texts.length < 2;
  part("skip").hidden = now.base > 0;
  part("onward").hidden = now.task.version === 0;
  part("last").hidden = session("last") === null || session("last") === now.task.id;
  part("kept").textContent = "";
}

function tick(spent, left) {
  part("spent").textContent = minutes(spent);
  part("lease").hidden = left === null;
  if (left === null) return;
  part("lease").textContent = word("Yours for {time}", { time: minutes(left) });
  part("lease").classList.toggle("bad", left < 120);
  if (left === 0 && !now.late) {
    now.late = true;
    remark(word("Your time for this task ran out, and it may go to somebody else. What you entered is kept."), word("Carry on"), trying(next));
  } else if (left > 0 && now.late) {
    now.late = false;
    part("notices").replaceChildren();
  }
}

// ---------------------------------------------------------------- changing

const substance = (state) => JSON.stringify({ ...state, at: 0 });

/** The person changed something. Typing in one field is one change. */
function act(next, typed = false, byKey = false) {
  if (now.sending) return;
  if (substance(now.state) !== substance(next)) {
    if (!typed || !now.typed) now.past.push(now.state);
    now.typed = typed;
    now.doubted = false;
    now.state = next;
    now.drafts.change(snapshot());
  } else now.state = next;
  now.view.show(next, byKey);
  part("undo").disabled = now.past.length === 0;
}

function undo() {
  if (!now?.view || now.sending) return;
  if (now.past.length === 0) {
    tell(session("last") ? word("Nothing to undo here. b opens the last task you submitted.") : word("Nothing to undo here."));
    return;
  }
  now.state = now.past.pop();
  now.typed = false;
  now.drafts.change(snapshot());
  now.view.show(now.state, true);
  part("undo").disabled = now.past.length === 0;
}

const differing = () =>
  kind.texts ? kind.texts(now.state, now.task)
    : now.task.answers.map((text, place) => ({ name: (data.kind === "pair" ? letterName : answerName)(place), text }));

function differences() {
  const open = part("difference");
  if (open) open.remove();
  else if (now?.view && differing().length > 1) {
    now.view.element.after(differencePanel(differing()));
    part("difference").scrollIntoView({ block: "nearest" });
  }
  part("differences").setAttribute("aria-expanded", String(part("difference") !== null));
}

// ---------------------------------------------------------------- handing in

async function submit() {
  if (!now?.view || now.sending) return;
  const missing = kind.missing(now.state, now.task);
  const doubt = missing || now.doubted ? "" : kind.doubt?.(now.state, now.task) ?? "";
  if (missing || doubt) {
    now.doubted = doubt !== "";
    tell(missing || doubt, missing ? "bad" : "");
    return;
  }
  const { task, base, clock } = now;
  const reply = kind.reply(now.state, task);
  now.sending = true;
  part("stage").inert = true;
  part("submit").disabled = true;
  await now.drafts.stop();
  const entry = { task: task.id, project: data.project, reply, key: newKey(), base, seconds: clock.spent };
  try {
    const label = await deliver(entry, waiting);
    acknowledged(task.id, label);
  } catch (error) {
    now.sending = false;
    part("stage").inert = false;
    part("notices").replaceChildren();
    keepDrafts();
    now.drafts.change(snapshot());
    paint();
    if (error.status === 409) await conflict(entry);
    else tell(error.message, "bad");
    return;
  }
  await next();
}

const waiting = (seconds) =>
  remark(word("Not handed in yet: the server cannot be reached. It is kept in this browser and tried again in {n} seconds.", { n: seconds }), word("Try now"), tryNow);

function acknowledged(task, label) {
  if (label.version === 1) sessionStorage.setItem(remembered("done"), String(Number(session("done") ?? 0) + 1));
  sessionStorage.setItem(remembered("last"), task);
  tell(label.version > 1 ? word("Corrected: version {n}.", { n: label.version }) : word("Handed in."));
}

/** The server has another version than the one this reply follows; both are offered, and both stay. */
async function conflict(entry) {
  const fresh = await api("GET", `/api/tasks/${entry.task}`);
  if (fresh.version <= entry.base) {
    remark(word("Your time for this task ran out and it went to somebody else. Your draft is kept."), word("Next task"), trying(next));
    return;
  }
  const about = { answers: fresh.answers.length, steps: fresh.steps.length };
  part("theirs-said").textContent = kind.say(fresh.reply, about);
  part("mine-said").textContent = kind.say(entry.reply, about);
  const chosen = await ask(part("conflict"));
  if (chosen === "mine") {
    now.base = fresh.version;
    await submit();
  } else if (chosen === "theirs") {
    const mine = now.state;
    forgetDraft(entry.task);
    await show({ ...fresh, draft: null });
    now.past.push(mine); // Undo brings it back
    paint();
  }
}

async function skip() {
  if (!now || now.sending || now.base > 0) return;
  const { task } = now;
  const reason = await skipReason();
  if (reason === null || now?.task !== task) return;
  await api("POST", `/api/tasks/${task.id}/skip`, { reason });
  forgetDraft(task.id);
  await next();
}

// ---------------------------------------------------------------- going on

async function next() {
  await leave();
  history.replaceState(null, "", location.pathname);
  let found;
  try {
    found = await api("POST", `/api/projects/${data.project}/next`);
  } catch (error) {
    if (error.status !== 0) throw error;
    put(stage.unreachable(trying(next)));
    return;
  }
  progress(found.standing);
  if (found.task) await show(found.task);
  else put(stage.nothing(found.standing, trying(next)));
}

async function open(task) {
  history.replaceState(null, "", `${location.pathname}?task=${encodeURIComponent(task)}`);
  const found = await api("GET", `/api/tasks/${encodeURIComponent(task)}`);
  if (found.project !== data.project) location.replace(`/annotate/${found.project}?task=${found.id}`);
  else await show(found);
}

async function last() {
  if (session("last")) await open(session("last"));
}

function progress({ state, done, left }) {
  const counts = { n: session("done") ?? 0, done, left };
  part("counts").textContent = state === "testing"
    ? word("Qualification: {left} to go before the work itself", counts)
    : word("{n} in this session · {done} in all · {left} left", counts);
  part("progress").max = Math.max(1, done + left);
  part("progress").value = done;
}

async function renewGuideline() {
  data.guideline = await api("GET", `/api/projects/${data.project}/guideline`);
  part("guideline-text").textContent = data.guideline.text;
  part("guideline-version").textContent = word("version {n}", { n: data.guideline.version });
  part("guidelines").open = true;
  tell(word("The guidelines have changed."));
}

/** First what this browser still owes the server, then the task asked for, or the next. */
async function begin() {
  for (const entry of outbox()) {
    try {
      acknowledged(entry.task, await deliver(entry, waiting));
    } catch (error) {
      if (error.status !== 409) throw error;
      await open(entry.task);
      if (!now.view) continue; // behind a warning: the draft is kept
      Object.assign(now, { state: kind.from(entry.reply, now.task), base: entry.base });
      now.view.show(now.state, false);
      await conflict(entry);
      return;
    }
  }
  part("notices").replaceChildren();
  const asked = new URLSearchParams(location.search).get("task");
  if (asked === null) return next();
  return open(asked).catch(async (error) => {
    tell(error.message, "bad");
    await next();
  });
}

// ---------------------------------------------------------------- keys, tabs, buttons

const toggleCritiques = () => {
  const all = [...document.querySelectorAll("details.critique")];
  const open = all.some((each) => !each.open);
  for (const each of all) each.open = open;
};
const KEYS = {
  "?": () => part("keys").showModal(),
  "？": () => part("keys").showModal(),
  z: undo,
  d: differences,
  c: toggleCritiques,
  g: () => { part("guidelines").open = !part("guidelines").open; },
  s: trying(skip),
  b: trying(last),
  n: trying(async () => { if (now?.task.version) await next(); }),
  v: () => part("compact")?.click(),
};

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  const composing = event.isComposing || event.keyCode === 229;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !composing) {
    event.preventDefault();
    trying(submit)();
    return;
  }
  if (typing(event)) return;
  if (event.ctrlKey || event.metaKey || event.altKey) {
    if (event.key === "z" && !event.altKey) undo();
    return;
  }
  const state = now?.view && !now.sending ? kind.press(event, now.state, now.task) : undefined;
  if (state !== undefined) {
    event.preventDefault();
    act(state, false, true);
  } else if (KEYS[event.key] && !event.repeat) {
    event.preventDefault();
    KEYS[event.key]();
  }
});

const channel = "BroadcastChannel" in window ? new BroadcastChannel("heed tasks") : null;
channel?.addEventListener("message", ({ data: from }) => {
  if (!now?.view || from.task !== now.task.id || from.tab === tab) return;
  if (from.asks) channel.postMessage({ task: from.task, tab });
  remark(word("This task is open in another tab as well. What you submit first counts; you will be asked before anything is replaced."));
});

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "hidden" && localDraft(now?.task.id) !== null) now?.drafts?.send(true);
});

for (const [id, action] of Object.entries({ submit, undo, differences, skip, last, onward: next })) part(id).addEventListener("click", trying(async () => action()));
part("help").addEventListener("click", () => part("keys").showModal());
if (matchMedia("(max-width: 60rem)").matches) part("guidelines").open = false;

progress(data.standing);
if (data.warn && localStorage.getItem(remembered("warned")) !== data.warn) {
  put(stage.contentWarning(trying(async () => {
    localStorage.setItem(remembered("warned"), data.warn);
    await begin();
  })));
} else trying(begin)();
