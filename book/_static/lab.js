/* Editors on the page: a reader writes a kernel, runs it, and has it checked, in this browser (book/_ext/lab.py).

   Each <div class="lab"> holds its exercise in a script of type application/json: {name, title, function, stub, hint,
   answer, cases, label}; of a kernel that the chapter shows it is {kind: "shown", name, title, function, stub, cases},
   folded, and made when it is opened. The stub stands in a text area, and in CodeMirror once the box comes near the
   screen. The first Run or Check starts the worker (lab-worker.js), which fetches Python from this site; it then stays,
   for all boxes of the page, until Stop terminates it: a loop without end knows no other way. One request runs at a time.
   What the reader writes is kept in localStorage under the box's name, and nowhere else; only what stands in an editor is
   ever run, and only by a button or Ctrl+Enter in it: of the page's address nothing is read but where this script lies and
   whether the page is a file. Browsers start no Python from a file: then, and where the book was built without node, a sentence says
   how to serve it. The pictures are drawn by lab-picture.js. */
(() => {
  "use strict";

  const HERE = document.currentScript.src;
  const KEPT = "effattn-lab:"; // and the box's name
  const NEAR = "400px";
  const SERVE = "Kernels run on the page where it comes from a server. In the repository, make serve does that; in an "
    + "unpacked folder of pages, python -m http.server, and then http://localhost:8000/ in the browser.";
  const MISSING = "This edition was built without node, so kernels do not run on its pages: with node installed, "
    + "make book and make serve. Everything else works.";
  const COMPARED = "Run launches the kernel on the first stored case, and draws it; Check compares "
    + "with what the kernel as shown gives, on all of them. The first press fetches 13 MB from this site. ";
  const BUTTONS = "Run calls your function on the first case and draws what its programs load and store; Check takes "
    + "all cases. The first press fetches 13 MB from this site. ";
  const KEYS = "torch, triton, tl, math and device are there. Ctrl+Enter runs, Tab leaves the editor, Ctrl+] and Ctrl+[ indent (on a Mac Cmd).";
  const LONG = 5000; // milliseconds after which a run is called long
  const boxes = [];
  let worker = null;
  let asked = null; // {id, box, resolve}: the request that is being worked on
  let requests = 0;
  let fetched = false; // whether Python was: a worker that is hired again finds it in the browser's cache

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  // ---- what the reader wrote --------------------------------------------------------------------------------------

  function kept(name) {
    try {
      return window.localStorage.getItem(KEPT + name);
    } catch {
      return null;
    }
  }

  function keep(name, text) {
    try {
      if (text === null) window.localStorage.removeItem(KEPT + name);
      else window.localStorage.setItem(KEPT + name, text);
    } catch {
      // this browser keeps nothing: the text lasts as long as the page
    }
  }

  // ---- the worker -------------------------------------------------------------------------------------------------

  function settle(message) {
    const {resolve, box: owner} = asked;
    asked = null;
    owner.ended();
    resolve(message);
    for (const box of boxes) box.enable();
  }

  function hire() {
    worker = new window.Worker(new URL("lab-worker.js", HERE), {type: "module"});
    worker.addEventListener("message", ({data}) => {
      if (!asked) return;
      if (data.total) asked.box.progress(data.loaded, data.total);
      else if (data.id !== asked.id) return;
      else if (data.running) asked.box.running();
      else if (data.printed !== undefined) asked.box.print(data.printed);
      else settle(data);
    });
    worker.addEventListener("error", () => {
      dismiss("Python could not be started in this browser.");
    });
  }

  function dismiss(reason) {
    worker?.terminate();
    worker = null;
    if (asked) settle({failed: reason});
  }

  function ask(box, kind, request) {
    if (!worker) hire();
    requests += 1;
    return new Promise((resolve) => {
      asked = {id: requests, box, resolve};
      for (const each of boxes) each.enable();
      worker.postMessage({id: requests, kind, request: JSON.stringify(request)});
    });
  }

  // ---- what the page has already, and the box has too ---------------------------------------------------------------

  // The stub's cell, or the hint: on the screen the box stands for it, on paper it stays.
  function replace(element) {
    element?.classList.add("lab-replaced");
  }

  // The chapter's own hint, with its links and mathematics; its words alone where none follows the box.
  function hint(root, words) {
    if (!words) return null;
    const next = root.nextElementSibling;
    if (!next?.matches("details") || !next.querySelector("summary").textContent.trim().startsWith("Hint")) {
      return make("p", {className: "lab-hint", textContent: words});
    }
    replace(next);
    const body = [...next.children].filter((each) => !each.matches("summary"));
    return make("div", {className: "lab-hint"}, ...body.map((each) => each.cloneNode(true)));
  }

  // ---- a box ------------------------------------------------------------------------------------------------------

  function prepare(root) {
    const data = JSON.parse(root.querySelector("script").textContent);
    if (window.location.protocol === "file:" || root.dataset.missing !== undefined) {
      const sentence = root.dataset.missing !== undefined ? MISSING : SERVE;
      root.append(make("p", {className: "lab-serve", textContent: sentence}));
      return;
    }
    const label = `Your code: ${data.title}`;
    const area = make("textarea", {className: "lab-area", spellcheck: false, value: kept(data.name) ?? data.stub});
    area.rows = area.value.split("\n").length + 1;
    area.setAttribute("aria-label", label);
    area.setAttribute("autocapitalize", "off");
    const place = make("div", {className: "lab-editor"}, area);
    let editor = {get: () => area.value, focus: () => area.focus(), set(text) { area.value = text; }};
    const save = (text) => {
      keep(data.name, text === data.stub ? null : text);
      if (["right", "wrong"].includes(says.dataset.verdict)) say(`${says.textContent} The text has changed since.`);
    };
    area.addEventListener("input", () => save(area.value));

    const says = make("p", {className: "lab-says"});
    says.setAttribute("role", "status");
    const bar = make("progress", {className: "lab-progress", hidden: true, max: 1});
    bar.setAttribute("aria-label", "fetching Python");
    const printed = make("pre", {className: "lab-printed", hidden: true, tabIndex: 0});
    printed.setAttribute("role", "region");
    printed.setAttribute("aria-label", "printed");
    const returned = make("p", {className: "lab-returned", hidden: true});
    const picture = make("div", {className: "lab-picture", hidden: true});
    const tools = make("div", {className: "lab-tools"});
    const folds = [];

    function button(text, act) {
      const element = make("button", {type: "button", textContent: text});
      element.addEventListener("click", act);
      tools.append(element);
      return element;
    }

    function fold(text, content) {
      if (!content) return;
      content.hidden = true;
      folds.push(content);
      const toggle = button(text, () => {
        content.hidden = !content.hidden;
        toggle.setAttribute("aria-expanded", String(!content.hidden));
      });
      toggle.setAttribute("aria-expanded", "false");
    }

    function say(text, verdict = "") {
      says.textContent = text;
      says.dataset.verdict = verdict;
    }

    let late;
    const box = {
      running() {
        fetched = true;
        say("Running.");
        late = window.setTimeout(() => say("Still running. Stop ends it."), LONG);
      },
      ended: () => window.clearTimeout(late),
      print(text) { // as it comes: what is stopped shows what it has printed
        printed.hidden = false;
        printed.textContent += text;
      },
      enable() {
        run.disabled = check.disabled = reset.disabled = Boolean(asked);
        stop.disabled = asked?.box !== box;
        bar.hidden = true;
      },
      progress(loaded, total) {
        bar.hidden = loaded >= total;
        bar.value = loaded / total;
        const [here, all] = [loaded, total].map((bytes) => (bytes / 1e6).toFixed(1));
        say(loaded < total && !fetched ? `Fetching Python, once: ${here} of ${all} MB.` : "Starting Python.");
      },
    };

    async function work(kind) {
      if (asked) return;
      say(worker ? "Running." : fetched ? "Starting Python." : "Fetching Python, once.");
      printed.hidden = returned.hidden = picture.hidden = true;
      printed.textContent = "";
      let found;
      let cases;
      try {
        const answer = await window.fetch(new URL(data.cases, HERE));
        if (!answer.ok) throw new Error(`the cases cannot be fetched (${answer.status})`);
        cases = await answer.json();
        if (asked) return;
        found = await ask(box, kind, {source: editor.get(), function: data.function, cases});
      } catch (error) {
        found = {failed: String(error.message)};
      }
      try {
        if (found.failed) say(found.failed, "failed");
        else show(kind, JSON.parse(found.answer), cases.length);
      } catch {
        say("What came back cannot be read: the kernel may have made more than this browser holds.", "failed");
      }
    }

    function show(kind, answer, total) {
      printed.hidden = !answer.printed;
      printed.textContent = answer.printed;
      const results = answer.results ?? [];
      returned.hidden = !results.length;
      returned.textContent = results.map(({shape, first}) => {
        const more = shape.reduce((product, size) => product * size, 1) > first.length ? ", …" : "";
        return `returned [${shape.join(", ")}]: ${first.join(", ")}${more}`;
      }).join("\n");
      const forCase = answer.what ? `For ${answer.what}: ` : "";
      say(answer.passed ? praise(kind, answer, total) : `Not yet. ${forCase}${answer.reason}`,
        answer.passed ? "right" : "wrong");
      if (answer.launches?.length && window.effattnPicture) {
        picture.hidden = false;
        picture.replaceChildren(...answer.launches.map(window.effattnPicture));
      }
      const done = data.label && document.querySelector(`input[data-done="${CSS.escape(data.label)}"]`);
      if (kind === "check" && answer.passed && done && !done.checked) done.click();
    }

    function praise(kind, {cases, what}, total) {
      const which = cases > 1 ? `all ${cases} cases` : total > 1 ? `the first case (${what})` : what;
      const then = kind === "check" ? " Passed." : total > 1 ? " Check tries the others." : "";
      return `${data.kind === "shown" ? "The same as the kernel shown gives, for" : "Right for"} ${which}.${then}`;
    }

    const run = button("Run", () => work("run"));
    const check = button("Check", () => work("check"));
    const stop = button("Stop", () => {
      dismiss("Stopped. The next Run starts Python anew, from what this browser has kept.");
      run.focus();
    });
    const reset = button("Reset", () => {
      editor.set(data.stub);
      keep(data.name, null);
      printed.hidden = returned.hidden = picture.hidden = true;
      say("The editor holds the first text again.");
    });
    fold("Hint", hint(root, data.hint));
    fold("Answer", data.answer && make("pre", {className: "lab-answer", tabIndex: 0, textContent: data.answer}));
    const keys = make("p", {className: "lab-keys",
      textContent: (data.kind === "shown" ? COMPARED : BUTTONS) + KEYS});
    keys.append(" ", make("a", {href: new URL("../8-whole/editors.html", HERE).href, textContent: "What the editor can tell"}), ".");
    root.append(place, tools, bar, says, returned, printed, picture, ...folds, keys);
    boxes.push(box);
    box.enable();
    if (data.kind !== "shown") replace(root.previousElementSibling);
    root.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      event.stopPropagation();
      run.click();
    }, {capture: true});

    new IntersectionObserver(async (entries, observer) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      try {
        const module = await import(new URL("vendor/lab/editor.mjs", HERE));
        const focused = document.activeElement === area;
        area.remove();
        editor = module.editor(place, area.value, label, save);
        if (focused) editor.focus();
      } catch {
        // the text area serves as well
      }
    }, {rootMargin: NEAR}).observe(root);
  }

  for (const root of document.querySelectorAll(".lab")) {
    const folded = root.closest("details.lab-try:not([open])");
    if (folded) folded.addEventListener("toggle", () => prepare(root), {once: true});
    else prepare(root);
  }
})();
