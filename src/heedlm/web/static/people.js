import { api, tell, trying, word } from "/static/heed.js";

const form = document.getElementById("invite");
const link = document.getElementById("link");

form.addEventListener("submit", trying(async (event) => {
  event.preventDefault();
  const { role, project, group } = Object.fromEntries(new FormData(form));
  const made = await api("POST", "/api/invitations", { role, project: project || null, group: group || null });
  link.querySelector("input").value = made.link;
  link.hidden = false;
}));

link.querySelector("button").addEventListener("click", trying(async () => {
  await navigator.clipboard.writeText(link.querySelector("input").value);
  tell(word("Copied."));
}));

for (const row of document.querySelectorAll("tr[data-user]")) {
  const { user } = row.dataset;
  row.querySelector(".role").addEventListener("change", trying(async (event) => {
    await api("PUT", `/api/users/${user}/role`, { role: event.target.value });
    tell(word("Saved."));
  }));
  row.querySelector(".access")?.addEventListener("click", trying(async (event) => {
    await api("PUT", `/api/users/${user}/access`, { allowed: event.target.dataset.allowed === "true" });
    location.reload();
  }));
}
