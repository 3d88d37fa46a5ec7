// One's own replies in a line of words each.

import { data, make } from "/static/heed.js";
import { KINDS } from "/static/annotate/kinds.js";

const kind = KINDS[data.kind];
document.getElementById("rows").replaceChildren(...data.rows.map((row) =>
  make("tr", {},
    make("td", {}, make("a", { href: `/annotate/${data.project}?task=${row.task}` }, row.prompt)),
    make("td", { class: "said" }, kind.say(row.reply, row)),
    make("td", { class: "number" }, String(row.version)),
    make("td", {}, new Date(row.at * 1000).toLocaleString(document.documentElement.lang)))));
