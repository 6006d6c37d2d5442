/* CodeMirror, as much of it as an editor of this book needs: bundled by book/_ext/lab_vendor.py, loaded by lab.js. */
import {defaultKeymap, history, historyKeymap, indentLess, indentMore} from "@codemirror/commands";
import {python} from "@codemirror/lang-python";
import {HighlightStyle, bracketMatching, indentOnInput, indentUnit, syntaxHighlighting} from "@codemirror/language";
import {EditorState} from "@codemirror/state";
import {EditorView, drawSelection, keymap, lineNumbers} from "@codemirror/view";
import {tags} from "@lezer/highlight";

const colours = HighlightStyle.define([ // variables of lab.css, in both themes
  {tag: [tags.keyword, tags.modifier], class: "lab-keyword"},
  {tag: [tags.string], class: "lab-string"},
  {tag: [tags.number, tags.bool, tags.null], class: "lab-number"},
  {tag: [tags.comment], class: "lab-comment"},
  {tag: [tags.function(tags.definition(tags.variableName))], class: "lab-name"},
]);

// Tab leaves the editor, as it leaves any other control: Ctrl+] and Ctrl+[ indent, and Enter keeps the indentation.
export function editor(parent, text, label, changed) {
  const view = new EditorView({
    parent,
    state: EditorState.create({
      doc: text,
      extensions: [
        lineNumbers(), history(), drawSelection(), indentOnInput(), bracketMatching(), python(), indentUnit.of("    "),
        EditorState.tabSize.of(4), syntaxHighlighting(colours),
        keymap.of([{key: "Mod-]", run: indentMore}, {key: "Mod-[", run: indentLess}, ...defaultKeymap, ...historyKeymap]),
        EditorView.contentAttributes.of({"aria-label": label, tabindex: "0"}),
        EditorView.updateListener.of((update) => update.docChanged && changed(view.state.doc.toString())),
      ],
    }),
  });
  return {
    get: () => view.state.doc.toString(),
    set: (value) => view.dispatch({changes: {from: 0, to: view.state.doc.length, insert: value}}),
    focus: () => view.focus(),
  };
}
