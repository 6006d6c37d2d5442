/* Which one, when: hides the methods that do not suit what the reader has chosen, and says why of each. The reasons are
   made in Python and lie beside the table (figures/choices.py); without this script the whole table is shown. */
(() => {
  "use strict";

  const ANY = "any";

  // Where the reasons of a question stand for the answers given; undefined where a question asks for nothing.
  function keyOf(question, answers) {
    if (answers[question] === ANY) return undefined;
    return question === "memory" ? `${answers.memory} ${answers.context}` : answers[question];
  }

  function reasonsOf(method, answers) {
    return ["context", "task", "memory", "training", "recall"]
      .map((question) => method.reasons[question][keyOf(question, answers)])
      .filter(Boolean);
  }

  function fill(body, cells) {
    for (const span of body.querySelectorAll("[data-cell]")) {
      if (cells) span.textContent = cells[span.dataset.cell];
    }
  }

  function entry(name, reasons) {
    const item = document.createElement("li");
    const strong = document.createElement("b");
    strong.textContent = name;
    item.append(strong, `: ${reasons.join("; ")}.`);
    return item;
  }

  function prepare(box) {
    const methods = JSON.parse(box.querySelector(".which-data").textContent);
    const bodies = [...box.querySelectorAll("tbody[data-method]")];
    const questions = [...box.querySelectorAll("select[data-question]")];
    const count = box.querySelector(".which-count");
    const hidden = box.querySelector(".which-hidden");

    function show() {
      const answers = Object.fromEntries(questions.map((each) => [each.dataset.question, each.value]));
      const entries = [];
      methods.forEach((method, place) => {
        const reasons = reasonsOf(method, answers);
        bodies[place].hidden = reasons.length > 0;
        fill(bodies[place], method.cells[answers.context]);
        if (reasons.length) entries.push(entry(method.name, reasons));
      });
      hidden.querySelector("ul").replaceChildren(...entries);
      hidden.hidden = entries.length === 0;
      const left = methods.length - entries.length;
      count.textContent = entries.length
        ? `${left} of ${methods.length} methods suit; ${entries.length} are hidden, with reasons below.`
        : `${methods.length} methods.`;
    }

    for (const each of questions) each.addEventListener("change", show);
    box.querySelector(".which-reset").addEventListener("click", () => {
      for (const each of questions) each.value = each.querySelector("[selected]").value;
      show();
    });
    box.querySelector("fieldset").hidden = false;
    show();
  }

  for (const box of document.querySelectorAll("[data-which]")) prepare(box);
})();
