/* What a page of the book does beside its theme: it sets the mathematics, and it prints in the light theme. */
(() => {
  "use strict";

  const MATHEMATICS = new URL("mathjax/tex-chtml.js", document.currentScript.src).href;
  const MARGIN = 400; // pixels around the screen within which a figure is drawn (explore.js has the same)
  const LONGEST = 2000; // milliseconds that the mathematics waits for a figure
  const FIRST = 300; // and then for a reader who moves that figure at once

  function fetchMathematics() {
    const script = document.createElement("script");
    script.src = MATHEMATICS;
    document.head.append(script);
  }

  function isNear(figure) {
    const {top, bottom} = figure.getBoundingClientRect();
    return bottom > -MARGIN && top < window.innerHeight + MARGIN;
  }

  // Setting all formulas holds the page for half a second: a figure that the reader sees answers first.
  function start() {
    if (!document.querySelector(".math")) return;
    if (![...document.querySelectorAll("figure.explorable")].some(isNear)) {
      fetchMathematics();
      return;
    }
    let begun = false;
    const begin = () => {
      if (begun) return;
      begun = true;
      fetchMathematics();
    };
    document.addEventListener("explorable-drawn", () => setTimeout(begin, FIRST), {once: true});
    setTimeout(begin, LONGEST);
  }

  // On paper the light theme, whichever is chosen: printers leave the dark ground out, and its letters are pale.
  let chosen; // while a page is printed: the theme to return to
  function print(on) {
    const {dataset} = document.documentElement;
    if (on === (chosen !== undefined)) return;
    [chosen, dataset.theme] = on ? [dataset.theme ?? "", "light"] : [undefined, chosen];
  }
  window.matchMedia("print").addEventListener("change", ({matches}) => print(matches));
  window.addEventListener("beforeprint", () => print(true));
  window.addEventListener("afterprint", () => print(false));

  // Before the scripts that wait for the whole page (the theme's icons are the longest).
  // A task of its own, so that a figure that the address names has been scrolled to.
  document.addEventListener("readystatechange", () => setTimeout(start), {once: true});
})();
