"""The model that the book's recorded run trained: small enough to lie in the repository, read without training."""

import base64
import json
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from effattn_core.latents.model import LatentModel, latent_sizes
from effattn_core.latents.quality import Classifier
from effattn_core.latents.tokenisers import LatentScale, Tokeniser
from effattn_core.recordings import MEASUREMENTS

PATH = MEASUREMENTS / "latents" / "digits.safetensors"
CLASSES, HIDDEN = 10, 10  # classes are words 0 to 9, and 10 hides one
LARGEST = 2_000_000  # bytes


@dataclass(frozen=True)
class Trained:
    """A tokeniser, the scale of its latents, the model that draws them, and the classifier that judges."""

    tokeniser: Tokeniser
    scale: LatentScale
    model: LatentModel
    classifier: Classifier

    @property
    def modules(self):
        return {"tokeniser": self.tokeniser, "model": self.model, "classifier": self.classifier}


def save(trained, tokeniser, sizes, path=None):
    """Store a Trained in float16. tokeniser, sizes: the settings of `Tokeniser` and `latent_sizes`, for `load`.

    path: the repository's own by default. Raises ValueError for a file above LARGEST.
    """
    weights = {
        f"{name}.{key}": tensor.half().contiguous()
        for name, module in trained.modules.items()
        for key, tensor in module.state_dict().items()
    }
    size = sum(2 * tensor.numel() for tensor in weights.values())
    if size > LARGEST:
        raise ValueError(f"a checkpoint of the repository has at most {LARGEST:,} bytes; this one has {size:,}.")
    told, path = {"tokeniser": tokeniser, "sizes": sizes, "scale": asdict(trained.scale)}, path or PATH
    save_file(weights, path, {name: json.dumps(each) for name, each in told.items()})
    Path(path).chmod(0o644)


def load(path=None):
    """The Trained of the recorded run, float32, ready to draw.

    Raises FileNotFoundError with the command that makes it where it is missing.
    """
    path = Path(path or PATH)
    if not path.exists():
        raise FileNotFoundError(f"{path.name} is not recorded yet: run book/measurements/latents/run.py.")
    with safe_open(path, "pt") as file:
        told = {name: json.loads(text) for name, text in file.metadata().items()}
        weights = {name: file.get_tensor(name).float() for name in file.keys()}
    made = Trained(
        Tokeniser(**told["tokeniser"]), LatentScale(**told["scale"]), LatentModel(latent_sizes(**told["sizes"])),
        Classifier(),
    )  # fmt: skip
    for name, module in made.modules.items():
        prefix = f"{name}."
        module.load_state_dict({key.removeprefix(prefix): w for key, w in weights.items() if key.startswith(prefix)})
        module.eval().requires_grad_(False)
    return made


@torch.no_grad()
def images_of(trained, latents):
    """Images [batch, 1, side, side] in [-1, 1] of scaled latents, as a LatentModel draws them."""
    return trained.tokeniser.decode(trained.scale.restored(latents)).clamp(-1, 1)


def packed(images):
    """Images in [-1, 1] as text, row by row: base64 of zlib of a byte per pixel."""
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return base64.b64encode(zlib.compress(pixels.cpu().numpy().tobytes(), 9)).decode()


def unpacked(text, side=28):
    """uint8 [count, side, side] of what `packed` made."""
    pixels = bytearray(zlib.decompress(base64.b64decode(text)))
    return torch.frombuffer(pixels, dtype=torch.uint8).view(-1, side, side)
