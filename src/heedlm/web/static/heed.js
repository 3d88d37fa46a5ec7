// What every page uses: its data, words in the reader's language, requests, short messages.

const read = (id) => {
  const element = document.getElementById(id);
  return element ? JSON.parse(element.textContent) : null;
};

export const data = read("data");
const words = read("words") ?? {};

/** A text in the reader's language, with {names} filled in. */
export const word = (text, values = {}) =>
  (words[text] ?? text).replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));

export class Problem extends Error {
  constructor(status, message) {
    super(message);
    this.status = status; // 0: the server was not reached
  }
}

const token = document.querySelector('meta[name="csrf"]').content;

/** Ask the server; returns what it says, or throws a Problem. */
export async function api(method, path, body, options = {}) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: { "x-csrf-token": token, ...(body === undefined ? {} : { "content-type": "application/json" }) },
      body: body === undefined ? undefined : JSON.stringify(body),
      ...options,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, word("The server cannot be reached; your work is kept here until it can."));
  }
  if (options.raw && response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401) location.assign(`/login?next=${encodeURIComponent(location.pathname)}`);
  if (!response.ok) throw new Problem(response.status, word(answer.error?.message ?? response.statusText));
  return answer;
}

/** Tell something briefly. */
export function tell(text, kind = "") {
  const box = document.createElement("p");
  box.className = `toast ${kind}`;
  box.textContent = text;
  document.getElementById("toasts").append(box);
  setTimeout(() => box.remove(), kind === "bad" ? 9000 : 3500);
}

/** Run something that may fail; what is wrong is told. */
export const trying = (action) => async (...given) => {
  try {
    return await action(...given);
  } catch (error) {
    if (error.name !== "AbortError") tell(error.message, "bad");
    if (!(error instanceof Problem) && error.name !== "AbortError") throw error;
  }
};

/** An element: make("button", {class: "quiet", onclick}, "text", otherElement). Text stays text. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Random, for a submit that may have to be repeated. */
export const newKey = () => crypto.randomUUID?.() ?? Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");

/** Whether a key press belongs to text being written: in a field, or while Chinese is being composed. */
export const typing = (event) =>
  event.isComposing || event.keyCode === 229 || event.target.closest?.("input, textarea, select, [contenteditable]") !== null;
