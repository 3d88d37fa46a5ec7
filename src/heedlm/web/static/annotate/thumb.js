// One answer, good or bad.

import { make, word } from "/static/heed.js";
import { answerCard, choices } from "/static/annotate/parts.js";

export default {
  start: () => ({ up: null, reason: "" }),
  from: (reply) => ({ up: reply.up, reason: reply.reason }),
  reply: (state) => ({ up: state.up, reason: state.reason }),
  missing: (state) => (state.up === null ? word("Say whether the answer is good or bad.") : ""),
  say: (reply) => `${reply.up ? word("Good") : word("Bad")}${reply.reason ? `: ${reply.reason}` : ""}`,
  keys: () => [["1", word("good")], ["2", word("bad")]],
  press: (event, state) =>
    event.key === "1" ? { ...state, up: true } : event.key === "2" ? { ...state, up: false } : undefined,
  draw(task, act) {
    let state = null;
    const thumbs = choices(word("Good or bad?"),
      [{ value: true, text: word("Good") }, { value: false, text: word("Bad") }],
      (up) => act({ ...state, up }), { class: "choices thumbs" });
    const reason = make("textarea", { rows: "2", maxlength: "20000", oninput: () => act({ ...state, reason: reason.value }, true) });
    return {
      element: make("div", { class: "thumb" }, answerCard(task, 0, { name: () => word("Answer") }), thumbs.element,
        make("label", {}, word("Why? (optional)"), reason)),
      show(next) {
        state = next;
        thumbs.show(next.up);
        if (reason.value !== next.reason) reason.value = next.reason;
      },
    };
  },
};
