// What is pressed or changed before the scripts of the page are there is kept for them, and not lost or sent as a plain
// form. This one is not a module, so it runs before anything can be pressed; DOMContentLoaded comes after every module.

const early = [];

function keep(event) {
  const element = event.target.closest?.("button, input, select, textarea");
  if (!element || (event.type === "click" && element?.tagName !== "BUTTON")) return;
  event.stopImmediatePropagation();
  if (event.type === "click") event.preventDefault();
  early.push([element, event.type]);
}

for (const type of ["click", "change"]) addEventListener(type, keep, true);
addEventListener("DOMContentLoaded", () => {
  for (const type of ["click", "change"]) removeEventListener(type, keep, true);
  for (const [element, type] of early) {
    if (type === "click") element.click();
    else element.dispatchEvent(new Event("change", { bubbles: true }));
  }
});
