// Rating: each answer from 1 to 7, with flags.

import { data, make, word } from "/static/heed.js";
import { answerCard, answerName, choices, digit, range } from "/static/annotate/parts.js";

const MOST = 7;
const replaced = (list, at, value) => list.map((each, place) => (place === at ? value : each));
const toggled = (list, value) => (list.includes(value) ? list.filter((each) => each !== value) : [...list, value]);

function draw(task, act) {
  let state = null;
  const parts = range(task.answers.length).map((place) => {
    const score = choices(`${answerName(place)}: ${word("score")}`,
      range(MOST).map((at) => ({ value: at + 1, text: String(at + 1) })),
      (value) => act({ ...state, at: place, scores: replaced(state.scores, place, value) }), { class: "choices scale" });
    const flags = Object.entries(data.flags).map(([flag, text]) =>
      make("button", { type: "button", class: "flag", "data-flag": flag, "aria-pressed": "false",
        onclick: () => act({ ...state, at: place, flags: replaced(state.flags, place, toggled(state.flags[place], flag)) }) }, word(text)));
    const card = answerCard(task, place, {
      onfocusin: () => state.at !== place && act({ ...state, at: place }),
      below: [
        make("div", { class: "scored" }, make("span", { class: "hint" }, word("1 worst")), score.element, make("span", { class: "hint" }, word("7 best"))),
        make("details", { class: "flags" }, make("summary", {}, word("Flags"), " ", make("span", { class: "pill warn", hidden: true })),
          make("div", { role: "group", "aria-label": `${answerName(place)}: ${word("Flags")}` }, ...flags)),
      ],
    });
    return { card, score, flags, count: card.querySelector(".flags .pill") };
  });
  const element = make("div", { class: "rate" },
    make("p", { class: "hint" }, word("Press 1 to 7 for the marked answer; ↑ and ↓ go to another.")),
    make("div", { class: "columns" }, ...parts.map(({ card }) => card)));
  return {
    element,
    show(next, byKey) {
      state = next;
      parts.forEach(({ card, score, flags, count }, place) => {
        card.classList.toggle("current", place === next.at);
        score.show(next.scores[place]);
        for (const flag of flags) flag.setAttribute("aria-pressed", String(next.flags[place].includes(flag.dataset.flag)));
        count.hidden = next.flags[place].length === 0;
        count.textContent = String(next.flags[place].length);
      });
      if (byKey) parts[next.at].card.scrollIntoView({ block: "nearest" });
    },
  };
}

export default {
  start: (task) => ({ scores: task.answers.map(() => null), flags: task.answers.map(() => []), at: 0 }),
  from: (reply) => ({ scores: reply.scores, flags: reply.flags, at: 0 }),
  reply: (state) => ({ scores: state.scores, flags: state.flags }),
  missing(state) {
    const at = state.scores.indexOf(null);
    return at < 0 ? "" : word("{answer} has no score yet.", { answer: answerName(at) });
  },
  say: (reply) =>
    reply.scores.map((score, place) => `${answerName(place)}: ${score}${reply.flags[place].length ? ` (${reply.flags[place].map((flag) => word(data.flags[flag])).join(", ")})` : ""}`).join("; "),
  keys: () => [["1–7", word("score of the marked answer")], ["← →", word("one less, one more")], ["↑ ↓", word("another answer")]],
  press(event, state, task) {
    const number = digit(event, MOST);
    const score = (value) => ({ ...state, scores: replaced(state.scores, state.at, value) });
    if (number) return score(number);
    const old = state.scores[state.at];
    if (event.key === "ArrowLeft") return score(Math.max(1, (old ?? 2) - 1));
    if (event.key === "ArrowRight") return score(Math.min(MOST, (old ?? 0) + 1));
    if (event.key === "ArrowUp") return { ...state, at: Math.max(0, state.at - 1) };
    if (event.key === "ArrowDown") return { ...state, at: Math.min(task.answers.length - 1, state.at + 1) };
    return undefined;
  },
  draw,
};
