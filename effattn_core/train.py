"""A training loop that shows its progress, can be stopped at any moment, and goes on exactly where it was."""

import contextlib
import math
import signal
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from kernels.cache import whole_file


@dataclass
class History:
    """What a run left. losses: training loss in nats per token, one per step; finished: whether all steps ran."""

    losses: list = field(default_factory=list)
    finished: bool = False


def learning_rate_at(step, *, steps, peak, warmup):
    """Linear warm-up to `peak`, then half a cosine down to a tenth of it."""
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return peak * (0.1 + 0.45 * (1 + math.cos(math.pi * share)))


def train(
    model, batches, *, steps, learning_rate=3e-3, warmup=20, weight_decay=0.1, clip=1.0,
    optimizer=None, checkpoint=None, every=100, progress=True, after=None,
):  # fmt: skip
    """Train `model` in place on `batches` (see `data.Batches`), AdamW unless `optimizer` is given. Returns a History.

    checkpoint: a path; written every `every` steps and at the end, and gone on from if it is there: bit for bit what an
    uninterrupted run gives. Ctrl-C ends the step in hand, saves and returns.
    after: called with the History after each step; a true answer ends the run as Ctrl-C does.
    Raises RuntimeError with a sentence for a checkpoint that cannot be read or is of another model, FloatingPointError
    when the loss is not finite.
    """
    if optimizer is None:
        decayed = [weight for weight in model.parameters() if weight.ndim == 2]
        free = [weight for weight in model.parameters() if weight.ndim != 2]
        groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98))
    history = History()
    if checkpoint is not None and Path(checkpoint).exists():
        _restore(checkpoint, model, optimizer, batches, history)
    device = next(model.parameters()).device
    done = len(history.losses)
    # On standard output and in plain letters, so that a stored notebook holds the last line and no widget.
    bar = tqdm(total=steps, initial=done, unit="step", disable=not progress, mininterval=0.5, file=sys.stdout, ncols=78)
    with _interruptible() as stopped, bar:
        for step in range(done, steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(step, steps=steps, peak=learning_rate, warmup=warmup)
            tokens, targets = next(batches)
            loss = model.loss(tokens.to(device), targets.to(device))
            if not math.isfinite(loss.item()):
                raise FloatingPointError(f"the loss is {loss.item()} at step {step}: lower the learning rate.")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            history.losses.append(loss.item())
            bar.update()
            bar.set_postfix(loss=f"{loss.item():.2f}", refresh=False)
            if stopped:
                bar.write(f"stopped after {step + 1} of {steps} steps" + (": saved." if checkpoint else "."))
                break
            if after is not None and after(history):
                break
            if checkpoint is not None and (step + 1) % every == 0:
                _save(checkpoint, model, optimizer, batches, history)
    history.finished = len(history.losses) >= steps
    if checkpoint is not None:
        _save(checkpoint, model, optimizer, batches, history)
    return history


@contextlib.contextmanager
def _interruptible():
    """Let the first Ctrl-C finish the step in hand: gives a list that is empty until then. A second one raises."""
    stopped = []
    if threading.current_thread() is not threading.main_thread():
        yield stopped  # Python handles signals in its main thread only
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number, frame):
        stopped.append(number)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)


@torch.no_grad()
def evaluate(model, tokens, *, batch=32):
    """Mean loss in nats per token over `tokens`, cut into windows of the model's context."""
    context, device = model.sizes.context, next(model.parameters()).device
    count = (len(tokens) - 1) // context
    if count == 0:
        raise ValueError(f"evaluation needs more than {context} tokens; got {len(tokens)}.")
    inputs = tokens[: count * context].view(count, context)
    targets = tokens[1 : count * context + 1].view(count, context)
    losses = [
        model.loss(these.to(device), those.to(device)).item() * len(these)
        for these, those in zip(inputs.split(batch), targets.split(batch), strict=True)
    ]
    return sum(losses) / count


def _save(path, model, optimizer, batches, history):
    """Written whole or not at all: a run cut short leaves the last checkpoint."""
    state = dict(
        model=model.state_dict(),
        optimizer=optimizer.state_dict(),
        generator=batches.generator.get_state(),
        losses=history.losses,
    )
    with whole_file(path) as aside:
        torch.save(state, aside)


def _restore(path, model, optimizer, batches, history):
    """Go on from a checkpoint, whichever device saved it: tensors are copied to where the model's are."""
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        parts = [state[name] for name in ("model", "optimizer", "generator", "losses")]
    except OSError as error:
        raise RuntimeError(f"{path} cannot be read: {error.strerror}.") from error
    except Exception as error:
        kind = type(error).__name__
        raise RuntimeError(
            f"{path} is no checkpoint, or half of one ({kind}): give another path, or move it away to start again."
        ) from error
    try:
        model.load_state_dict(parts[0])
        optimizer.load_state_dict(parts[1])
    except (RuntimeError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise RuntimeError(
            f"{path} is of another model or optimizer: go on with the sizes that it was saved with, or give another "
            f"path to start anew ({first})"
        ) from error
    batches.generator.set_state(parts[2])
    history.losses = list(parts[3])
