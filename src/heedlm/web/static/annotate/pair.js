// Two answers: which is better, and by how much.

import { data, make, word } from "/static/heed.js";
import { answerCard, choices, digit, letterName } from "/static/annotate/parts.js";

const WORDS = {
  significantly: (answer) => word("{answer} is much better", { answer }),
  better: (answer) => word("{answer} is better", { answer }),
  slightly: (answer) => word("{answer} is slightly better", { answer }),
  negligibly: (answer) => word("{answer} is hardly better", { answer }),
};

/** From "A is much better" over "the same" to "B is much better". */
const scale = () => [
  ...data.strengths.map((strength) => ({ better: 0, strength })),
  { better: "same" },
  ...data.strengths.map((strength) => ({ better: 1, strength })).reverse(),
];
const text = (reply) =>
  reply.better === "same" ? word("About the same") : WORDS[reply.strength]("AB"[reply.better]);

export default {
  start: () => ({ pick: null }),
  from: (reply) => ({ pick: scale().findIndex((each) => each.better === reply.better && (each.better === "same" || each.strength === reply.strength)) }),
  reply: (state) => scale()[state.pick],
  missing: (state) => (state.pick === null ? word("Say which answer is better, or that they are about the same.") : ""),
  say: (reply) => text(reply),
  keys: () => [[`1–${scale().length}`, word("a place on the scale")], ["← →", word("more for A, more for B")]],
  press(event, state) {
    const most = scale().length;
    const number = digit(event, most);
    if (number) return { pick: number - 1 };
    const middle = (most - 1) / 2;
    if (event.key === "ArrowLeft") return { pick: Math.max(0, (state.pick ?? middle) - 1) };
    if (event.key === "ArrowRight") return { pick: Math.min(most - 1, (state.pick ?? middle) + 1) };
    return undefined;
  },
  draw(task, act) {
    const picked = choices(word("Which is better?"),
      scale().map((each, at) => ({ value: at, text: text(each) })), (pick) => act({ pick }), { class: "choices strengths" });
    const cards = [0, 1].map((place) => answerCard(task, place, { name: letterName }));
    return {
      element: make("div", { class: "pair" }, make("div", { class: "columns" }, ...cards), make("h3", {}, word("Which is better?")), picked.element),
      show(state) {
        picked.show(state.pick);
        const reply = state.pick === null ? null : scale()[state.pick];
        cards.forEach((card, place) => card.classList.toggle("current", reply?.better === place));
      },
    };
  },
};
