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

const reset = document.getElementById("reset");

for (const box of [link, reset]) {
  box.querySelector("button").addEventListener("click", trying(async () => {
    await navigator.clipboard.writeText(box.querySelector("input").value);
    tell(word("Copied."));
  }));
}

for (const row of document.querySelectorAll("tr[data-user]")) {
  const { user } = row.dataset;
  const name = row.querySelector("th").textContent;
  const on = (what, action) => row.querySelector(what)?.addEventListener("click", trying(action));
  row.querySelector(".role").addEventListener("change", trying(async (event) => {
    await api("PUT", `/api/users/${user}/role`, { role: event.target.value });
    tell(word("Saved."));
  }));
  on(".reset", async () => {
    const made = await api("POST", `/api/users/${user}/reset`);
    reset.querySelector(".name").textContent = name;
    reset.querySelector("input").value = made.link;
    reset.hidden = false;
    reset.querySelector("input").select();
    reset.scrollIntoView();
  });
  on(".end", async () => {
    const { ended } = await api("POST", `/api/users/${user}/logout`);
    tell(word("Sessions of {name} that have ended: {count}.", { count: ended, name }));
  });
  on(".factor", async () => {
    await api("DELETE", `/api/users/${user}/second`);
    location.reload();
  });
  on(".access", async (event) => {
    await api("PUT", `/api/users/${user}/access`, { allowed: event.target.dataset.allowed === "true" });
    location.reload();
  });
}
