// How one message looks: what was said, what can be done with it, what is asked about it.
import { make, word } from "/static/heed.js";
import { icon } from "/static/chat-icons.js";
import { readable } from "/static/chat-tree.js";

const VERDICTS = [
  ["better", "It is better", "You said: better than the one before."],
  ["worse", "It is worse", "You said: worse than the one before."],
  ["same", "About the same", "You said: about the same as the one before."],
];

/** A button that only shows a drawing. `key` lets the focus find it again when all is drawn anew. */
function small(name, label, key, onclick, more = {}) {
  return make("button", { type: "button", class: "quiet", title: label, "aria-label": label, "data-key": `${key}`, onclick, ...more }, icon(name));
}

/**
 * One message.
 * @param tree what is known of the conversation
 * @param message which message
 * @param view what is open just now: editing, asking, reason (keys of messages), dismissed (a Set of keys)
 * @param act what the buttons do
 */
export function turn(tree, message, view, act) {
  const person = message.role === "user";
  const box = make("article", { class: `turn ${person ? "person" : "model"}`, "data-message": message.id, "data-state": message.state });
  box.append(make("h2", {}, person ? word("You") : message.model ?? word("Model")));
  if (person && view.editing === message.id) {
    box.append(editing(message, act));
    return box;
  }
  box.append(make("div", { class: "said", dir: "auto", "aria-busy": message.state === "writing" ? "true" : null }, message.content));
  for (const note of notes(message)) box.append(note);
  if (message.state === "writing") box.append(make("div", { class: "doing" }));
  else box.append(person ? questionDoing(tree, message, act) : answerDoing(tree, message, view, act));
  if (!person && view.reason === message.id) box.append(reason(tree, message, act));
  const old = person || !readable(message) ? undefined : tree.before(message);
  if (old && !view.dismissed.has(message.id) && (view.asking === message.id || !tree.verdict(message.id, old.id))) {
    box.append(question(message, old, act));
  }
  return box;
}

function notes(message) {
  const found = [];
  if (message.left_out > 0) {
    const count = message.left_out;
    const text = word("The conversation is longer than this model can read: it did not see the first {count} messages.", { count });
    found.push(make("p", { class: "note" }, text));
  }
  if (message.state === "stopped") found.push(make("p", { class: "note" }, word("Stopped.")));
  if (message.state === "cut") found.push(make("p", { class: "note" }, word("Cut: this is the longest answer the model gives.")));
  if (message.state === "failed") {
    found.push(make("p", { class: "alert" }, `${word("There is no answer:")} ${word(message.problem ?? "the model failed")}`));
  }
  if (message.state === "writing") found.push(make("p", { class: "note waiting" }));
  return found;
}

function versions(tree, message, act) {
  const all = tree.versions(message);
  if (all.length < 2) return null;
  const place = all.findIndex((other) => other.id === message.id) + 1;
  return make("span", { class: "versions", role: "group", "aria-label": word("Versions") },
    small("left", word("The version before"), `left ${message.parent}`, () => act.turn(message, -1), { disabled: place === 1 }),
    make("span", {}, `${place}/${all.length}`),
    small("right", word("The next version"), `right ${message.parent}`, () => act.turn(message, 1), { disabled: place === all.length }));
}

function questionDoing(tree, message, act) {
  return make("div", { class: "doing" }, versions(tree, message, act),
    small("copy", word("Copy"), `copy ${message.id}`, () => act.copy(message)),
    small("edit", word("Edit"), `edit ${message.id}`, () => act.edit(message)));
}

function answerDoing(tree, message, view, act) {
  const box = make("div", { class: "doing" }, versions(tree, message, act));
  if (message.content) box.append(small("copy", word("Copy"), `copy ${message.id}`, () => act.copy(message)));
  if (message.state === "failed" || !readable(message)) {
    box.append(make("button", { type: "button", "data-key": `again ${message.parent}`, onclick: () => act.again(message) }, word("Try again")));
    return box;
  }
  box.append(small("again", word("Another answer"), `again ${message.parent}`, () => act.again(message)));
  const thumb = tree.verdict(message.id)?.verdict;
  for (const [name, label] of [["up", "Good answer"], ["down", "Bad answer"]]) {
    box.append(small(name, word(label), `${name} ${message.id}`, () => act.thumb(message, name), { "aria-pressed": `${thumb === name}` }));
  }
  const old = tree.before(message);
  const given = old && tree.verdict(message.id, old.id);
  if (given && view.asking !== message.id) {
    const text = VERDICTS.find(([name]) => name === given.verdict)[2];
    box.append(make("p", { class: "judged" }, word(text),
      make("button", { type: "button", class: "quiet", "data-key": `change ${message.id}`, onclick: () => act.reconsider(message) }, word("Change"))));
  }
  return box;
}

/** better / worse / about the same: three buttons and a way out, by keys 1, 2, 3 and Esc too. */
function question(message, old, act) {
  const box = make("div", { class: "judge", role: "group", "aria-label": word("Compared with the answer before"), "data-judge": message.id },
    make("p", {}, word("Is this answer better or worse than the one before?")));
  VERDICTS.forEach(([name, label], place) => {
    box.append(make("button", { type: "button", "data-key": `${name} ${message.id}`, onclick: () => act.judge(message, old, name) },
      word(label), " ", make("kbd", {}, `${place + 1}`)));
  });
  box.append(make("button", { type: "button", class: "quiet", "data-key": `dismiss ${message.id}`, onclick: () => act.dismiss(message) },
    word("Not now"), " ", make("kbd", {}, "Esc")));
  return box;
}

function reason(tree, message, act) {
  const given = tree.verdict(message.id);
  const field = make("input", { maxlength: "2000", value: given?.reason ?? "", "data-key": `reason ${message.id}` });
  const label = word(given?.verdict === "up" ? "What was good? (optional)" : "What was wrong? (optional)");
  return make("form", { class: "reason", onsubmit: (event) => { event.preventDefault(); act.reason(message, field.value); } },
    make("label", {}, label, field), make("button", {}, word("Save")),
    make("button", { type: "button", class: "quiet", onclick: () => act.reason(message, null) }, word("Not now")));
}

function editing(message, act) {
  const field = make("textarea", { rows: "3", "data-key": `editing ${message.id}` });
  field.value = message.content;
  return make("form", { class: "stack", onsubmit: (event) => { event.preventDefault(); act.edited(message, field.value); } },
    make("label", {}, word("Edit your message"), field),
    make("div", { class: "row" }, make("button", { class: "primary" }, word("Send")),
      make("button", { type: "button", onclick: () => act.edit(null) }, word("Cancel"))),
    make("p", { class: "hint" }, word("This begins another branch; the old one stays.")));
}
