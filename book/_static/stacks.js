/* A model built from its parts: greys the options that the library refuses, says why, and shows the bill of the rest.
   Refusals and bills are made in Python and lie beside the form (figures/stacks.py); nothing is computed here. Without
   this script the form shows the first stack's bill. */
(() => {
  "use strict";

  // The value of a table for what is chosen: its list runs through the options of its parts, the last part fastest.
  function look(table, parts, chosen) {
    const place = table.parts.reduce((sum, part) => sum * parts[part].length + parts[part].indexOf(chosen[part]), 0);
    return table.of[place] < 0 ? null : table.values[table.of[place]];
  }

  // part -> option -> sentence, of the options that would be refused with all else as it is.
  function reasonsOf(data, chosen) {
    const found = {};
    for (const [part, options] of Object.entries(data.parts)) {
      for (const option of options) {
        const why = look(data.refusals, data.parts, {...chosen, [part]: option});
        if (why) (found[part] ??= {})[option] = why;
      }
    }
    return found;
  }

  function billOf(data, chosen) {
    return Object.fromEntries(Object.entries(data.lines).map(([key, table]) => [key, look(table, data.parts, chosen)]));
  }

  function saysOf(data, bill) {
    const moved = Object.values(bill).map((cell) => cell?.[2]).filter(Boolean);
    return moved.length ? data.says.replace("{}", moved.join("; ")) : data.same;
  }

  function writtenOf(data, chosen) {
    const given = Object.keys(data.parts).filter((part) => chosen[part] !== data.plain[part]);
    return `Stack(${given.map((part) => `${part}="${chosen[part]}"`).join(", ")})`;
  }

  // What is greyed of one part, options that have the same reason together.
  function entries(label, why) {
    return [...new Set(Object.values(why))].map((reason) => {
      const options = Object.keys(why).filter((option) => why[option] === reason);
      const item = document.createElement("li");
      const strong = document.createElement("b");
      strong.textContent = `${label}, ${options.join(", ")}`;
      item.append(strong, `: ${reason}`);
      return item;
    });
  }

  function prepare(box) {
    const data = JSON.parse(box.querySelector(".stacks-data").textContent);
    const selects = [...box.querySelectorAll("select[data-part]")];
    const presets = [...box.querySelectorAll("button[data-preset]")];
    const copy = box.querySelector(".stacks-code button");
    const code = box.querySelector(".stacks-code code");
    const greyed = box.querySelector(".stacks-greyed");

    const labelOf = (select) => box.querySelector(`label[for="${select.id}"]`).textContent;

    function grey(reasons) {
      const items = [];
      for (const select of selects) {
        const why = reasons[select.dataset.part] ?? {};
        for (const option of select.options) option.disabled = option.value in why;
        items.push(...entries(labelOf(select), why));
      }
      greyed.querySelector("ul").replaceChildren(...items);
      greyed.hidden = items.length === 0;
    }

    function fill(bill) {
      for (const row of box.querySelectorAll("tr[data-line]")) {
        const cell = bill[row.dataset.line];
        row.hidden = !cell && !data.start.includes(row.dataset.line);
        row.querySelector("[data-amount]").textContent = cell ? cell[0] : "–";
        row.querySelector(".stacks-now").style.width = `${cell ? cell[1] : 0}%`;
      }
    }

    function show() {
      const chosen = Object.fromEntries(selects.map((each) => [each.dataset.part, each.value]));
      const bill = billOf(data, chosen);
      grey(reasonsOf(data, chosen));
      fill(bill);
      for (const each of selects) {
        box.querySelector(`#${each.id}-words`).textContent = data.words[each.dataset.part][each.value];
      }
      for (const each of presets) {
        const same = Object.entries(data.presets[each.dataset.preset]).every(([part, option]) => chosen[part] === option);
        each.setAttribute("aria-pressed", same);
      }
      box.querySelector(".stacks-says").textContent = saysOf(data, bill);
      code.textContent = writtenOf(data, chosen);
      copy.textContent = "Copy";
    }

    for (const each of selects) each.addEventListener("change", show);
    for (const each of presets) {
      each.addEventListener("click", () => {
        for (const select of selects) {
          for (const option of select.options) option.disabled = false;
          select.value = data.presets[each.dataset.preset][select.dataset.part];
        }
        show();
      });
    }
    if (navigator.clipboard) {
      copy.hidden = false;
      copy.addEventListener("click", () => {
        navigator.clipboard.writeText(code.textContent).then(
          () => { copy.textContent = "Copied"; },
          () => { copy.textContent = "Not copied: the browser forbids it"; },
        );
      });
    }
    box.querySelector("fieldset").hidden = false;
    box.querySelector(".stacks-presets").hidden = false;
    show();
  }

  for (const box of document.querySelectorAll("[data-stacks]")) prepare(box);
  window.stacks = {reasonsOf, billOf, saysOf, writtenOf};
})();
