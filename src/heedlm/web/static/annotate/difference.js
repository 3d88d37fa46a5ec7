// What differs between two texts: by words, and by characters where a script has no spaces between words.

import { make, word } from "/static/heed.js";
import { languageOf } from "/static/annotate/parts.js";

const WORDS = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]|[\p{L}\p{M}\p{N}]+(?:['’][\p{L}]+)*|\s+|./gsu;
const LINES = /[^\n]*\n|[^\n]+$/g;
const MOST = 4e6; // cells of the table

const cut = (text, pattern) => text.match(pattern) ?? [];

/** The parts of two texts in order: [kind, text], kind "both", "first" or "second". */
export function difference(first, second) {
  let [a, b] = [cut(first, WORDS), cut(second, WORDS)];
  if (a.length * b.length > MOST) [a, b] = [cut(first, LINES), cut(second, LINES)];
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail += 1;
  const parts = [];
  const add = (kind, text) => {
    const last = parts.at(-1);
    if (last?.[0] === kind) last[1] += text;
    else if (text !== "") parts.push([kind, text]);
  };
  add("both", a.slice(0, head).join(""));
  const [left, right] = [a.slice(head, a.length - tail), b.slice(head, b.length - tail)];
  if (left.length * right.length > MOST) {
    add("first", left.join(""));
    add("second", right.join(""));
  } else for (const [kind, text] of aligned(left, right)) add(kind, text);
  add("both", a.slice(a.length - tail).join(""));
  return parts;
}

/** Alignment by the longest common subsequence. */
function aligned(a, b) {
  const wide = b.length + 1;
  const longest = new Uint32Array((a.length + 1) * wide);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      longest[i * wide + j] = a[i] === b[j] ? longest[(i + 1) * wide + j + 1] + 1
        : Math.max(longest[(i + 1) * wide + j], longest[i * wide + j + 1]);
    }
  }
  const parts = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      parts.push(["both", a[i]]);
      i += 1;
      j += 1;
    } else if (j >= b.length || (i < a.length && longest[(i + 1) * wide + j] >= longest[i * wide + j + 1])) {
      parts.push(["first", a[i]]);
      i += 1;
    } else {
      parts.push(["second", b[j]]);
      j += 1;
    }
  }
  return parts;
}

/** Two texts side by side, what only one of them has marked in it. `texts`: [{name, text}] to choose from. */
export function differencePanel(texts) {
  const chosen = [0, 1];
  const box = make("div", { class: "columns", "aria-live": "polite" });
  const side = (own, tag, parts) =>
    make("article", { class: "answer" }, make("h3", {}, texts[chosen[own === "first" ? 0 : 1]].name),
      make("div", { class: "said", lang: languageOf(texts[chosen[own === "first" ? 0 : 1]].text) },
        ...parts.filter(([kind]) => kind === "both" || kind === own).map(([kind, text]) => (kind === "both" ? text : make(tag, {}, text)))));
  const show = () => {
    const parts = difference(texts[chosen[0]].text, texts[chosen[1]].text);
    box.replaceChildren(...(parts.some(([kind]) => kind !== "both")
      ? [side("first", "del", parts), side("second", "ins", parts)]
      : [make("p", {}, word("The two are the same."))]));
  };
  const select = (which, label) =>
    make("label", {}, label, make("select", { onchange: (event) => { chosen[which] = Number(event.target.value); show(); } },
      ...texts.map(({ name }, at) => make("option", { value: at, selected: at === chosen[which] }, name))));
  show();
  return make("section", { id: "difference", class: "card", "aria-label": word("Differences") },
    make("h2", {}, word("Differences")),
    texts.length > 2 ? make("div", { class: "row" }, select(0, word("Between")), select(1, word("and"))) : null, box);
}
