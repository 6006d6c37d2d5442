"""The capstone's form where a kernel answers: the same choices as widgets, and a model that is trained and writes."""

import html
import threading
import traceback
from dataclasses import asdict, replace

import torch

from effattn_core import costs, stacks
from effattn_core.data import Batches, Characters, shakespeare, split
from effattn_core.stack_models import reader_of
from effattn_core.states import kept_bytes
from effattn_core.train import train
from figures import stacks as source

STEPS, BATCH, CONTEXT = 200, 8, 128
PROMPT, LETTERS = "KING HENRY\n", 160  # what a trained model reads, and how much it writes after it


class Workbench:
    """The form as widgets, and what it has trained. `box` is what a notebook shows.

    stack: what is chosen; model, history: of the last training, None before it; thread: the training, None before it.
    """

    def __init__(self, stack):
        import ipywidgets

        self.stack, self.model, self.history, self.thread = stack, None, None, None
        self._stop = threading.Event()
        self.options = {
            name: {option: self._option(name, option) for option in part.options}
            for name, part in stacks.CHOICES.items()
        }
        self.presets = {name: self._preset(name, each) for name, each in stacks.PRESETS.items()}
        self.words, self.greyed, self.said, self.text = (ipywidgets.HTML() for _ in range(4))
        self.steps = ipywidgets.BoundedIntText(value=STEPS, min=1, max=100_000, description="steps")
        self.train = _button("Train", self.start)
        self.stop = _button("Stop", lambda _: self._stop.set())
        self.bar = ipywidgets.IntProgress(min=0, max=STEPS, description="not trained")
        labels = (ipywidgets.Label(part.label) for part in stacks.CHOICES.values())
        rows = [_row(label, *each.values()) for label, each in zip(labels, self.options.values(), strict=True)]
        self.box = ipywidgets.VBox([
            _row(*self.presets.values()), *rows, self.greyed, self.said, self.words,
            _row(self.steps, self.train, self.stop, self.bar), self.text,
        ])  # fmt: skip
        self.stop.disabled = True
        self.show(stack)

    def _option(self, name, option):
        return _button(option, lambda _: self.show(replace(self.stack, **{name: option})))

    def _preset(self, name, stack):
        return _button(name, lambda _: self.show(stack))

    def show(self, stack):
        """Make `stack` the chosen one: grey what cannot be chosen beside it, and say its bill."""
        self.stack, chosen, reasons = stack, asdict(stack), stacks.reasons(stack)
        for name, buttons in self.options.items():
            for option, button in buttons.items():
                why = reasons.get(name, {}).get(option, "")
                button.disabled, button.tooltip = bool(why), why or stacks.CHOICES[name].options[option]
                button.icon, button.button_style = ("check", "info") if chosen[name] == option else ("", "")
        items = (f"<li><b>{html.escape(what)}</b>: {html.escape(why)}</li>" for what, why in source.greyed(stack))
        self.greyed.value = f"Greyed, and why:<ul>{''.join(items)}</ul>" if reasons else ""
        self.said.value = html.escape(source.says(stack))
        self.words.value = f"<code>{html.escape(source.written(stack))}</code>"

    def start(self, _=None):
        """Train the chosen Stack in a thread, so that Stop is heard; afterwards its model writes."""
        self._stop.clear()
        self.train.disabled, self.stop.disabled = True, False
        self.bar.max, self.bar.value, self.bar.description, self.text.value = self.steps.value, 0, "starting", ""
        self.thread = threading.Thread(target=self._work, args=(self.stack, self.steps.value), daemon=True)
        self.thread.start()

    def _work(self, stack, steps):
        try:
            self.model, self.history, letters = trained(stack, steps, self._step)
            self.text.value = report(stack, self.model, self.history, letters)
        except Exception as error:  # in a thread nobody would see it
            traceback.print_exc()
            self.text.value = f"<b>{type(error).__name__}</b>: {html.escape(str(error))}"
        finally:
            self.train.disabled, self.stop.disabled = False, True

    def _step(self, history):
        self.bar.value, self.bar.description = len(history.losses), f"loss {history.losses[-1]:.2f}"
        return self._stop.is_set()


def trained(stack, steps, after=None):
    """(model, history, letters): a small model of a Stack after so many steps on Shakespeare. after: as of `train`."""
    text = shakespeare()
    letters = Characters(text)
    training, _ = split(letters.encode(text))
    model = stacks.make(stack, len(letters), seed=0)
    batches, optimizer = Batches(training, BATCH, CONTEXT), stacks.optimizer_of(stack, model)
    history = train(model, batches, steps=steps, optimizer=optimizer, progress=False, after=after)
    return model, history, letters


def report(stack, model, history, letters):
    """HTML of what a trained model wrote, and of what it and its bill cost."""
    prompt = letters.encode(PROMPT)
    written = "".join(letters.decode([token]) for token in stacks.write(stack, model, prompt, LETTERS))
    reader = reader_of(model)
    read = letters.encode(PROMPT + written)[:CONTEXT]
    with torch.no_grad():
        _, states = reader.prefill(read[None], stacks.states_of(stack, model, CONTEXT))
    said = (
        f"{len(history.losses)} steps, loss {history.losses[-1]:.2f} nats per letter, "
        f"{model.parameter_count:,} parameters; kept of {CONTEXT} letters: {costs.format_bytes(kept_bytes(states))}. "
        f"At Llama 3 8B's sizes: {source.says(stack)}"
    )
    return f"<pre>{html.escape(PROMPT + written)}</pre><p>{html.escape(said)}</p>"


def _button(words, act):
    import ipywidgets

    button = ipywidgets.Button(description=words, layout=ipywidgets.Layout(width="auto"))
    button.on_click(act)
    return button


def _row(*parts):
    import ipywidgets

    return ipywidgets.Box(parts, layout=ipywidgets.Layout(flex_flow="row wrap", align_items="center"))
