/* Terms of the glossary: what a term means is shown beside its link, for a pointer that rests on it, for the keyboard's
   focus and for a finger (the first tap shows it, the second follows the link). Escape hides it. (book/_ext/terms.py) */
(() => {
  "use strict";

  const REST = 150; // milliseconds that a pointer rests before a preview comes, and before it goes
  const GAP = 6; // pixels between a link and its preview
  let shown; // {link, preview} of the preview that is open
  let timer;

  function hide() {
    clearTimeout(timer);
    if (shown) shown.preview.hidden = true;
    shown = undefined;
  }

  // Below the link, or above it where there is no room; never wider than the screen.
  function place(link, preview) {
    const at = link.getClientRects()[0];
    const screen = document.documentElement.clientWidth;
    const {width, height} = preview.getBoundingClientRect();
    const below = at.bottom + GAP + height <= window.innerHeight || at.top < height + GAP;
    preview.style.left = `${Math.max(GAP, Math.min(at.left, screen - width - GAP))}px`;
    preview.style.top = `${below ? at.bottom + GAP : at.top - GAP - height}px`;
  }

  function show(link, preview) {
    hide();
    shown = {link, preview};
    preview.hidden = false;
    place(link, preview);
  }

  function later(action) {
    clearTimeout(timer);
    timer = setTimeout(action, REST);
  }

  function attach(link, preview) {
    link.setAttribute("aria-describedby", preview.id);
    let touched = false;
    const isOpen = () => shown?.link === link;
    link.addEventListener("pointerenter", ({pointerType}) => {
      if (pointerType !== "touch") later(() => show(link, preview));
    });
    link.addEventListener("pointerdown", ({pointerType}) => { touched = pointerType === "touch" && !isOpen(); });
    link.addEventListener("pointerleave", ({pointerType}) => {
      if (pointerType !== "touch") later(hide);
    });
    link.addEventListener("focus", () => {
      if (link.matches(":focus-visible")) show(link, preview);
    });
    link.addEventListener("blur", hide);
    link.addEventListener("click", (event) => {
      if (!touched) return;
      touched = false;
      event.preventDefault();
      show(link, preview);
    });
  }

  const previews = new Map([...document.querySelectorAll(".term-preview")].map((each) => [each.id, each]));
  for (const preview of previews.values()) {
    document.body.append(preview); // out of what clips
    preview.addEventListener("pointerenter", () => clearTimeout(timer)); // the pointer may go there and stay
    preview.addEventListener("pointerleave", () => later(hide));
  }
  for (const word of document.querySelectorAll("a > .std-term")) {
    const link = word.parentElement;
    const preview = previews.get(`preview-${decodeURIComponent(link.hash.slice(1))}`);
    if (preview) attach(link, preview);
  }
  document.addEventListener("keydown", ({key}) => {
    if (key === "Escape") hide();
  });
  document.addEventListener("pointerdown", ({target}) => {
    if (shown && !shown.link.contains(target) && !shown.preview.contains(target)) hide();
  });
  window.addEventListener("scroll", hide, {passive: true});
})();
