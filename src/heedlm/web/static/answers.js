// Answers side by side: two steps of one run, or two runs. Whatever a model wrote is text and stays text.
import { make, word } from "/static/heed.js";
import { figure } from "/static/charts.js";

const SHOWN = 8; // prompts before "more"

/** Sources: [{name, steps, prompts: [{prompt, before, answers: {step: {text, gold, reward}}}]}]. */
export function exchanges(sources) {
  const choices = sources.flatMap((source) => {
    const before = source.prompts.some((each) => each.before) ? [{ source, step: null }] : [];
    return [...before, ...source.steps.map((step) => ({ source, step }))];
  });
  if (!choices.length) return [make("p", { class: "hint" }, word("This run has kept no answers."))];
  const named = ({ source, step }) => [sources.length > 1 ? source.name : null, step === null ? word("before training") : word("step {step}", { step: figure(Number(step)) })].filter(Boolean).join(", ");
  const last = (source) => choices.findLastIndex((choice) => choice.source === source);
  const chosen = sources.length > 1 ? [last(sources[0]), last(sources[1])] : [0, choices.length - 1];
  const list = make("div", { class: "exchanges" });
  let most = SHOWN;

  const select = (side) => make("select", { "aria-label": word(side ? "Right" : "Left"), onchange: (event) => { chosen[side] = Number(event.target.value); fill(); } },
    ...choices.map((choice, k) => make("option", { value: k, selected: k === chosen[side] }, named(choice))));
  const more = make("button", { type: "button", onclick: () => { most = Infinity; fill(); } }, word("Show all prompts"));

  const answer = (choice, prompt) => {
    const found = choice.source.prompts.find((each) => each.prompt === prompt);
    const said = choice.step === null ? found?.before : found?.answers[choice.step];
    if (!said) return make("div", { class: "reply soft" }, word("No answer kept."));
    const scores = ["reward", "gold"].filter((name) => name in said).map((name) => `${name === "gold" ? word("gold score") : word("reward")} ${figure(said[name])}`);
    return make("div", { class: "reply" }, make("p", { class: "said" }, said.text || word("(empty)")), make("p", { class: "hint" }, scores.join(" · ")));
  };
  const fill = () => {
    const pair = chosen.map((k) => choices[k]);
    const prompts = [...new Set(pair.flatMap((choice) => choice.source.prompts.map((each) => each.prompt)))];
    const shared = pair[0].source === pair[1].source ? prompts : prompts.filter((prompt) => pair.every((choice) => choice.source.prompts.some((each) => each.prompt === prompt)));
    list.replaceChildren(...shared.slice(0, most).map((prompt) => make("article", { class: "exchange" },
      make("h3", { class: "said" }, prompt), make("div", { class: "pair" }, ...pair.map((choice) => answer(choice, prompt))))));
    if (!shared.length) list.replaceChildren(make("p", { class: "hint" }, word("These runs have no prompt in common.")));
    more.hidden = shared.length <= most;
  };
  fill();
  return [make("div", { class: "pair sticky" }, select(0), select(1)), list, more];
}
