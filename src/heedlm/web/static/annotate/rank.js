// Ranking: cards in tiers, best first; a tier of several cards is a tie.

import { make, word } from "/static/heed.js";
import { draggable } from "/static/annotate/drag.js";
import { answerCard, answerName, digit, range } from "/static/annotate/parts.js";

const flat = (tiers) => tiers.flat();
const tierOf = (tiers, place) => tiers.findIndex((tier) => tier.includes(place));
const without = (tiers, place) => tiers.map((tier) => tier.filter((each) => each !== place));
const tidy = (tiers) => tiers.filter((tier) => tier.length > 0);

/** One card up (−1) or down (+1): out of its tie first, then past the tier next to it. */
export function move(tiers, place, step) {
  const at = tierOf(tiers, place);
  const rest = without(tiers, place);
  const tied = rest[at].length > 0;
  const target = tied ? at + (step > 0 ? 1 : 0) : at + step + (step > 0 ? 1 : 0);
  if (target < 0 || target > rest.length) return tiers;
  return tidy([...rest.slice(0, target), [place], ...rest.slice(target)]);
}

/** Tie a card with the tier above it; a card that is tied goes below its tie again. */
export function tie(tiers, place) {
  const at = tierOf(tiers, place);
  if (tiers[at].length > 1) return move(tiers, place, 1);
  return at === 0 ? tiers : join(tiers, place, at - 1);
}

/** Put a card into a tier. */
export const join = (tiers, place, at) =>
  tidy(without(tiers, place).map((tier, each) => (each === at ? [...tier, place].sort((a, b) => a - b) : tier)));

/** Put a card into a tier of its own, before tier `at` as they are numbered now. */
export const insert = (tiers, place, at) => {
  const rest = without(tiers, place);
  return tidy([...rest.slice(0, at), [place], ...rest.slice(at)]);
};

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

function where(tiers, place) {
  const at = tierOf(tiers, place);
  const others = tiers[at].filter((each) => each !== place).map((each) => each + 1);
  return others.length
    ? word("{answer}: place {n}, tied with {others}", { answer: answerName(place), n: at + 1, others: others.join(", ") })
    : word("{answer}: place {n}", { answer: answerName(place), n: at + 1 });
}

function draw(task, act) {
  const list = make("ol", { class: "tiers", "aria-label": word("Ranking, best first") });
  const told = make("p", { class: "sr", "aria-live": "polite" });
  let state = null;
  const change = (tiers, at) => act({ ...state, tiers, at, moved: state.moved || !same(tiers, state.tiers) });
  const cards = range(task.answers.length).map((place) => {
    const button = (text, label, done) =>
      make("button", { type: "button", class: "small", title: label, "aria-label": `${answerName(place)}: ${label}`,
        onclick: () => change(done(state.tiers), place) }, text);
    const grip = make("span", { class: "grip", "aria-hidden": "true", title: word("Drag") }, "⠿");
    const card = answerCard(task, place, {
      role: "group", tabindex: "-1",
      onfocusin: () => state.at !== place && act({ ...state, at: place }),
      beside: [
        button("↑", word("Move up"), (tiers) => move(tiers, place, -1)),
        button("↓", word("Move down"), (tiers) => move(tiers, place, 1)),
        button("=", word("Tie with the one above, or end the tie"), (tiers) => tie(tiers, place)),
      ],
    });
    card.querySelector("header").prepend(grip);
    draggable(grip, card, list, (drop) => {
      const tiers = drop.into === undefined ? insert(state.tiers, place, drop.before) : join(state.tiers, place, drop.into);
      change(tiers, place);
    });
    return card;
  });
  const why = make("textarea", { rows: "2", maxlength: "2000", oninput: () => act({ ...state, cannot: why.value }, true) });
  const reason = make("label", {}, word("Why can they not be ranked?"), why);
  const cannot = make("input", { type: "checkbox", onchange: () => act({ ...state, cannot: cannot.checked ? "" : null }) });
  const compact = make("button", { type: "button", class: "small", id: "compact", "aria-pressed": "false", onclick: () => {
    compact.setAttribute("aria-pressed", String(list.classList.toggle("compact")));
  } }, word("Shorten all but the selected card"), " ", make("kbd", {}, "v"));
  const element = make("div", { class: "rank" },
    make("div", { class: "row" }, make("p", { class: "hint grow" },
      word("Best on top. Drag a card by its dots, or press its number and then Shift+↑ or Shift+↓; = ties it with the one above.")),
    compact),
    list, told,
    make("div", { class: "cannot" }, make("label", { class: "inline" }, cannot, word("These cannot be ranked")), reason));
  return {
    element,
    show(next, byKey) {
      const focused = list.contains(document.activeElement) ? document.activeElement : null;
      if (state !== null && !same(state.tiers, next.tiers)) told.textContent = where(next.tiers, next.at);
      if (state === null || !same(state.tiers, next.tiers)) list.replaceChildren(...next.tiers.map((tier, at) => row(tier, at, cards)));
      state = next;
      cards.forEach((card, place) => {
        card.setAttribute("aria-label", where(next.tiers, place));
        card.classList.toggle("current", place === next.at);
        card.tabIndex = place === next.at ? 0 : -1;
      });
      list.classList.toggle("off", next.cannot !== null);
      cannot.checked = next.cannot !== null;
      reason.hidden = next.cannot === null;
      if (why.value !== (next.cannot ?? "")) why.value = next.cannot ?? "";
      if (byKey) cards[next.at].focus();
      else focused?.focus({ preventScroll: true });
    },
  };
}

