// A demonstration: the answer an assistant should give, written or mended by hand.

import { data, make, word } from "/static/heed.js";
import { answerCard } from "/static/annotate/parts.js";

const shownName = () => word("Answer shown");

export default {
  start: (task) => ({ text: task.answers[0] ?? "", category: "" }),
  from: (reply) => ({ text: reply.text, category: reply.category }),
  reply: (state) => ({ text: state.text, category: state.category }),
  missing(state) {
    if (state.text.trim() === "") return word("The answer is empty.");
    return state.category === "" ? word("Say what kind of request this is.") : "";
  },
  doubt: (state, task) =>
    task.answers.length && state.text === task.answers[0] ? word("You have not changed the answer. If it is right as it is, submit once more.") : "",
  say: (reply) => `${word(data.categories[reply.category])}: ${reply.text}`,
  keys: () => [],
  press: () => undefined,
  texts: (state, task) =>
    task.answers.length ? [{ name: shownName(), text: task.answers[0] }, { name: word("Your answer"), text: state.text }] : [],
  draw(task, act) {
    let state = null;
    const text = make("textarea", { rows: "10", maxlength: "20000", oninput: () => act({ ...state, text: text.value }, true) });
    const category = make("select", { onchange: () => act({ ...state, category: category.value }) },
      make("option", { value: "" }, word("Choose…")),
      ...Object.entries(data.categories).map(([value, label]) => make("option", { value }, word(label))));
    const again = task.answers.length
      ? make("button", { type: "button", onclick: () => act({ ...state, text: task.answers[0] }) }, word("Begin again from the answer shown"))
      : null;
    return {
      element: make("div", { class: "write stack" },
        task.answers.length ? answerCard(task, 0, { name: shownName }) : null,
        make("label", {}, word("Kind of request"), category),
        make("label", {}, word("Your answer"), text), again),
      show(next) {
        state = next;
        if (text.value !== next.text) text.value = next.text;
        if (category.value !== next.category) category.value = next.category;
      },
    };
  },
};
