// Forms and buttons that speak JSON with the server.
//
//   <form data-send="POST /api/things" data-then="/things/{id}">  fields become JSON; a dot in a name nests it
//   <button data-send="PATCH /api/things/1" data-body='{"open": false}' data-then="reload" data-ask="Sure?">
//   <select name="role" data-send="PATCH /api/things/1">          sends {"role": value} when it is changed
//   <form data-upload="/api/things">                              sends the file, tells what became of its rows

import { api, make, tell, trying, word } from "/static/heed.js";

/** What a field holds as JSON: numbers as numbers (percentages as shares), nothing where it is empty. */
function valueOf(field) {
  if (field.type === "checkbox") return field.checked;
  if (field.type === "number") return field.value === "" ? null : Number(field.value) / Number(field.dataset.scale ?? 1);
  return field.value === "" && field.tagName === "INPUT" ? null : field.value;
}

function bodyOf(form) {
  const body = {};
  for (const field of form.elements) {
    if (!field.name || (field.type === "radio" && !field.checked)) continue;
    const names = field.name.split(".");
    const last = names.pop();
    let target = body;
    for (const name of names) target = target[name] ??= {};
    target[last] = valueOf(field);
  }
  return body;
}

/** Go where the element says: another page (with {fields} of the answer filled in), or to what is told here. */
function then(element, answer) {
  const next = element.dataset.then ?? "tell";
  if (next === "reload") location.reload();
  else if (next === "link") showLink(element, answer.link);
  else if (next === "result") tellRows(element, answer);
  else if (next === "tell") tell(word("Saved."));
  else location.assign(next.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(answer[name])));
}

async function send(element, body) {
  if (element.dataset.ask && !confirm(element.dataset.ask)) return;
  const [method, path] = element.dataset.send.split(" ");
  then(element, await api(method, path, body));
}

/** Run something once at a time: a second click waits for nothing and does nothing. */
const once = (button, action) => trying(async (event) => {
  event.preventDefault();
  if (button?.disabled) return;
  if (button) button.disabled = true;
  try {
    await action(event);
  } finally {
    if (button) button.disabled = false;
  }
});

function showLink(form, text) {
  const link = form.querySelector(".link");
  link.hidden = false;
  link.querySelector("input").value = text;
  link.querySelector("input").select();
}

/** How many rows became items, and which did not, with the line of each. */
function tellRows(form, answer) {
  const box = form.querySelector(".result");
  if (answer.new === undefined) {
    box.replaceChildren(make("p", { class: "good" }, word("{n} items have scores now.", { n: answer.items })));
    return;
  }
  const counts = word("{fresh} new, {known} there already, {aside} set aside.", {
    fresh: answer.new, known: answer.there_already, aside: answer.set_aside,
  });
  const rows = answer.bad.map(({ line, reason, excerpt }) =>
    make("tr", {}, make("td", { class: "number" }, String(line)), make("td", {}, reason), make("td", { class: "said" }, excerpt)));
  const head = ["Line", "Reason", "Beginning"].map((text) => make("th", { scope: "col" }, word(text)));
  box.replaceChildren(
    make("p", { class: answer.new ? "good" : "warning" }, counts),
    answer.new ? make("p", {}, make("a", { href: location.pathname }, word("Show the items"))) : "",
    rows.length
      ? make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": word("Rows set aside") },
          make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows)))
      : "",
  );
}

for (const form of document.querySelectorAll("form[data-send]")) {
  const button = form.querySelector("button:not([type])");
  form.addEventListener("submit", once(button, () => send(form, bodyOf(form))));
}
for (const button of document.querySelectorAll("button[data-send]")) {
  const body = button.dataset.body;
  button.addEventListener("click", once(button, () => send(button, body === undefined ? undefined : JSON.parse(body))));
}
for (const select of document.querySelectorAll("select[data-send]")) {
  const before = select.querySelector("[selected]")?.value ?? select.value; // an early change is already in value
  select.addEventListener("change", async () => {
    try {
      await send(select, { [select.name]: select.value });
    } catch (error) {
      select.value = before;
      tell(error.message, "bad");
    }
  });
}
for (const form of document.querySelectorAll("form[data-upload]")) {
  const button = form.querySelector("button:not([type])");
  form.addEventListener("submit", once(button, async () => {
    const token = document.querySelector('meta[name="csrf"]').content;
    const given = { body: new FormData(form), headers: { "x-csrf-token": token } };
    tellRows(form, await api("POST", form.dataset.upload, undefined, given));
  }));
}
for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", trying(async () => {
    await navigator.clipboard.writeText(button.parentElement.querySelector("input").value);
    tell(word("Copied."));
  }));
}
