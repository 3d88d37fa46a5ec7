"use strict";
(() => {
  const data = JSON.parse(document.getElementById("chart-data").textContent);

  const nearest = (steps, step) => {
    let low = 0, high = steps.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (steps[middle] < step) low = middle; else high = middle;
    }
    return Math.abs(steps[high] - step) < Math.abs(steps[low] - step) ? high : low;
  };

  const element = (name, parent) => {
    const made = document.createElement("div");
    made.className = name;
    parent.append(made);
    return made;
  };

  const prepare = (plot) => {
    const chart = data[plot.dataset.chart];
    const field = plot.querySelector(".field");
    const [left, right] = chart.range;
    const longest = chart.curves.reduce((a, b) => (b.steps.length > a.steps.length ? b : a)).steps;
    let at = -1;
    let parts = null;

    const hide = () => {
      if (parts) [parts.cross, parts.tip, ...parts.dots].forEach((each) => each.remove());
      parts = null;
      at = -1;
    };

    const show = (index) => {
      at = Math.max(0, Math.min(longest.length - 1, index));
      const step = longest[at];
      if (!parts) {
        parts = { cross: element("cross", field), tip: element("tip", field), dots: [] };
        parts.tip.setAttribute("role", "status");
        parts.dots = chart.curves.map((_, place) => {
          const dot = element("dot", field);
          dot.style.background = `var(--k${place})`;
          return dot;
        });
      }
      const share = (100 * (step - left)) / (right - left);
      parts.cross.style.left = `${share}%`;
      parts.tip.replaceChildren();
      element("when", parts.tip).textContent = `step ${step}`;
      chart.curves.forEach((curve, place) => {
        const here = nearest(curve.steps, step);
        const near = Math.abs(curve.steps[here] - step) <= (right - left) / 50 || curve.steps[here] === step;
        parts.dots[place].hidden = !near;
        if (!near) return;
        parts.dots[place].style.left = `${(100 * (curve.steps[here] - left)) / (right - left)}%`;
        parts.dots[place].style.top = `${curve.y[here] / 10}%`;
        element("value", parts.tip).textContent = `${curve.label}: ${curve.text[here]}`;
      });
      chart.zones.filter(([from, to]) => from <= share && share <= to).forEach(([, , text]) => {
        element("why", parts.tip).textContent = text;
      });
      // Keep the words inside the window: shift them by as much as they would hang over.
      parts.tip.style.left = `${share}%`;
      const box = parts.tip.getBoundingClientRect();
      const over = Math.max(0, box.right + 6 - document.documentElement.clientWidth) + Math.min(0, box.left - 6);
      if (over) parts.tip.style.left = `calc(${share}% - ${over}px)`;
    };

    plot.addEventListener("pointermove", (event) => {
      const box = field.getBoundingClientRect();
      show(nearest(longest, left + ((event.clientX - box.left) / box.width) * (right - left)));
    });
    plot.addEventListener("pointerleave", hide);
    plot.addEventListener("blur", hide);
    plot.addEventListener("keydown", (event) => {
      const jump = Math.max(1, Math.round(longest.length / 20));
      const from = at < 0 ? longest.length - 1 : at;
      const to = { ArrowLeft: from - 1, ArrowRight: at < 0 ? from : from + 1, PageUp: from - jump, PageDown: from + jump, Home: 0, End: longest.length - 1 }[event.key];
      if (event.key === "Escape") hide();
      if (to === undefined) return;
      event.preventDefault();
      show(to);
    });
  };

  document.querySelectorAll(".plot").forEach(prepare);

  const links = new Map([...document.querySelectorAll(".toc a")].map((link) => [link.hash.slice(1), link]));
  const inView = new Set();
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) inView.add(entry.target.id); else inView.delete(entry.target.id);
    }
    const first = [...links.keys()].find((id) => inView.has(id));
    for (const [id, link] of links) {
      if (id === first) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
    }
  }, { rootMargin: "0px 0px -60% 0px" });
  document.querySelectorAll("main section").forEach((section) => watch.observe(section));

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("#inputs details:not([open]), #earlier details.run:not([open])")];
    opened.forEach((each) => { each.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((each) => { each.open = false; }));
})();
