/* Numbers that an exercise asks for, judged on the page as JupyterLab judges them (book/_ext/lab_numbers.py).

   Each <div class="lab-field"> holds its exercise in a script of type application/json: {title, label, parts}, one part
   per number: {before, wanted, mistakes: [[number, sentence]], within}. The rules and the sentences are those of
   `compare_number` in effattn_core/exercises.py. Nothing is fetched: it works in a page that is a file, too. */
(() => {
  "use strict";

  const UNSOLVED = "It is not written yet.";
  const GROUPED = /^[+-]?\d{1,3}([, _\u00a0\u2009\u202f]\d{3})+(\.\d*)?$/; // 1,024 or 1 024
  const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  // The number that a text says; null for a text that says none.
  function read(text) {
    const plain = text.trim().replace(/^\u2212/, "-");
    const bare = GROUPED.test(plain) ? plain.replace(/[, _\u00a0\u2009\u202f]/g, "") : plain;
    const value = NUMBER.test(bare) ? Number(bare) : NaN;
    return Number.isFinite(value) ? value : null;
  }

  // As Python's format with "g" and so many digits: ties go to the even digit, zeros at the end are left out.
  function general(value, count) {
    if (value === 0) return Object.is(value, -0) ? "-0" : "0";
    const [mantissa, exponent] = Math.abs(value).toExponential(60).split("e");
    const all = mantissa.replace(".", "");
    const [rest, half] = [all.slice(count), "5".padEnd(all.length - count, "0")];
    let digits = Number(all.slice(0, count));
    if (rest > half || (rest === half && digits % 2 === 1)) digits += 1;
    const carried = digits === 10 ** count;
    const power = Number(exponent) + (carried ? 1 : 0);
    const text = String(carried ? digits / 10 : digits);
    const point = (whole, part) => (part.replace(/0+$/, "") ? `${whole}.${part.replace(/0+$/, "")}` : whole);
    const sign = value < 0 ? "-" : "";
    if (power < -4 || power >= count) {
      const size = String(Math.abs(power)).padStart(2, "0");
      return `${sign}${point(text[0], text.slice(1))}e${power < 0 ? "-" : "+"}${size}`;
    }
    if (power < 0) return `${sign}${point("0", "0".repeat(-power - 1) + text)}`;
    return `${sign}${point(text.slice(0, power + 1), text.slice(power + 1))}`;
  }

  // Whether two numbers are as near as `within` of the larger says; `absolute` where the wanted number is 0.
  const isNear = (here, there, within, absolute = 0) =>
    Math.abs(here - there) <= Math.max(within * Math.max(Math.abs(here), Math.abs(there)), absolute);

  // What is wrong with the number that a text says, as a sentence; null if nothing is.
  function judge(text, {wanted, mistakes, within}) {
    if (!text.trim()) return UNSOLVED;
    const answer = read(text);
    if (answer === null) return `One number is asked, in digits such as 1,024 or 1.5e9; you gave '${text.trim()}'.`;
    const near = (number) => isNear(answer, number, within, number ? 0 : within);
    if (near(wanted)) return null;
    const known = mistakes.find(([number]) => near(number));
    if (known) return known[1];
    const said = general(answer, 6);
    if (answer === 0 || wanted === 0 || (answer < 0) !== (wanted < 0)) return `${said} is not it.`;
    const ratio = answer / wanted;
    const factor = general(Math.max(ratio, 1 / ratio), 3);
    return `${said} is too ${Math.abs(ratio) > 1 ? "large" : "small"}, by a factor of ${factor}.`;
  }

  // What is wrong with the answer, by its first part that is wrong; null if nothing is.
  function judgeAll(texts, parts) {
    if (texts.every((text) => !text.trim())) return UNSOLVED;
    for (const [place, part] of parts.entries()) {
      const wrong = judge(texts[place], part);
      if (wrong !== null) return part.before + wrong;
    }
    return null;
  }

  // An answer that is near enough is told what it is near to.
  function praise(texts, parts) {
    const exact = parts.map(({wanted}) => general(wanted, 6));
    const same = texts.every((text, place) => general(read(text), 6) === exact[place]);
    return same ? "Right. Passed." : `Right: near enough to ${exact.join(" and ")}. Passed.`;
  }

  function prepare(root) {
    const data = JSON.parse(root.querySelector("script").textContent);
    const form = make("form", {className: "lab-numbers", noValidate: true});
    const fields = data.parts.map(({before}) => {
      const field = make("input", {type: "text", autocomplete: "off", spellcheck: false, size: 16});
      field.inputMode = "decimal";
      form.append(make("label", {}, `${before.replace(/:? *$/, "") || "Your number"} `, field));
      return field;
    });
    form.append(make("button", {type: "submit", textContent: "Check"}));
    const says = make("p", {className: "lab-says"});
    says.setAttribute("role", "status");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const wrong = judgeAll(fields.map((field) => field.value), data.parts);
      says.textContent = wrong === null ? praise(fields.map((field) => field.value), data.parts) : `Not yet. ${wrong}`;
      says.dataset.verdict = wrong === null ? "right" : "wrong";
      const done = document.querySelector(`input[data-done="${CSS.escape(data.label)}"]`);
      if (wrong === null && done && !done.checked) done.click();
    });
    root.append(form, says);
    root.previousElementSibling?.classList.add("lab-replaced"); // the cell that asks for the number in JupyterLab
  }

  document.querySelectorAll(".lab-field").forEach(prepare);
  window.effattnNumbers = {judge, judgeAll, general, read}; // as the tests call them
})();
