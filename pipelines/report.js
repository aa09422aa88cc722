"use strict";
(() => {
  const shared = JSON.parse(document.getElementById("shared").textContent);
  const root = document.documentElement;
  const narrowPage = matchMedia("(max-width: 600px)");
  const darkSystem = matchMedia("(prefers-color-scheme: dark)");
  const toggle = document.getElementById("theme");
  const drawings = [...document.querySelectorAll(".drawing")];
  const drawn = new Set();
  let theme = darkSystem.matches ? "dark" : "light";

  const paint = (part) => {
    if (Array.isArray(part)) return part.map(paint);
    if (part && typeof part === "object") {
      return Object.fromEntries(Object.entries(part).map(([key, value]) => [key, paint(value)]));
    }
    return typeof part === "string" && Object.hasOwn(shared.dark, part) ? shared.dark[part] : part;
  };

  // Set a value at a path such as "annotations[2].text".
  const put = (target, path, value) => {
    const steps = path.split(/[.[\]]+/).filter(Boolean);
    const last = steps.pop();
    for (const step of steps) target = target[step] ??= {};
    target[last] = value;
  };

  const figureOf = (place) => {
    const figure = JSON.parse(document.getElementById(place.dataset.figure).textContent);
    figure.layout.template = structuredClone(shared.template);
    if (narrowPage.matches) {
      for (const [path, value] of Object.entries(figure.narrow.layout)) put(figure.layout, path, value);
      for (const [index, changes] of Object.entries(figure.narrow.data)) {
        for (const [path, value] of Object.entries(changes)) put(figure.data[index], path, value);
      }
    }
    return theme === "dark" ? paint(figure) : figure;
  };

  const draw = async (place) => {
    drawn.add(place);
    if (typeof Plotly === "undefined") {
      place.textContent = "This figure could not be drawn: the page's copy of plotly.js did not load.";
      place.classList.add("failed");
      return;
    }
    const figure = figureOf(place);
    // On a narrow page the buttons would cover the drawing.
    const config = { ...shared.config, displayModeBar: narrowPage.matches ? false : "hover" };
    await Plotly.react(place, figure.data, figure.layout, config);
    place.dataset.drawn = theme;
  };

  const redraw = () => drawn.forEach(draw);
  const show = (wanted) => {
    theme = wanted;
    root.dataset.theme = theme;
    toggle.textContent = theme === "dark" ? "Light" : "Dark";
    toggle.setAttribute("aria-label", `Switch to ${theme === "dark" ? "light" : "dark"} colours`);
    redraw();
  };

  show(theme);
  toggle.hidden = false;
  toggle.addEventListener("click", () => show(theme === "dark" ? "light" : "dark"));
  darkSystem.addEventListener("change", () => show(darkSystem.matches ? "dark" : "light"));
  narrowPage.addEventListener("change", redraw);

  const watcher = new IntersectionObserver(
    (entries) => {
      for (const entry of entries.filter((one) => one.isIntersecting)) {
        watcher.unobserve(entry.target);
        draw(entry.target);
      }
    },
    { rootMargin: "300px" },
  );
  drawings.forEach((place) => watcher.observe(place));

  let before = theme;
  addEventListener("beforeprint", () => {
    before = theme;
    drawings.forEach((place) => drawn.add(place));
    show("light");
  });
  addEventListener("afterprint", () => show(before));
})();
