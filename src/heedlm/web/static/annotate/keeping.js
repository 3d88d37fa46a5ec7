// What a person entered, kept in this browser until the server has acknowledged it.

import { api, data, Problem } from "/static/heed.js";

const PAUSE = 800; // milliseconds without a change before a draft is sent
const LONGEST_WAIT = 30; // seconds between two tries

const name = (what, task) => `heed ${what} ${data.me} ${task}`;

function read(key) {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return null;
  }
}

function put(key, value) {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // No room, or not allowed: the server keeps it.
  }
}

/** Whether the same request may do better later. */
const passing = (error) => error instanceof Problem && (error.status === 0 || error.status === 408 || error.status === 429 || error.status >= 500);

/** Wait, or go on as soon as the network is back or somebody calls `hurry`. */
let hurry = () => {};
const pause = (seconds) =>
  new Promise((done) => {
    const stop = () => {
      clearTimeout(timer);
      removeEventListener("online", stop);
      done();
    };
    const timer = setTimeout(stop, seconds * 1000);
    addEventListener("online", stop);
    hurry = stop;
  });
export const tryNow = () => hurry();

/** A draft of this task that the server may not have. */
export const localDraft = (task) => read(name("draft", task));
export const forgetDraft = (task) => put(name("draft", task), null);

/** Sends the drafts of one task, the newest only, until each is acknowledged. `told("saved" | "sending" | "kept")`. */
export class Drafts {
  constructor(task, told, renewed) {
    Object.assign(this, { task, told, renewed, draft: null, timer: null, flight: null, busy: false, over: false, wait: 1 });
  }

  change(draft) {
    this.draft = draft;
    put(name("draft", this.task), draft);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.send(), PAUSE);
    this.told("sending");
  }

  /** Send at once; also keeps the task one's own. */
  async send(keepalive = false) {
    clearTimeout(this.timer);
    if (this.draft === null || this.over || (this.busy && !keepalive)) return;
    this.flight = this.put(this.draft, keepalive);
    await this.flight;
  }

  async put(draft, keepalive) {
    this.busy = true;
    try {
      const { seconds_left } = await api("PUT", `/api/tasks/${this.task}/draft`, { draft }, { keepalive });
      this.wait = 1;
      this.renewed(seconds_left);
      if (this.draft === draft && !this.over) {
        forgetDraft(this.task);
        this.told("saved");
      } else this.again(0);
    } catch (error) {
      this.told("kept", error);
      if (passing(error)) this.again((this.wait = Math.min(LONGEST_WAIT, this.wait * 2)));
    } finally {
      this.busy = false;
    }
  }

  again(seconds) {
    if (this.over) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.send(), seconds * 1000);
  }

  /** No more drafts; waits for the one that is on its way, which must not come after what is handed in. */
  async stop() {
    this.over = true;
    clearTimeout(this.timer);
    await this.flight;
  }
}

/** Replies that were handed in and not acknowledged, in this browser, by this person, in this project. */
export function outbox() {
  const found = [];
  try {
    for (const key of Object.keys(localStorage)) if (key.startsWith(name("reply", ""))) found.push(read(key));
  } catch {
    // Not allowed: nothing was kept.
  }
  return found.filter((entry) => entry?.project === data.project);
}

/**
 * Hand in a reply {task, project, reply, key, base, seconds}, again and again until it is acknowledged: the key makes it one.
 * `told(seconds)` before each pause. Throws the Problem if the server does not want it.
 */
export async function deliver(entry, told) {
  const key = name("reply", entry.task);
  put(key, entry);
  const { task, project, ...body } = entry;
  for (let wait = 1; ; wait = Math.min(LONGEST_WAIT, wait * 2)) {
    try {
      const label = await api("POST", `/api/tasks/${task}/submit`, body);
      put(key, null);
      forgetDraft(task);
      return label;
    } catch (error) {
      if (!passing(error)) {
        // Who has to log in again, or has an old page, finds it waiting.
        if (![401, 403].includes(error.status)) put(key, null);
        throw error;
      }
      told(wait);
      await pause(wait);
    }
  }
}
