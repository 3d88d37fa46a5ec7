// A conversation with a model: asking, following the answer as it is written, judging.
import { api, data, make, newKey, tell, trying, typing, word } from "/static/heed.js";
import { certain, historyOf, listConversations } from "/static/chat-history.js";
import { Tree } from "/static/chat-tree.js";
import { turn } from "/static/chat-turns.js";

const at = (id) => document.getElementById(id);
const [log, question, model, consent, send, stop, heard] = ["log", "question", "model", "consent", "send", "stop", "heard"].map(at);

let talk = data.opened?.conversation ?? null;
let tree = new Tree(data.opened ?? {});
const view = { editing: null, asking: null, reason: null, next: null, dismissed: new Set(JSON.parse(sessionStorage.getItem("dismissed") ?? "[]")) };
const streams = new Map(); // by message: the stream that is followed

const here = () => `/api/conversations/${talk.id}`;

// ---------------------------------------------------------------- drawing

const bottom = () => scrollTo({ top: document.documentElement.scrollHeight });
const low = () => innerHeight + scrollY > document.documentElement.scrollHeight - 160;
let silence;
const hear = (text) => { // read out, and gone before anybody comes upon it a second time
  heard.textContent = text;
  clearTimeout(silence);
  silence = setTimeout(() => heard.replaceChildren(), 8000);
};
const find = (key, which = "") => log.querySelector(`[data-key="${CSS.escape(key)}"]${which}`);

function draw() {
  const key = document.activeElement?.dataset?.key;
  const typed = [...log.querySelectorAll("input[data-key], textarea[data-key]")].map((field) => [field.dataset.key, field.value]);
  const following = low();
  const shown = tree.path();
  log.replaceChildren(...shown.map((message) => turn(tree, message, view, act)));
  if (!shown.length) log.append(make("p", { class: "empty" }, word("Ask something to begin.")));
  for (const [name, value] of typed) if (find(name)) find(name).value = value;
  if (key) find(key)?.focus();
  const writing = tree.writing();
  stop.hidden = !writing;
  send.hidden = Boolean(writing);
  for (const message of shown) if (message.state === "writing") follow(message);
  at("own").hidden = !talk;
  if (following) bottom();
}

function drawHead() {
  at("title").textContent = talk?.title ?? word("New conversation");
  if (talk) document.title = document.title.replace(/^.* · /s, () => `${talk.title} · `);
  consent.checked = talk?.consent ?? consent.checked;
  at("consent-means").textContent = word(consent.checked
    ? "On: whoever runs this site may export this conversation with your verdicts and train models on it. You can switch it off at any time; what was exported before stays exported."
    : "Off: this conversation is not exported, and your verdicts train nothing. Other people here cannot read it.");
}

function drawModels() {
  const names = data.models;
  model.replaceChildren(...names.map((name) => make("option", { value: name }, name)));
  const last = talk?.model ?? localStorage.getItem("model");
  if (names.includes(last)) model.value = last;
  else if (talk) tell(word("{model} is not here any more: choose another model.", { model: talk.model }));
}

// ---------------------------------------------------------------- following an answer

function follow(message) {
  if (streams.has(message.id)) return show(message.id);
  const stream = new EventSource(`${here()}/messages/${message.id}/stream`);
  streams.set(message.id, stream);
  const on = (event, action) => stream.addEventListener(event, (told) => action(JSON.parse(told.data)));
  const known = () => tree.messages.get(message.id) ?? message;
  on("waiting", (place) => { tree.put({ ...known(), place }); show(message.id); });
  on("text", (text) => { tree.put({ ...known(), content: text }); show(message.id); });
  on("piece", (piece) => { tree.put({ ...known(), content: known().content + piece }); show(message.id, piece); });
  on("done", (whole) => { close(message.id); done(whole); });
  stream.addEventListener("error", () => {
    if (stream.readyState === EventSource.CLOSED) { // refused: it may have been deleted, or we are logged out
      close(message.id);
      setTimeout(trying(reload), 1500);
    }
  });
}

function close(id) {
  streams.get(id)?.close();
  streams.delete(id);
}

/** Show what is there of an answer that is being written. */
function show(id, piece) {
  const box = log.querySelector(`[data-message="${CSS.escape(id)}"]`);
  if (!box) return;
  const following = low();
  const { content, place } = tree.messages.get(id);
  const said = box.querySelector(".said");
  if (piece === undefined) said.textContent = content;
  else said.append(piece);
  const waiting = box.querySelector(".waiting");
  if (waiting) waiting.textContent = place ? word("Waiting: you are number {place} in line for this model.", { place }) : "";
  if (following) bottom();
}

function done(whole) {
  tree.put(whole);
  draw();
  // Whoever asked for another answer by keyboard goes on from there.
  if (view.next && document.activeElement === document.body) find(view.next)?.focus();
  view.next = null;
  hear(whole.state === "failed" ? word("There is no answer:") : whole.content);
}

async function reload() {
  if (!talk) return;
  const { chosen } = tree;
  const found = await api("GET", here());
  talk = found.conversation;
  tree = new Tree(found);
  for (const [parent, id] of chosen) if (tree.messages.has(id)) tree.chosen.set(parent, id);
  draw();
}

// ---------------------------------------------------------------- doing

const begun = ({ messages }) => {
  for (const message of messages) tree.put(message);
  draw();
  bottom();
  hear(word("The answer is being written."));
};

