// The list of conversations: searching, older ones, deleting.
import { api, data, make, tell, trying, word } from "/static/heed.js";

const list = document.getElementById("history");
const none = document.getElementById("none");
const more = document.getElementById("more");
const search = document.getElementById("search");
const sure = document.getElementById("sure");
const past = document.getElementById("past");
let shown = [];
let wanted = "";

past.open = matchMedia("(min-width: 60.01rem)").matches;

function draw(open) {
  list.replaceChildren(...shown.map((each) => make("li", {},
    make("a", { href: `/chat/${each.id}`, title: each.title, "aria-current": each.id === open ? "page" : null }, each.title))));
  none.hidden = shown.length > 0;
  none.textContent = word(wanted ? "Nothing found." : "Nothing here yet.");
}

/** Show conversations, those from `skip` on added to what is there. */
export async function listConversations(open, skip = 0) {
  const query = new URLSearchParams({ search: wanted, skip: `${skip}` });
  const { conversations } = await api("GET", `/api/conversations?${query}`);
  shown = skip ? [...shown, ...conversations] : conversations;
  more.hidden = conversations.length < data.page;
  draw(open);
}

/** Ask whether to delete; true if so. */
export function certain(what, why) {
  sure.querySelector("h2").textContent = what;
  sure.querySelector(".why").textContent = why;
  sure.returnValue = "no";
  sure.showModal();
  return new Promise((settle) => sure.addEventListener("close", () => settle(sure.returnValue === "yes"), { once: true }));
}

export function historyOf(current) {
  shown = data.history;
  more.hidden = shown.length < data.page;
  draw(current());
  let later;
  search.addEventListener("input", (event) => {
    if (event.isComposing) return;
    clearTimeout(later);
    later = setTimeout(trying(() => { wanted = search.elements.search.value; return listConversations(current()); }), 200);
  });
  search.addEventListener("compositionend", () => search.dispatchEvent(new Event("input")));
  search.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", trying(() => listConversations(current(), shown.length)));
  document.getElementById("delete-all").addEventListener("click", trying(async () => {
    const why = word("All your conversations, and what you said about their answers, are deleted for good. What was exported for training before stays where it was exported to.");
    if (!(await certain(word("Delete all my conversations"), why))) return;
    const { deleted } = await api("DELETE", "/api/conversations");
    tell(word("{count} conversations deleted.", { count: deleted }));
    setTimeout(() => location.assign("/chat"), 600);
  }));
}
