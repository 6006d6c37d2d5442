/* Exercises: what the reader has done is kept in this browser and nowhere else, counted, exported and imported.
   A prediction is answered before its reasons are shown; its first answer is kept. (book/_ext/exercise_pages.py) */
(() => {
  "use strict";

  const KEY = "effattn-progress";
  const FORMAT = "effattn progress 1";
  let refused = false; // the browser stores nothing: the record lasts as long as the page
  let record = {format: FORMAT, done: {}, answers: {}};

  // ---- the record -------------------------------------------------------------------------------------------------

  function isRecord(value) {
    return value?.format === FORMAT && [value.done, value.answers].every((each) => each && typeof each === "object");
  }

  function read() {
    try {
      const value = JSON.parse(window.localStorage.getItem(KEY));
      if (isRecord(value)) record = value;
    } catch (error) {
      refused = error.name !== "SyntaxError"; // a record that cannot be read is begun anew
    }
  }

  function write() {
    try {
      window.localStorage.setItem(KEY, JSON.stringify(record));
    } catch {
      refused = true;
    }
    show();
  }

  const today = () => new Date().toISOString().slice(0, 10);
  const isDone = (label) => Object.hasOwn(record.done, label) || Object.hasOwn(record.answers, label);

  // ---- what the page shows ----------------------------------------------------------------------------------------

  const boxes = [...document.querySelectorAll("input[data-done]")];
  const predictions = [...document.querySelectorAll("[data-predict]")];
  const rows = [...document.querySelectorAll("tr[data-exercise]")];
  const kept = () => (refused ? " (until you close the page: this browser keeps nothing)" : "");

  function say(element, text) {
    if (element && element.textContent !== text) element.textContent = text;
  }

  function show() {
    for (const box of boxes) box.checked = Object.hasOwn(record.done, box.dataset.done);
    const labels = [...boxes.map((box) => box.dataset.done), ...predictions.map((each) => each.dataset.predict)];
    const count = document.querySelector(".exercise-count");
    say(count, `${labels.filter(isDone).length} of ${labels.length} done${kept()}`);
    for (const row of rows) say(row.querySelector(".exercise-state"), state(row.dataset.exercise));
    const total = document.querySelector(".exercise-total");
    say(total, `${rows.filter((row) => isDone(row.dataset.exercise)).length} of ${rows.length} done${kept()}`);
  }

  function state(label) {
    if (Object.hasOwn(record.done, label)) return `done ${record.done[label]}`;
    const answer = record.answers[label];
    return answer ? `first answer ${answer.option}, ${answer.right ? "right" : "not right"}` : "";
  }

  // ---- predictions ------------------------------------------------------------------------------------------------

  function make(tag, properties) {
    return Object.assign(document.createElement(tag), properties);
  }

  function prepare(box) {
    const {predict: label, answer} = box.dataset;
    const list = box.querySelector(".predict-options");
    const items = [...list.children];
    const fieldset = make("fieldset", {className: "predict-choice"});
    fieldset.append(make("legend", {className: "visually-hidden", textContent: "Your answer"}));
    list.replaceWith(fieldset);
    const radios = items.map((item, number) => {
      const text = item.firstElementChild;
      const radio = make("input", {type: "radio", name: label, value: number + 1});
      const choice = make("label", {});
      choice.append(radio, ...text.childNodes);
      text.append(choice);
      item.querySelector("details").hidden = true;
      return radio;
    });
    const button = make("button", {type: "button", textContent: "Answer"});
    const verdict = make("p", {className: "predict-verdict"});
    verdict.setAttribute("role", "status");
    fieldset.append(list, button, verdict);
    button.addEventListener("click", () => {
      const option = radios.findIndex((radio) => radio.checked) + 1;
      if (!option) {
        say(verdict, "Choose one of the answers first.");
        return;
      }
      const first = !Object.hasOwn(record.answers, label);
      if (first) record.answers[label] = {option, right: option === Number(answer), date: today()};
      judge(option, first);
      if (first) write();
    });
    function judge(option, first) {
      const right = option === Number(answer);
      items.forEach((item, number) => {
        if (number + 1 !== option) {
          delete item.dataset.verdict;
          return;
        }
        item.dataset.verdict = right ? "right" : "wrong";
        Object.assign(item.querySelector("details"), {hidden: false, open: true});
      });
      const before = record.answers[label];
      const earlier = first ? "" : ` Your first answer was ${before.option}, ${before.right ? "right" : "not right"}.`;
      say(verdict, (right ? "Right." : "Not this one: the reason stands below it. Choose again.") + earlier);
    }
    return function restore() { // the first answer, wherever it was given
      const before = record.answers[label];
      if (!before || !radios[before.option - 1] || verdict.textContent) return;
      radios[before.option - 1].checked = true;
      judge(before.option, true);
    };
  }

  // ---- the page of all exercises ----------------------------------------------------------------------------------

  function save() {
    const link = make("a", {download: "effattn-progress.json"});
    link.href = URL.createObjectURL(new Blob([JSON.stringify(record, null, 2)], {type: "application/json"}));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  // What the file says is added to what is here; where both know of an exercise, the earlier stands.
  function add(given) {
    const labels = new Set(rows.map((row) => row.dataset.exercise));
    let [taken, unknown] = [0, 0];
    for (const [kind, when] of [["done", (value) => value], ["answers", (value) => value?.date]]) {
      for (const [label, value] of Object.entries(given[kind])) {
        if (!labels.has(label) || typeof when(value) !== "string") {
          unknown += 1;
          continue;
        }
        const here = record[kind][label];
        if (!here || when(value) < when(here)) record[kind][label] = value;
        taken += 1;
      }
    }
    write();
    return `${taken} exercises are taken over${unknown ? `; ${unknown} are not of this book and are left out` : ""}.`;
  }

  function prepareTools(tools) {
    const said = tools.querySelector(".exercise-said");
    const input = tools.querySelector("input");
    tools.querySelector("button").addEventListener("click", save);
    input.addEventListener("change", async () => {
      const [file] = input.files;
      if (!file) return;
      let given = null;
      try {
        given = JSON.parse(await file.text());
      } catch {
        // what is no JSON is refused below
      }
      say(said, isRecord(given) ? add(given) : `${file.name} is not a file that this page exported.`);
      input.value = "";
    });
    tools.hidden = false;
  }

  // -----------------------------------------------------------------------------------------------------------------

  read();
  const restorations = predictions.map(prepare);
  const restore = () => restorations.forEach((each) => each());
  restore();
  for (const box of boxes) {
    box.closest("label").hidden = false;
    box.addEventListener("change", () => {
      if (box.checked) record.done[box.dataset.done] = today();
      else delete record.done[box.dataset.done];
      write();
    });
  }
  document.querySelectorAll(".exercise-tools").forEach(prepareTools);
  window.addEventListener("storage", ({key}) => { // another page of the book was changed
    if (key !== KEY) return;
    read();
    restore();
    show();
  });
  show();
})();
