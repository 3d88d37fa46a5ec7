// Kinds of questions, by name. Each is a module with
//   start(task), from(reply, task): what is on the page, as a plain value that can be kept and brought back
//   reply(state, task): what is sent;  missing(state, task): what must still be done;  doubt: what is asked once
//   say(reply): a reply in a line of words;  texts(state, task): what differences can be shown between
//   keys(task), press(event, state, task): its keys, and the state after one
//   draw(task, act): {element, show(state, byKey)}; act(state, typed) tells that the person changed something.

import pair from "/static/annotate/pair.js";
import rank from "/static/annotate/rank.js";
import rate from "/static/annotate/rate.js";
import steps from "/static/annotate/steps.js";
import thumb from "/static/annotate/thumb.js";
import write from "/static/annotate/write.js";

export const KINDS = { pair, rank, rate, steps, thumb, write };
