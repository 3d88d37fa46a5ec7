// Dragging a card of a ranking by its grip, with a mouse, a pen or a finger.

/** Where a card would land: {into: tier} in the middle of a tier, {before: tier} near an edge. */
function target(list, y) {
  const tiers = [...list.children];
  for (const [at, tier] of tiers.entries()) {
    const { top, bottom, height } = tier.getBoundingClientRect();
    if (y > bottom) continue;
    const edge = Math.min(height * 0.3, 48);
    if (y < top + edge) return { before: at };
    return y <= bottom - edge ? { into: at } : { before: at + 1 };
  }
  return { before: tiers.length };
}

function mark(list, drop) {
  for (const [at, tier] of [...list.children].entries()) {
    tier.classList.toggle("over", drop?.into === at);
    tier.classList.toggle("before", drop?.before === at);
    tier.classList.toggle("after", drop?.before === list.children.length && at === list.children.length - 1);
  }
}

/** Make `card` draggable by `grip` among the tiers of `list`; `dropped` is told where it landed. */
export function draggable(grip, card, list, dropped) {
  let from = null;
  let drop = null;
  const over = (event) => {
    if (from === null) return;
    const near = event.clientY < 60 ? -12 : event.clientY > innerHeight - 100 ? 12 : 0;
    if (near) scrollBy(0, near);
    card.style.transform = `translate(${event.clientX - from.x}px, ${event.clientY - from.y + scrollY - from.scroll}px)`;
    drop = target(list, event.clientY);
    mark(list, drop);
  };
  const end = (event) => {
    if (from === null) return;
    from = null;
    card.classList.remove("dragged");
    card.style.transform = "";
    mark(list, null);
    if (event.type === "pointerup" && drop !== null) dropped(drop);
    drop = null;
  };
  grip.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    from = { x: event.clientX, y: event.clientY, scroll: scrollY };
    grip.setPointerCapture(event.pointerId);
    card.classList.add("dragged");
    card.focus({ preventScroll: true });
  });
  grip.addEventListener("pointermove", over);
  grip.addEventListener("pointerup", end);
  grip.addEventListener("pointercancel", end);
}
