// A conversation as a tree: answers that share a parent are regenerations, questions that share one are edits.

export const readable = (message) => ["whole", "cut"].includes(message.state) || (message.state === "stopped" && message.content !== "");

export class Tree {
  constructor({ messages = [], verdicts = [] } = {}) {
    this.messages = new Map();
    this.chosen = new Map(); // the version shown after each parent
    this.verdicts = new Map();
    for (const message of messages) this.put(message);
    for (const verdict of verdicts) this.judge(verdict);
  }

  /** Add a message or replace what is known of it; a new one is shown. */
  put(message) {
    const known = this.messages.get(message.id);
    this.messages.set(message.id, { ...known, ...message });
    if (!known) this.chosen.set(message.parent, message.id);
  }

  /** All versions that stand in one place, the oldest first. */
  versions(message) {
    return [...this.messages.values()].filter((other) => other.parent === message.parent).sort((a, b) => a.created - b.created);
  }

  /** The messages that are shown. */
  path() {
    const shown = [];
    for (let id = this.chosen.get(null); id !== undefined; id = this.chosen.get(id)) shown.push(this.messages.get(id));
    return shown;
  }

  /** Show the version so many places further. */
  turn(message, by) {
    const versions = this.versions(message);
    const place = versions.findIndex((other) => other.id === message.id) + by;
    if (versions[place]) this.chosen.set(message.parent, versions[place].id);
    return versions[place];
  }

  /** The answer that an answer was to improve on. */
  before(message) {
    return this.versions(message).filter((other) => other.created < message.created && readable(other)).at(-1);
  }

  judge(verdict) {
    const place = `${verdict.message} ${verdict.against ?? ""}`;
    if (verdict.verdict === "none") this.verdicts.delete(place);
    else this.verdicts.set(place, verdict);
  }

  verdict(message, against = "") {
    return this.verdicts.get(`${message} ${against}`);
  }

  /** The answer that is being written, if any is shown. */
  writing() {
    return this.path().find((message) => message.state === "writing");
  }
}
