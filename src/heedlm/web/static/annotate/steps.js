// A solution in steps: which is the first wrong one.

import { make, word } from "/static/heed.js";
import { critique, digit, said } from "/static/annotate/parts.js";

const RIGHT = -1; // every step is right
const stepName = (at) => word("Step {n}", { n: at + 1 });

export default {
  start: () => ({ wrong: null, at: 0 }),
  from: (reply) => ({ wrong: reply.wrong ?? RIGHT, at: Math.max(0, reply.wrong ?? 0) }),
  reply: (state) => ({ wrong: state.wrong === RIGHT ? null : state.wrong }),
  missing: (state) => (state.wrong === null ? word("Mark the first wrong step, or say that every step is right.") : ""),
  say: (reply) => (reply.wrong === null ? word("Every step is right") : `${word("First wrong step")}: ${reply.wrong + 1}`),
  keys: () => [
    ["↑ ↓", word("select a step")],
    ["x", word("the selected step is the first wrong one")],
    ["1–9", word("this step is the first wrong one")],
    ["0", word("every step is right")],
  ],
  press(event, state, task) {
    const most = task.steps.length;
    const number = digit(event, most);
    if (number) return { wrong: number - 1, at: number - 1 };
    if (event.key === "0") return { ...state, wrong: RIGHT };
    if (event.key === "x") return { ...state, wrong: state.at };
    if (event.key === "ArrowUp") return { ...state, at: Math.max(0, state.at - 1) };
    if (event.key === "ArrowDown") return { ...state, at: Math.min(most - 1, state.at + 1) };
    return undefined;
  },
  texts: () => [],
  draw(task, act) {
    let state = null;
    const rows = task.steps.map((text, at) => {
      const button = make("button", { type: "button", class: "small", "aria-pressed": "false", "aria-label": `${stepName(at)}: ${word("first wrong step")}`,
        onclick: () => act({ wrong: at, at }) }, word("First wrong step"));
      const verdict = make("span", { class: "pill" });
      const row = make("li", { class: "answer step", tabindex: "-1", onfocusin: () => state.at !== at && act({ ...state, at }) },
        make("header", {}, make("h3", {}, stepName(at)), verdict, button), said(text));
      return { row, button, verdict };
    });
    const right = make("button", { type: "button", "aria-pressed": "false", onclick: () => act({ ...state, wrong: RIGHT }) }, word("Every step is right"));
    return {
      element: make("div", { class: "steps" }, make("ol", { class: "tiers" }, ...rows.map(({ row }) => row)), critique(task, 0), right),
      show(next, byKey) {
        state = next;
        rows.forEach(({ row, button, verdict }, at) => {
          const judged = next.wrong === null ? "" : next.wrong === RIGHT || at < next.wrong ? "right" : at === next.wrong ? "wrong" : "not judged";
          verdict.textContent = judged && { right: word("right"), wrong: word("wrong"), "not judged": word("not judged") }[judged];
          verdict.className = `pill${judged === "wrong" ? " bad" : ""}`;
          verdict.hidden = judged === "";
          button.setAttribute("aria-pressed", String(at === next.wrong));
          row.classList.toggle("current", at === next.at);
        });
        right.setAttribute("aria-pressed", String(next.wrong === RIGHT));
        if (byKey) rows[next.at].row.focus();
      },
    };
  },
};
