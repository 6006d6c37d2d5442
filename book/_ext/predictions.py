"""The directive `{predict}`: a question with a few answers, asked before the reader moves a control or runs a cell.

    ````{predict} Before you move the slider
    :label: exercise-predict-larger
    :answer: 2

    The question, in one or two sentences?

    1. first option

       what is wrong with it: shown when it is chosen
    2. second option

       why it is right
    ````

Without JavaScript what is said of an option is folded below it; with it (exercises.js) an option is chosen first.
"""

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective


class prediction(nodes.General, nodes.Element):
    """The box. answer: the number of the right option; label."""


class feedback(nodes.General, nodes.Element):
    """What is said of an option once it is chosen."""


def setup(app):
    app.add_node(prediction, html=(visit_prediction, depart_prediction))
    app.add_node(feedback, html=(visit_feedback, depart_feedback))
    app.add_directive("predict", Predict)
    return {"parallel_read_safe": True}


class Predict(SphinxDirective):
    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec = {"label": directives.unchanged_required, "answer": directives.positive_int}

    def run(self):
        for option in ("label", "answer"):
            if option not in self.options:
                raise self.error(f"the question {self.arguments[0]!r} needs its :{option}:.")
        label, answer = self.options["label"], self.options["answer"]
        box = prediction(label=label, answer=answer, title=self.arguments[0], ids=[label], classes=["predict"])
        self.state.nested_parse(self.content, self.content_offset, box)
        *question, options = box.children or [None]
        if not question or not isinstance(options, nodes.enumerated_list):
            raise self.error(f"{label} must be a question and then a numbered list of its answers.")
        if not 1 <= answer <= len(options):
            raise self.error(f"{label} has {len(options)} answers; the right one cannot be number {answer}.")
        for number, item in enumerate(options, start=1):
            text, *reason = item.children
            if not isinstance(text, nodes.paragraph) or not reason:
                raise self.error(f"answer {number} of {label} needs a paragraph of its own that says why, indented.")
            item.children = []
            item += [text, feedback("", *reason)]
        options["classes"].append("predict-options")
        words, messages = self.state.inline_text(self.arguments[0], self.lineno)
        box.insert(0, nodes.paragraph("", "", *words, classes=["admonition-title"]))
        standard = self.env.get_domain("std")
        standard.labels[label] = (self.env.docname, label, self.arguments[0])
        standard.anonlabels[label] = (self.env.docname, label)
        return [box, *messages]


def visit_prediction(self, node):
    data = {"data-predict": node["label"], "data-answer": str(node["answer"])}
    self.body.append(self.starttag(node, "div", CLASS="admonition", **data))


def depart_prediction(self, node):
    self.body.append("</div>\n")


def visit_feedback(self, node):
    self.body.append('<details class="predict-feedback"><summary>What this answer says</summary>\n')


def depart_feedback(self, node):
    self.body.append("</details>\n")
