// Pieces that several kinds of questions show.

import { data, make, word } from "/static/heed.js";

/** Which language a text is read out in: Chinese where it has Chinese characters. */
export const languageOf = (text) =>
  /\p{Script=Han}/u.test(text) ? "zh" : document.documentElement.lang === "zh" ? "en" : null;

/** Somebody's text, as it is. */
export const said = (text, more = {}) =>
  text === ""
    ? make("p", { class: "soft" }, word("(empty)"))
    : make("div", { class: "said", lang: languageOf(text), ...more }, text);

export const answerName = (place) => word("Answer {n}", { n: place + 1 });
export const letterName = (place) => word("Answer {n}", { n: "AB"[place] });

/** A model's remarks on an answer, open at once where the project says so. */
export function critique(task, place) {
  const text = task.critiques[place] ?? "";
  if (text === "") return null;
  return make("details", { class: "critique", open: data.critiques_first },
    make("summary", {}, word("A model's critique")), said(text));
}

/** One answer: its name, what belongs beside the name, its text, its critique, what belongs below. */
export const answerCard = (task, place, { name = answerName, beside = [], below = [], ...more } = {}) =>
  make(more.role ? "div" : "article", { class: "answer", "data-place": place, ...more },
    make("header", {}, make("h3", {}, name(place)), ...beside),
    said(task.answers[place]), critique(task, place), ...below);

/** Buttons of which one is chosen; `choose(value)` is called with what was pressed. */
export function choices(label, options, choose, more = {}) {
  const buttons = options.map(({ value, text, title }, at) =>
    make("button", { type: "button", role: "radio", "aria-checked": "false", title, "data-value": at,
      onclick: () => choose(value) }, text));
  const element = make("div", { class: "choices", role: "radiogroup", "aria-label": label, ...more }, ...buttons);
  return {
    element,
    /** Mark what is chosen; null: nothing is. The Tab key reaches the chosen one, or the first. */
    show(chosen) {
      const found = options.findIndex(({ value }) => value === chosen);
      buttons.forEach((button, at) => {
        button.setAttribute("aria-checked", String(at === found));
        button.tabIndex = at === Math.max(found, 0) ? 0 : -1;
      });
      if (found >= 0 && element.contains(document.activeElement)) buttons[found].focus();
    },
  };
}

/** The digit that was pressed, from 1 to `most`; 0 if none was. */
export const digit = (event, most) => {
  const found = /^[1-9]$/.test(event.key) ? Number(event.key) : 0;
  return found <= most ? found : 0;
};

export const range = (count) => Array.from({ length: count }, (_, at) => at);
