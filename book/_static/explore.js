/* Explorable figures: draws every <figure class="explorable"> of a page from the data stored in it (figures/codec.py says
 * what that holds) and lets its native controls move it. No kernel, no network beyond this site's own plotly.min.js,
 * which is fetched when the first figure comes near the screen, at the latest when the page has been read. On paper every
 * figure is drawn, as on a light page. The state of each figure is kept in the address:
 * #online-softmax:step=3;schedule:block=64,causal=1 */
(() => {
  "use strict";

  const VENDOR = new URL("vendor/plotly.min.js", document.currentScript.src).href;
  const MARGIN = 400; // pixels around the screen within which a figure is drawn
  const NARROW = 520; // pixels of chart under which layout.meta.narrow applies
  const PAPER = 640; // pixels across a printed page, A4 or Letter with any usual margin
  const BEAT = 900; // milliseconds between steps of a played parameter
  const PAUSE = 250; // milliseconds of rest before a change is announced and written to the address
  const TYPES = {u1: Uint8Array, u2: Uint16Array, i4: Int32Array};

  let plotly; // one promise for the whole page
  function loadPlotly() {
    plotly ??= window.Plotly ? Promise.resolve(window.Plotly) : new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = VENDOR;
      script.onload = () => resolve(window.Plotly);
      script.onerror = () => reject(new Error(`${VENDOR} did not load`));
      document.head.append(script);
    });
    return plotly;
  }

  function decode(text, kind) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new TYPES[kind](bytes.buffer);
  }

  // Put `value` at the end of `path`; null takes away what is there.
  function put(target, path, value) {
    const last = path[path.length - 1];
    let node = target;
    for (const key of path.slice(0, -1)) node = node[key] ??= {};
    if (value === null) delete node[last];
    else node[last] = structuredClone(value);
  }

  // Replace the colours that stand for a role ("ink") by those of the page's theme.
  function paint(node, colours) {
    for (const [key, value] of Object.entries(node)) {
      if (typeof value === "string") node[key] = colours[value] ?? value;
      else if (value && typeof value === "object" && !ArrayBuffer.isView(value)) paint(value, colours);
    }
  }

  const stillness = window.matchMedia("(prefers-reduced-motion: reduce)");

  class Explorable {
    constructor(figure) {
      this.figure = figure;
      this.name = figure.id;
      this.chart = figure.querySelector(".explorable-chart");
      this.says = figure.querySelector(".explorable-says");
      this.data = JSON.parse(figure.querySelector(".explorable-data").textContent);
      this.columns = this.data.columns.map(({path, index}) => ({path, index: decode(index, this.data.kind)}));
      this.places = this.data.states.map((parameter) => parameter.start);
      this.controls = this.data.states.map(({name}) => figure.querySelector(`[data-parameter="${name}"]`));
      this.playButton = figure.querySelector(".explorable-play");
      this.near = false;
      this.listen();
      this.read(window.location.hash);
    }

    listen() {
      const fieldset = this.figure.querySelector("fieldset");
      if (fieldset) fieldset.disabled = false;
      this.controls.forEach((control, i) => control.addEventListener("input", () => {
        this.stop();
        this.move(i, control.type === "checkbox" ? this.placeOfSwitch(i, control.checked) : Number(control.value));
      }));
      this.figure.querySelector(".explorable-reset")?.addEventListener("click", () => {
        this.stop();
        this.places = this.data.states.map((parameter) => parameter.start);
        this.change();
      });
      if (this.playButton) {
        this.playButton.addEventListener("click", () => (this.timer ? this.stop() : this.play()));
        stillness.addEventListener("change", () => this.stop());
        this.stop();
      }
      // Draw when the figure comes near the screen, and again when its width or the page's theme changes.
      new IntersectionObserver((entries, observer) => {
        if (!entries.some((entry) => entry.isIntersecting)) return;
        observer.disconnect();
        this.near = true;
        this.draw();
      }, {rootMargin: `${MARGIN}px`}).observe(this.figure);
      let width = this.chart.clientWidth;
      new ResizeObserver(() => {
        if (this.chart.clientWidth === width) return;
        width = this.chart.clientWidth;
        this.draw();
      }).observe(this.chart);
    }

    placeOfSwitch(i, checked) {
      return this.data.states[i].values.indexOf(checked ? "1" : "0");
    }

    move(i, place) {
      this.places[i] = place;
      this.change();
    }

    change() {
      this.show();
      this.draw();
      clearTimeout(this.rest);
      this.rest = setTimeout(() => {
        this.announce();
        writeAddress();
      }, PAUSE);
    }

    // The controls show the state, whoever changed it.
    show() {
      this.data.states.forEach((parameter, i) => {
        const control = this.controls[i];
        const place = this.places[i];
        if (control.type === "checkbox") {
          control.checked = parameter.values[place] === "1";
          return;
        }
        control.value = String(place);
        if (control.type !== "range") return;
        control.setAttribute("aria-valuetext", parameter.words[place]);
        control.parentElement.querySelector("output").textContent = parameter.words[place];
      });
    }

    // The stored figure with what this state changes: states are numbered with the last parameter running fastest.
    current() {
      const state = this.data.states.reduce((sum, {values}, i) => sum * values.length + this.places[i], 0);
      const whole = structuredClone({figure: this.data.base, says: this.data.says});
      for (const {path, index} of this.columns) put(whole, path, this.data.values[index[state]]);
      return whole;
    }

    announce() {
      const spoken = this.current().says;
      if (this.says.textContent !== spoken) this.says.textContent = spoken;
    }

    draw() {
      if (!this.near || this.waiting) return;
      this.waiting = true;
      requestAnimationFrame(async () => {
        this.waiting = false;
        try {
          await this.drawWith(await loadPlotly());
        } catch (problem) {
          this.chart.textContent = `This figure could not be drawn (${problem.message}). The text below says what it shows.`;
        }
      });
    }

    drawWith(library) {
      const {data, layout} = this.dress(this.current().figure);
      this.chart.querySelector(".explorable-waiting")?.remove();
      const done = library.react(this.chart, data, layout, {displayModeBar: false, responsive: false});
      this.figure.dataset.drawn = String(Number(this.figure.dataset.drawn ?? 0) + 1);
      this.figure.dispatchEvent(new CustomEvent("explorable-drawn", {bubbles: true}));
      return done;
    }

    // The page's colours and letters; on a narrow screen, what the builder wants otherwise there.
    dress(figure) {
      const layout = figure.layout;
      layout.template = structuredClone(this.data.template);
      layout.template.layout.font.family = getComputedStyle(this.figure).fontFamily;
      layout.width = printing ? Math.min(this.chart.clientWidth, PAPER) : this.chart.clientWidth;
      if (layout.width < NARROW) {
        for (const [path, value] of Object.entries(layout.meta?.narrow ?? {})) put(layout, path.split("."), value);
      }
      paint(figure, this.colours());
      return figure;
    }

    // From each colour stored for a role to the page's own, in numbers: plotly does not know the words of forced colours.
    colours() {
      const probe = this.chart.appendChild(document.createElement("span"));
      probe.className = "explorable-probe";
      const seen = Object.entries(this.data.roles).map(([stored, role]) => {
        probe.style.color = `var(--explorable-${role})`;
        return [stored, getComputedStyle(probe).color];
      });
      probe.remove();
      return Object.fromEntries(seen);
    }

    // One step at once; then, unless the reader asked for little motion, one a beat until the end.
    play() {
      const i = this.data.states.findIndex(({name}) => name === this.data.play);
      const count = this.data.states[i].values.length;
      const step = () => this.move(i, (this.places[i] + 1) % count);
      step();
      if (stillness.matches || this.places[i] === count - 1) return;
      this.timer = setInterval(() => {
        step();
        if (this.places[i] === count - 1) this.stop();
      }, BEAT);
      this.playButton.textContent = "Pause";
    }

    stop() {
      clearInterval(this.timer);
      this.timer = undefined;
      if (!this.playButton) return;
      this.playButton.textContent = `${stillness.matches ? "Step" : "Play"} ${this.playButton.dataset.label}`;
    }

    // "name:parameter=value,…" of this figure, empty where it stands as it started.
    address() {
      const parts = this.data.states.flatMap(({name, values, start: first}, i) =>
        this.places[i] === first ? [] : [`${name}=${encodeURIComponent(values[this.places[i]])}`]);
      return parts.length ? `${this.name}:${parts.join(",")}` : "";
    }

    // Take the state that an address names for this figure. Returns whether it names one.
    read(hash) {
      const mine = hash.replace(/^#/, "").split(";").find((part) => part.startsWith(`${this.name}:`));
      if (mine === undefined) return false;
      const places = this.data.states.map((parameter) => parameter.start);
      for (const pair of mine.slice(this.name.length + 1).split(",")) {
        const [name, value] = pair.split("=");
        const i = this.data.states.findIndex((parameter) => parameter.name === name);
        const place = i < 0 ? -1 : this.data.states[i].values.indexOf(unescaped(value ?? ""));
        if (place >= 0) places[i] = place;
      }
      this.stop();
      this.places = places;
      this.show();
      this.announce();
      this.draw();
      return true;
    }
  }

  function unescaped(text) {
    try {
      return decodeURIComponent(text);
    } catch {
      return text; // a broken address names no value
    }
  }

  let explorables = [];

  function writeAddress() {
    const parts = explorables.map((each) => each.address()).filter(Boolean);
    const bare = window.location.pathname + window.location.search;
    history.replaceState(history.state, "", parts.length ? `#${parts.join(";")}` : bare);
  }

  // A link such as #schedule:window=64 moves its figure and brings it into view.
  function follow() {
    explorables.find((each) => each.read(window.location.hash))?.figure.scrollIntoView();
  }

  // Paper is drawn at once, for it is printed when this returns; only plotly must be there already.
  let printing = false;
  function print(on) {
    if (printing === on) return;
    printing = on;
    for (const each of explorables) {
      if (on && window.Plotly) {
        each.drawWith(window.Plotly);
        continue;
      }
      each.near ||= on;
      each.draw();
    }
  }

  function start() {
    explorables = [...document.querySelectorAll("figure.explorable")].map((figure) => new Explorable(figure));
    const named = explorables.find((each) => window.location.hash.slice(1).split(";").some(
      (part) => part.startsWith(`${each.name}:`)));
    named?.figure.scrollIntoView({behavior: "instant"});
    window.addEventListener("hashchange", () => {
      follow();
    });
    const drawAll = () => explorables.forEach((each) => each.draw());
    new MutationObserver(drawAll)
      .observe(document.documentElement, {attributes: true, attributeFilter: ["data-theme"]});
    for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)"]) {
      window.matchMedia(query).addEventListener("change", drawAll);
    }
    window.matchMedia("print").addEventListener("change", ({matches}) => print(matches));
    window.addEventListener("beforeprint", () => print(true));
    window.addEventListener("afterprint", () => print(false));
    // Before the page counts as loaded: whoever prints it then finds plotly there.
    if (explorables.length) whenParsed(() => loadPlotly().catch(() => {}));
  }

  function whenParsed(task) {
    if (document.readyState === "complete") task();
    else document.addEventListener("DOMContentLoaded", task, {once: true});
  }

  // Before the scripts that wait for the whole page (the theme's icons are the longest).
  if (document.readyState === "loading") document.addEventListener("readystatechange", start, {once: true});
  else start();
})();
