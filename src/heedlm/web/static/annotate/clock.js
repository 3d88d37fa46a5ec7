// How long a person spends on a task, and how long the task is still theirs.

const IDLE = 60; // seconds without a sign of life after which time is not counted

/** Counts while the page is seen and the person is active; `told(spent, left)` about each second, left null: no lease. */
export class Clock {
  constructor(spent, left, told, renew) {
    Object.assign(this, { spent, told, renew, last: Date.now(), alive: Date.now(), asked: 0, longest: 0, until: null });
    this.lease(left);
    this.sign = () => { this.alive = Date.now(); };
    this.signs = ["keydown", "pointerdown", "pointermove", "wheel", "touchmove"];
    for (const sign of this.signs) document.addEventListener(sign, this.sign, { passive: true });
    this.timer = setInterval(() => this.tick(), 1000);
  }

  lease(left) {
    this.until = left === null ? null : Date.now() + left * 1000;
    this.longest = Math.max(this.longest, left ?? 0);
  }

  active() {
    return document.visibilityState === "visible" && Date.now() - this.alive < IDLE * 1000;
  }

  tick() {
    const now = Date.now();
    // A timer that was held up, or a machine that slept, is not work.
    if (this.active()) this.spent += Math.min(Math.max(now - this.last, 0) / 1000, 3);
    this.last = now;
    const left = this.until === null ? null : Math.max(0, (this.until - now) / 1000);
    if (left !== null && left > 0 && left < this.longest / 2 && this.active() && now - this.asked > 20_000) {
      this.asked = now;
      this.renew();
    }
    this.told(this.spent, left);
  }

  stop() {
    clearInterval(this.timer);
    for (const sign of this.signs) document.removeEventListener(sign, this.sign);
  }
}

export const minutes = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
