import { api, make, tell, trying, word } from "/static/heed.js";

const form = document.getElementById("make");
const made = document.getElementById("made");
const list = document.querySelector("tbody");

form.addEventListener("submit", trying(async (event) => {
  event.preventDefault();
  const known = await api("POST", "/api/tokens", { name: form.elements.name.value });
  made.querySelector("input").value = known.token;
  made.hidden = false;
  form.elements.name.value = "";
  list.querySelector("tr:not([data-token])")?.remove();
  list.prepend(line(known));
}));

made.querySelector("button").addEventListener("click", trying(async () => {
  await navigator.clipboard.writeText(made.querySelector("input").value);
  tell(word("Copied."));
}));

list.addEventListener("click", trying(async (event) => {
  const row = event.target.closest("button")?.closest("tr");
  if (!row) return;
  await api("DELETE", `/api/tokens/${row.dataset.token}`);
  row.remove();
  tell(word("Revoked."));
}));

/** A token in the list, as the server draws it. */
function line(known) {
  const at = new Date(known.created * 1000).toISOString().slice(0, 16).replace("T", " ");
  return make("tr", { "data-token": known.id }, make("th", { scope: "row" }, known.name), make("td", {}, at), make("td", {}, "—"),
    make("td", {}, make("button", { class: "danger" }, word("Revoke"))));
}
