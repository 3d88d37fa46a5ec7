// The dialogs of the task page; their words are in the template.

import { make } from "/static/heed.js";

const part = (id) => document.getElementById(id);

for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", (event) => {
    const { answer } = event.target.closest("button")?.dataset ?? {};
    if (answer !== undefined) dialog.close(answer);
  });
}

/** Open a dialog; which of its buttons was pressed, "" if it was closed otherwise. */
export const ask = (dialog) =>
  new Promise((answered) => {
    dialog.returnValue = "";
    dialog.addEventListener("close", () => answered(dialog.returnValue), { once: true });
    dialog.showModal();
  });

/** Why a task is to be skipped; null if it is not. */
export async function skipReason() {
  const dialog = part("skipping");
  const more = part("skip-more");
  const given = () => [dialog.querySelector("input:checked")?.value, more.value.trim()].filter(Boolean).join(": ");
  const ready = () => { part("skip-now").disabled = given() === ""; };
  for (const each of dialog.querySelectorAll("input")) each.checked = false;
  more.value = "";
  ready();
  dialog.oninput = ready;
  return (await ask(dialog)) === "skip" ? given().slice(0, 2000) : null;
}

/** The keys of the task's kind, above those that every task has. */
export function fillKeys(keys) {
  part("kind-keys").replaceChildren(...keys.map(([press, text]) =>
    make("tr", {}, make("td", {}, ...press.split(" ").flatMap((each, at) => [at ? " " : "", make("kbd", {}, each)])), make("td", {}, text))));
}
