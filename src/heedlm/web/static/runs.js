// The list of runs: choose by stage, name or state, and pick some to compare.
import { data, word } from "/static/heed.js";

const rows = [...document.querySelectorAll("tr[data-run]")];
const form = document.getElementById("filter");
const compare = document.getElementById("compare");
const count = document.getElementById("count");

function filter() {
  const { text, stage, state } = Object.fromEntries(new FormData(form));
  let shown = 0;
  for (const row of rows) {
    const fits = (!stage || row.dataset.stage === stage) && (!state || row.dataset.state.split(" ").includes(state)) && row.dataset.run.toLowerCase().includes(text.toLowerCase());
    row.hidden = !fits;
    shown += fits;
  }
  count.textContent = word("{shown} of {all} runs", { shown, all: rows.length });
}

function picked() {
  const chosen = rows.filter((row) => row.querySelector("input").checked);
  compare.hidden = chosen.length === 0;
  const fits = chosen.length >= 2 && chosen.length <= data.most;
  compare.querySelector("a").toggleAttribute("aria-disabled", !fits);
  if (fits) compare.querySelector("a").href = `/runs/compare?${chosen.map((row) => `run=${encodeURIComponent(row.dataset.run)}`).join("&")}`;
  else compare.querySelector("a").removeAttribute("href");
  compare.querySelector("span").textContent = fits ? word("{count} runs chosen", { count: chosen.length }) : word("Choose 2 to {most} runs.", { most: data.most });
}

form?.addEventListener("input", filter);
form?.addEventListener("submit", (event) => event.preventDefault());
for (const row of rows) row.querySelector("input").addEventListener("change", picked);
if (form) {
  filter();
  picked(); // a browser may have kept what was chosen before
}
