"""SmolLM2 fine-tuned on the plays, by AdamW in float32 and by SOLO: loss, states, resident memory, time of a step.

python book/measurements/lowbit/run_smollm2.py      writes smollm2-cpu.json or smollm2-gpu.json beside this file

Each arm is a process of its own, so that its memory is its own; an arm that is done is kept in .cache/runs/lowbit. The
rows, one per arm, `what` "smollm2"; losses in nats per token, times in seconds, memory in bytes:

name, beta1 (see `training.MAKERS`), rate, steps, batch, length; before, after: held-out loss; curve: training losses;
parameters, states: bytes of the optimizer's states; loaded, resident, peak: the process's memory when the model is
read, in the median after a step (gradients still there), and at most; step, pass_: [median, lower, upper quartile] of
an optimizer's step and of forward and backward; step_cpu, pass_cpu: the same in processor time, all threads.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import median, quantiles

import torch

from effattn_core import pretrained, reproducible
from effattn_core.lowbit import state_bytes
from effattn_core.lowbit.training import optimizer_of
from effattn_core.measurements import RUNS
from effattn_core.pretrained import probe
from effattn_core.train import learning_rate_at
from kernels import bench, runtime
from kernels.cache import whole_file

# The last is what the third is held against: the same β1 without its bits.
ARMS = (("AdamW", 0.8), ("SOLO 4/2", 0.8), ("SOLO 2/2", 0.5), ("AdamW", 0.5))
STEPS, BATCH, LENGTH, RATE, WARMUP = 12, 4, 64, 1e-4, 3
PASSAGES, HELD = 40, 5  # passages of the plays, of which every fifth is held out


def resident():
    """Bytes of this process that lie in memory now, as Linux counts them."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return 4096 * pages


def peak():
    """The most that this process ever had in memory, in bytes, as Linux counts it."""
    (line,) = [
        each for each in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if each.startswith("VmHWM")
    ]
    return 1024 * int(line.split()[1])


def texts(tokenizer, length, passages=PASSAGES):
    """(windows to train on, windows held out), int64 [windows, length + 1], from other passages."""
    found = probe.passages(tokenizer, passages, 4 * length + 1)
    held = torch.arange(passages) % HELD == HELD - 1
    windows = found[~held].unfold(1, length + 1, length).flatten(0, 1)
    return windows, found[held][:, : length + 1]


@torch.no_grad()
def held_out(model, windows):
    """Mean loss in nats per token over windows, one at a time."""
    return torch.stack([model.loss(each[None, :-1], each[None, 1:]) for each in windows]).mean().item()


class Clock:
    """Wall and processor seconds of what stands in a `with`, every time."""

    def __init__(self):
        self.wall, self.cpu = [], []

    def __enter__(self):
        self.begun = time.perf_counter(), time.process_time()

    def __exit__(self, *_):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.wall.append(time.perf_counter() - self.begun[0])
        self.cpu.append(time.process_time() - self.begun[1])

    @staticmethod
    def quartiles(seconds):
        lower, middle, upper = quantiles(seconds, n=4) if len(seconds) > 1 else 3 * seconds
        return [round(each, 4) for each in (middle, lower, upper)]


def arm_row(name, beta1, *, source, steps, batch, length, passages, seed=0):
    """One arm, start to end, in this process."""
    reproducible(seed)
    model, tokenizer = pretrained.load(source, dtype=torch.float32)
    device = model.head.weight.device
    training, held = (each.to(device) for each in texts(tokenizer, length, passages))
    order = torch.randperm(len(training), generator=torch.Generator().manual_seed(seed))
    loaded, before = resident(), held_out(model, held)
    settings = {"lr": RATE} if name == "AdamW" else {"lr": RATE, "seed": seed}
    optimizer = optimizer_of(name, model.train().requires_grad_(), beta1, **settings)
    passed, stepped, memory, curve = Clock(), Clock(), [], []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, steps=steps, peak=RATE, warmup=WARMUP)
        windows = training[order[step * batch % len(order) :][:batch]]
        optimizer.zero_grad(set_to_none=True)
        with passed:
            loss = model.loss(windows[:, :-1], windows[:, 1:])
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        with stepped:
            optimizer.step()
        memory.append(resident())
        curve.append(round(loss.item(), 4))
        print(f"{name} {beta1}, step {step}: {curve[-1]}, {stepped.wall[-1]:.1f} s", flush=True)
    return {
        "what": "smollm2", "name": name, "beta1": beta1, "rate": RATE, "steps": steps, "batch": batch, "length": length,
        "seed": seed, "before": before, "after": held_out(model.eval(), held), "curve": curve,
        "parameters": model.parameter_count, "states": state_bytes(optimizer), "loaded": loaded,
        "resident": int(median(memory)), "peak": peak(), "step": Clock.quartiles(stepped.wall),
        "step_cpu": Clock.quartiles(stepped.cpu), "pass_": Clock.quartiles(passed.wall),
        "pass_cpu": Clock.quartiles(passed.cpu),
    }  # fmt: skip


def main(
    source="smollm2", arms=ARMS, steps=STEPS, batch=BATCH, length=LENGTH, passages=PASSAGES, folder=None, target=None
):
    """Settings with defaults, so that a test can run it dry in seconds; each arm that is done is written, and kept."""
    folder, kind = folder or RUNS / "lowbit", "gpu" if runtime.mode == "gpu" else "cpu"
    made, rows = bench.provenance("python book/measurements/lowbit/run_smollm2.py"), []
    for name, beta1 in arms:
        part = f"smollm2-{'-'.join(name.replace('/', '').split())}-{beta1}-{steps}-{batch}-{length}-{runtime.mode}.pt"
        if not (folder / part).exists():
            given = [name, beta1, source, steps, batch, length, passages, folder / part]
            subprocess.run([sys.executable, __file__, "--arm", *map(str, given)], check=True)
        rows.append(torch.load(folder / part, weights_only=True))
        bench.write_measurement(target or Path(__file__).with_name(f"smollm2-{kind}.json"), made, rows)


def run_arm(name, beta1, source, steps, batch, length, passages, path):
    """One arm in this process, its row stored at `path`."""
    sizes = dict(steps=int(steps), batch=int(batch), length=int(length), passages=int(passages))
    row = arm_row(name, float(beta1), source=source, **sizes)
    with whole_file(Path(path)) as aside:
        torch.save(row, aside)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arm", nargs=8, help="one arm alone, as this command calls itself")
    asked = parser.parse_args()
    run_arm(*asked.arm) if asked.arm else main()
