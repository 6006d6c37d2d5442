/* The form of the planner (figures/planner.py): it asks for a plan, which planner.js prices. */
(() => {
  "use strict";

  const {refusal, report} = window.planner;
  const form = document.querySelector("form.planner");
  if (!form) return;
  const presets = JSON.parse(form.querySelector(".planner-presets").textContent);
  const controls = [...form.querySelectorAll("[data-path]")];
  const OWN = "your own";

  const digits = (value) => String(Number(value.toPrecision(3)));

  function scaled(value, size, units) {
    let power = 0;
    while (value >= size && power < units.length - 1) [value, power] = [value / size, power + 1];
    return `${digits(value)} ${units[power]}`;
  }

  const bytes = (value) => scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]);

  function seconds(value) {
    if (value === 0) return "0 s";
    if (value < 1e-3) return `${digits(value * 1e6)} µs`;
    if (value < 1) return `${digits(value * 1e3)} ms`;
    return value < 120 ? `${digits(value)} s` : scaled(value / 60, 60, ["min", "h"]);
  }

  const choice = (kind) => form.querySelector(`[data-path="${kind}"]`);

  function put(control, value) {
    if (control.type === "checkbox") control.checked = value;
    else control.value = control.type === "number" ? String(Number((value / control.dataset.factor).toPrecision(10))) : value;
  }

  // A preset's numbers go into the controls of its sizes, where the reader may change them.
  function fill(kind) {
    const chosen = presets[kind][choice(kind).value];
    if (!chosen) return;
    for (const control of controls.filter((each) => each.dataset.path.startsWith(`${kind}.`))) {
      put(control, control.dataset.path.split(".").slice(1).reduce((found, name) => found[name], chosen));
    }
  }

  // A whole plan goes into all controls.
  function begin() {
    const chosen = presets.start[choice("start").value];
    if (!chosen) return;
    controls.filter((each) => each.dataset.path in chosen).forEach((each) => put(each, chosen[each.dataset.path]));
    ["model", "device"].forEach(fill);
  }

  // What was changed makes its model, its device, or the plan the reader's own.
  function own(kind) {
    if (![...choice(kind).options].some((each) => each.value === OWN)) choice(kind).add(new Option(OWN, OWN));
    choice(kind).value = OWN;
  }

  function asked() {
    const plan = {model: {}, device: {flops: {}}};
    for (const control of controls.filter((each) => !(each.dataset.path in presets))) {
      const names = control.dataset.path.split(".");
      const place = names.slice(0, -1).reduce((found, name) => found[name], plan);
      const number = () => (control.value === "" ? NaN : Number(control.value) * control.dataset.factor);
      place[names.at(-1)] = control.type === "checkbox" ? control.checked : control.type === "number" ? number() : control.value;
    }
    return plan;
  }

  function element(name, text, settings = {}) {
    return Object.assign(document.createElement(name), {textContent: text}, settings);
  }

  function row(title, text, share) {
    const line = document.createElement("tr");
    const bar = element("span", "", {className: "planner-bar"});
    bar.style.width = `${100 * Math.min(1, share)}%`;
    const cell = element("td", "", {className: "planner-bars"});
    cell.append(bar);
    cell.ariaHidden = "true";
    line.append(element("th", title, {scope: "row"}), element("td", text, {className: "number"}), cell);
    return line;
  }

  function group(title, rows, most) {
    const body = document.createElement("tbody");
    const head = element("th", title, {scope: "rowgroup", colSpan: 3});
    const line = document.createElement("tr");
    line.append(head);
    body.append(line, ...rows.map(([name, value, text]) => row(name, text(value), value / most)));
    return body;
  }

  function times(title, found) {
    const rows = [["computing", found.compute, seconds], ["memory", found.memory, seconds],
      ["communication", found.communication, seconds], ["together", found.seconds, seconds]];
    return group(`${title}: ${bytes(found.sent)} sent in ${found.calls} collectives`, rows, found.seconds);
  }

  function table(plan, found) {
    const {weights, growing, constant, total} = found.memory;
    const kept = [["weights", weights, bytes], ["caches that grow with the text", growing, bytes],
      ["windows or states", constant, bytes], ["together", total, bytes]];
    const result = element("table", "", {className: "table"});
    result.append(element("caption", "What one device of the plan keeps and does; bars of memory end at what it has."),
      group(`Kept, of ${bytes(plan.device.memory)}`, kept, plan.device.memory),
      times("The prompt", found.prompt), times("Each further token", found.decode));
    return result;
  }

  function sentence(plan, found) {
    const {devices, memory, fits, prompt, decode} = found;
    const who = devices === 1 ? "One device" : `${devices} devices, each`;
    const room = `${bytes(memory.total)} of ${bytes(plan.device.memory)}`;
    const speed = `${digits(found.tokens_per_second)} tokens per second for all texts`;
    const bound = ["compute", "memory", "communication"].reduce((most, name) => (decode[name] > decode[most] ? name : most));
    return `${who} with ${room}: ${fits ? "it fits" : "it does not fit"}. The prompt takes ${seconds(prompt.seconds)}, ` +
      `a token ${seconds(decode.seconds)} (${speed}), most of it ${bound}.`;
  }

  function answer() {
    const plan = asked();
    const reason = refusal(plan);
    const found = reason ? null : report(plan);
    const says = form.querySelector(".planner-says");
    says.textContent = reason ? `No such plan: ${reason}` : sentence(plan, found);
    const named = (reason ?? "").match(/^(?:the )?(\w+) (?:degree )?must/)?.[1];
    for (const control of controls) control.ariaInvalid = control.dataset.path.split(".").at(-1) === named ? "true" : null;
    says.classList.toggle("planner-refused", Boolean(reason) || !found.fits);
    form.querySelector(".planner-result").replaceChildren(...(found ? [table(plan, found)] : []));
  }

  form.addEventListener("input", ({target}) => {
    const [kind, size] = (target.dataset.path ?? "").split(".");
    if (kind === "start") begin();
    else {
      if (kind in presets) (size ? own : fill)(kind);
      own("start");
    }
    answer();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.querySelector(".planner-all").disabled = false;
  answer();
})();