const row = (tier, at, cards) =>
  make("li", { class: tier.length > 1 ? "tier tie" : "tier" },
    make("div", { class: "place" }, make("span", { class: "figure" }, String(at + 1)),
      tier.length > 1 ? make("span", { class: "pill warn" }, word("tie")) : null),
    make("div", { class: "tied" }, ...tier.map((place) => cards[place])));

export default {
  start: (task) => ({ tiers: range(task.answers.length).map((place) => [place]), at: 0, cannot: null, moved: false }),

  from(reply, task) {
    if ("cannot" in reply) return { ...this.start(task), cannot: reply.cannot, moved: true };
    const tiers = range(Math.max(...reply.ranks)).map((rank) => range(reply.ranks.length).filter((place) => reply.ranks[place] === rank + 1));
    return { tiers: tidy(tiers), at: 0, cannot: null, moved: true };
  },

  reply: (state, task) =>
    state.cannot !== null ? { cannot: state.cannot } : { ranks: range(task.answers.length).map((place) => tierOf(state.tiers, place) + 1) },

  missing: (state) => (state.cannot !== null && state.cannot.trim() === "" ? word("Say why they cannot be ranked.") : ""),

  doubt: (state) =>
    state.moved || state.cannot !== null ? "" : word("You have not moved anything. If the order is right as it is, submit once more."),

  say(reply) {
    if ("cannot" in reply) return `${word("Cannot be ranked")}: ${reply.cannot}`;
    const order = range(reply.ranks.length).sort((a, b) => reply.ranks[a] - reply.ranks[b]);
    return order.map((place, at) => (at === 0 ? "" : reply.ranks[order[at - 1]] === reply.ranks[place] ? " = " : " > ") + (place + 1)).join("");
  },

  keys: (task) => [
    [`1–${task.answers.length}`, word("select a card")],
    ["↑ ↓", word("select the card above or below")],
    ["Shift+↑ Shift+↓", word("move the selected card")],
    ["=", word("tie with the one above, or end the tie")],
    ["v", word("shorten all but the selected card")],
  ],

  press(event, state, task) {
    const number = digit(event, task.answers.length);
    if (number) return { ...state, at: number - 1 };
    if (state.cannot !== null) return undefined;
    if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      const step = event.key === "ArrowUp" ? -1 : 1;
      if (event.shiftKey) return this.moved(state, move(state.tiers, state.at, step));
      const order = flat(state.tiers);
      return { ...state, at: order[Math.min(Math.max(order.indexOf(state.at) + step, 0), order.length - 1)] };
    }
    return event.key === "=" ? this.moved(state, tie(state.tiers, state.at)) : undefined;
  },

  moved: (state, tiers) => ({ ...state, tiers, moved: state.moved || !same(tiers, state.tiers) }),

  draw,
};
