import { api, tell, trying, word } from "/static/heed.js";

const form = document.getElementById("make");
const made = document.getElementById("made");

form.addEventListener("submit", trying(async (event) => {
  event.preventDefault();
  const { token } = await api("POST", "/api/tokens", { name: form.elements.name.value });
  made.querySelector("input").value = token;
  made.hidden = false;
}));

made.querySelector("button").addEventListener("click", trying(async () => {
  await navigator.clipboard.writeText(made.querySelector("input").value);
  tell(word("Copied."));
}));

for (const row of document.querySelectorAll("tr[data-token]")) {
  row.querySelector("button").addEventListener("click", trying(async () => {
    await api("DELETE", `/api/tokens/${row.dataset.token}`);
    row.remove();
    tell(word("Revoked."));
  }));
}
