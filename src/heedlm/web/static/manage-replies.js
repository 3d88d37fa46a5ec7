// Replies in words, and the editor of a manager's own reply, drawn by the parts of the annotation page.

import { api, data, tell, trying, word } from "/static/heed.js";
import { KINDS } from "/static/annotate/kinds.js";

const kind = KINDS[data.kind];

for (const element of document.querySelectorAll("[data-reply]")) {
  element.textContent = kind.say(JSON.parse(element.dataset.reply));
}

const editor = document.getElementById("editor");
if (editor) {
  const { task, send } = data;
  const purpose = document.getElementById("purpose-of");
  const box = document.getElementById("editor-box");
  let state = task.reply ? kind.from(task.reply, task) : kind.start(task);
  const view = kind.draw(task, act);
  editor.append(view.element);
  view.show(state, false);

  function act(next) {
    state = next;
    view.show(state, false);
  }

  const fit = () => { if (box) box.hidden = purpose.value === "ordinary"; };
  purpose?.addEventListener("change", fit);
  fit();

  document.getElementById("send-reply").addEventListener("click", trying(async () => {
    const needed = purpose?.value !== "ordinary";
    const missing = needed ? kind.missing(state, task) : "";
    if (missing) {
      tell(missing, "bad");
      return;
    }
    const reply = needed ? kind.reply(state, task) : null;
    const body = purpose ? { purpose: purpose.value, reply } : { reply };
    await api(send.method ?? "POST", send.path, body);
    if (send.then) location.assign(send.then);
    else location.reload();
  }));
}