const judging = async (message, body) => {
  const { verdict } = await api("POST", `${here()}/messages/${message.id}/verdicts`, { key: newKey(), ...body });
  tree.judge(verdict);
};

const act = {
  turn: (message, by) => {
    const other = tree.turn(message, by);
    draw();
    const keys = by < 0 ? ["left", "right"] : ["right", "left"]; // at the end, the focus goes to the other arrow
    keys.map((name) => find(`${name} ${message.parent}`, ":not(:disabled)")).find(Boolean)?.focus();
    if (other) hear(other.content);
  },
  copy: trying(async (message) => {
    await navigator.clipboard.writeText(message.content);
    tell(word("Copied."));
  }),
  edit: (message) => {
    const before = view.editing;
    view.editing = message?.id ?? null;
    draw();
    find(message ? `editing ${message.id}` : `edit ${before}`)?.focus();
  },
  edited: trying(async (message, text) => {
    const asked = { question: text, model: model.value, parent: message.parent };
    const made = await api("POST", `${here()}/questions`, asked);
    view.editing = null;
    begun(made);
    question.focus();
  }),
  again: trying(async (message) => {
    view.next = `again ${message.parent}`;
    begun(await api("POST", `${here()}/messages/${message.parent}/answers`, { model: model.value }));
  }),
  thumb: trying(async (message, name) => {
    const given = tree.verdict(message.id)?.verdict === name;
    await judging(message, { verdict: given ? "none" : name });
    view.reason = given ? null : message.id;
    draw();
    if (!given) find(`reason ${message.id}`)?.focus();
  }),
  reason: trying(async (message, text) => {
    const thumb = tree.verdict(message.id);
    if (text?.trim() && thumb) {
      await judging(message, { verdict: thumb.verdict, reason: text.trim() });
      tell(word("Thank you."));
    }
    view.reason = null;
    draw();
    find(`${thumb?.verdict} ${message.id}`)?.focus();
  }),
  judge: trying(async (message, old, name) => {
    await judging(message, { verdict: name, against: old.id });
    view.asking = null;
    draw();
    find(`change ${message.id}`)?.focus();
    tell(word("Thank you."));
  }),
  dismiss: (message) => {
    view.dismissed.add(message.id);
    view.asking = null;
    sessionStorage.setItem("dismissed", JSON.stringify([...view.dismissed].slice(-200)));
    draw();
    question.focus();
  },
  reconsider: (message) => {
    view.asking = message.id;
    view.dismissed.delete(message.id);
    draw();
    find(`better ${message.id}`)?.focus();
  },
};

const asking = trying(async () => {
  const text = question.value;
  if (!text.trim() || tree.writing() || send.disabled) return;
  send.disabled = true; // two quick presses of Enter are one question
  try {
    if (talk) {
      const asked = { question: text, model: model.value, parent: tree.path().at(-1)?.id ?? null };
      begun(await api("POST", `${here()}/questions`, asked));
    } else {
      const made = await api("POST", "/api/conversations", { question: text, model: model.value, consent: consent.checked });
      talk = made.conversation;
      tree = new Tree();
      history.pushState(null, "", `/chat/${talk.id}`);
      drawHead();
      begun(made);
    }
    question.value = "";
    listConversations(talk.id).catch(() => {});
  } finally {
    send.disabled = false;
  }
});

const stopping = trying(async () => {
  const writing = tree.writing();
  if (writing) await api("POST", `${here()}/messages/${writing.id}/stop`);
});

// ---------------------------------------------------------------- wiring

at("composer").addEventListener("submit", (event) => { event.preventDefault(); asking(); });
question.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229) {
    event.preventDefault();
    asking();
  }
});
stop.addEventListener("click", stopping);
model.addEventListener("change", () => localStorage.setItem("model", model.value));
consent.addEventListener("change", trying(async () => {
  const wanted = consent.checked;
  try {
    if (talk) talk = await api("PATCH", here(), { consent: wanted });
  } finally {
    drawHead();
  }
}));

addEventListener("keydown", (event) => {
  if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") {
    if (tree.writing()) stopping();
    else if (view.editing) act.edit(null);
    else log.querySelector('[data-judge] [data-key^="dismiss"]')?.click();
  } else if (["1", "2", "3"].includes(event.key) && !typing(event)) {
    const asked = [...log.querySelectorAll("[data-judge]")].at(-1);
    asked?.querySelectorAll("button")[Number(event.key) - 1].click();
  }
});

at("delete").addEventListener("click", trying(async () => {
  const why = word("This conversation, and what you said about its answers, is deleted for good.");
  if (!(await certain(word("Delete this conversation?"), why))) return;
  await api("DELETE", here());
  location.assign("/chat");
}));

at("rename").addEventListener("click", () => {
  const naming = at("naming");
  const field = naming.querySelector("input");
  field.value = talk.title;
  naming.returnValue = "no";
  naming.showModal();
  field.select();
  naming.addEventListener("close", trying(async () => {
    if (naming.returnValue !== "yes" || !field.value.trim()) return;
    talk = await api("PATCH", here(), { title: field.value });
    drawHead();
    await listConversations(talk.id);
  }), { once: true });
});

addEventListener("popstate", () => location.reload());
drawModels();
drawHead();
draw();
historyOf(() => talk?.id);
if (talk) bottom();
if (data.models.length) question.focus({ preventScroll: true });
