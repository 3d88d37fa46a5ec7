// What stands on the stage beside the question itself: the conversation, warnings, what to do when there is no task.

import { api, data, make, trying, word } from "/static/heed.js";
import { said } from "/static/annotate/parts.js";

const SPEAKERS = { system: () => word("System"), user: () => word("User"), assistant: () => word("Assistant") };
const when = (at) => new Date(at * 1000).toLocaleString(document.documentElement.lang);

/** The conversation that the answers are to. */
export const conversation = (task) =>
  make("section", { class: "card conversation" },
    make("h2", { id: "task", tabindex: "-1" }, word("Conversation")),
    ...task.prompt.map(({ role, content }) =>
      make("div", { class: `turn ${role}` }, make("h3", {}, SPEAKERS[role]()), said(content))));

/** A card with buttons [text, action, primary]. */
const card = (title, text, buttons) =>
  make("section", { class: "card notice" }, make("h2", { id: "task", tabindex: "-1" }, title), make("p", { class: "said" }, text),
    make("p", { class: "row" }, ...buttons.map(([label, action, primary]) =>
      typeof action === "string"
        ? make("a", { href: action, class: primary ? "button primary" : "button" }, label)
        : make("button", { type: "button", class: primary ? "primary" : "", onclick: action }, label))));

/** Before the first task: what the content may hold. */
export const contentWarning = (begin) =>
  card(word("Before you begin"), data.warn, [
    [word("I have read this: begin"), begin, true],
    [word("Topics you do not want to see"), "/account"],
    [word("Not for me"), "/annotate"],
  ]);

/** In place of an item that needs a warning. */
export const topicWarning = (task, reveal, skip) =>
  card(word("This task may upset you"), word("It is about: {topics}.", { topics: task.topics.join(", ") }), [
    [word("Show it"), reveal, true],
    [word("Skip it"), skip],
  ]);

export const unreachable = (again) =>
  card(word("The server cannot be reached"), word("What you entered is kept in this browser."), [[word("Try again"), again, true]]);

/** What there is to say when there is no task. */
export function nothing(standing, again) {
  const mine = `/annotate/${data.project}/done`;
  const look = [word("Look again"), again];
  const all = [word("Other projects"), "/annotate"];
  const own = [word("Your answers"), mine];
  switch (standing.state) {
    case "finished":
      return card(word("You have done all there is for you"), word("Thank you. New tasks appear here when there are any; until then you can look through your answers."), [own, all, look]);
    case "unqualified":
      return card(word("You cannot go on in this project"), word("Your answers to the first tasks were too far from what the guidelines ask for. If you think that is wrong, talk to whoever runs the project."), [all]);
    case "closed":
      return card(word("This project is closed"), word("It takes no more answers. You can still correct those you gave."), [own, all]);
    case "empty":
      return card(word("There are no tasks yet"), word("Whoever runs the project has not added any. Look again later."), [look, all]);
    default:
      return card(word("Nothing for you at the moment"), word("What there is has been taken by others, or skipped by you. Look again in a while."), [look, all]);
  }
}

/** On a task that was answered before: what a correction does, and the versions there are. */
export function correction(task, kind) {
  const list = make("ol", { class: "versions" });
  const fill = trying(async (event) => {
    if (!event.target.open || list.childElementCount) return;
    const { versions } = await api("GET", `/api/tasks/${task.id}/history`);
    list.replaceChildren(...versions.map((each) =>
      make("li", { value: each.version }, make("span", { class: "said" }, kind.say(each.reply, each)), " ", make("span", { class: "hint" }, when(each.at)))));
  });
  return make("section", { class: "card notice" },
    make("h2", {}, word("You have answered this")),
    make("p", {}, word("What you submit now becomes version {n} and counts; the versions before it are kept.", { n: task.version + 1 })),
    make("details", { ontoggle: fill }, make("summary", {}, word("Versions")), list));
}

/** A line above the task with one thing to do. */
export const notice = (text, label, action) =>
  make("p", { class: "warning row", role: "status" }, make("span", { class: "grow" }, text),
    label ? make("button", { type: "button", onclick: action }, label) : null);
