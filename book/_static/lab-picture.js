/* What a kernel of the page loaded and stored, program by program: a map of each argument, and a slider through the
   programs (lab.js asks for one per launch; lab_worker.py says what is in it). */
(() => {
  "use strict";

  const LARGEST = [320, 224]; // pixels of a map, across and down
  const CELL = [2, 14]; // least and most of an element's side, in pixels
  const ROW = 32; // elements of a vector in a line
  const numbers = new Intl.NumberFormat("en");

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  // [lines, elements in a line] in which a tensor is drawn: its last axis across, a vector in lines of ROW.
  function table(shape) {
    const size = shape.reduce((product, each) => product * each, 1);
    const across = Math.max(1, shape.length > 1 ? shape.at(-1) : Math.min(ROW, size));
    return [Math.ceil(size / across), across, size];
  }

  function counts(byProgram, size) {
    const found = new Uint32Array(size);
    for (const places of Object.values(byProgram)) for (const place of places) found[place] += 1;
    return found;
  }

  // A cell has the colour of a load or a store where the chosen program touched it, a pale one where another did.
  function draw(canvas, entry, program) {
    const [lines, across, size] = table(entry.shape);
    const side = Math.max(CELL[0], Math.min(CELL[1], Math.floor(LARGEST[0] / across), Math.floor(LARGEST[1] / lines)));
    const gap = side > 3 ? 1 : 0;
    const ratio = window.devicePixelRatio || 1;
    Object.assign(canvas, {width: across * side * ratio, height: lines * side * ratio});
    canvas.style.width = `${across * side}px`;
    const pen = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    const [load, store, ink] = ["--lab-load", "--lab-store", "--lab-comment"].map((each) => style.getPropertyValue(each));
    pen.scale(ratio, ratio);
    const all = {load: counts(entry.load, size), store: counts(entry.store, size)};
    const mine = {load: new Set(entry.load[program]), store: new Set(entry.store[program])};
    for (let place = 0; place < size; place += 1) {
      const kind = mine.store.has(place) || (!mine.load.has(place) && all.store[place]) ? "store" : "load";
      const own = mine[kind].has(place);
      pen.globalAlpha = own ? 1 : all[kind][place] ? 0.3 : 0.12;
      pen.fillStyle = all[kind][place] ? (kind === "load" ? load : store) : ink;
      pen.fillRect((place % across) * side, Math.floor(place / across) * side, side - gap, side - gap);
    }
  }

  function touched(entry, program) {
    const parts = [["load", "loads"], ["store", "stores"]].map(([kind, verb]) => {
      const places = entry[kind][program] ?? [];
      const again = places.length - new Set(places).size;
      return places.length ? `${verb} ${numbers.format(places.length)}${again ? ` (${numbers.format(again)} again)` : ""}` : "";
    });
    return parts.filter(Boolean).join(", ") || "touches none";
  }

  function picture(launch) {
    const slider = make("input", {type: "range", min: 0, max: Math.max(0, launch.programs.length - 1), value: launch.first});
    const output = make("output");
    const maps = Object.entries(launch.tensors).map(([name, entry]) => {
      const canvas = make("canvas");
      canvas.setAttribute("role", "img");
      const words = make("p");
      return {name, entry, canvas, words, box: make("div", {}, words, canvas)};
    });
    function show() {
      const program = slider.value;
      output.textContent = `(${(launch.programs[program] ?? []).join(", ")})`;
      slider.setAttribute("aria-valuetext", `program ${output.textContent}`);
      for (const {name, entry, canvas, words} of maps) {
        draw(canvas, entry, program);
        words.textContent = `${name} [${entry.shape.join(", ")}]: ${touched(entry, program)}`;
        canvas.setAttribute("aria-label", words.textContent);
      }
    }
    const sizes = [
      `${launch.kernel}, grid (${launch.grid.join(", ")})`,
      `${numbers.format(launch.loaded)} bytes loaded`,
      `${numbers.format(launch.stored)} bytes stored`,
      launch.products ? `${numbers.format(launch.products)} operations in matrix products` : "no matrix products",
      `${numbers.format(launch.operations)} other operations on floats, lanes past a mask counted too`,
    ];
    const note = launch.whole ? "" : " Only the first accesses are drawn.";
    const found = launch.findings.map((each) => make("pre", {className: "lab-printed", textContent: each}));
    const figure = make("figure", {},
      make("label", {}, "program ", slider, output),
      make("div", {className: "lab-tensors"}, ...maps.map(({box}) => box)),
      ...found,
      make("figcaption", {textContent: `${sizes.join("; ")}. Strong: the chosen program's; pale: another's; grey: nobody's.${note}`}));
    slider.addEventListener("input", show);
    requestAnimationFrame(show); // once it stands in the page, where its colours are known
    new MutationObserver((changes, observer) => { // the theme's colours changed, or the next run took its place
      if (figure.isConnected) show();
      else observer.disconnect();
    }).observe(document.documentElement, {attributeFilter: ["data-theme"]});
    return figure;
  }

  window.effattnPicture = picture;
})();
