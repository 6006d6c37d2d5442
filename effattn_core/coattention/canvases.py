"""Dual-MFA in small: four handwritten digits on four textures, asked about by a grid of cells and by boxes."""

import functools

import torch
from torch import nn
from torch.nn import functional

from effattn_core.coattention.fusion import fused_scores
from effattn_core.latents.digits import data_of_digits

SIDE, QUADRANT, DIGIT, CELL, TEXTURES = 48, 24, 14, 8, 4
LOUD = 4.0  # a one-hot of place or question beside 196 pixels: with 1 a model needs twice the steps to find it
ARMS = ("grid only", "boxes only", "dual", "dual, no cross term", "dual, additive")


@functools.cache
def _digits():
    """(training images, labels, held-out images, labels), 14 × 14, in [0, 1]."""
    found = data_of_digits()
    return tuple(
        functional.avg_pool2d(each / 2 + 0.5, 2)[:, 0] if each.dim() == 4 else each
        for each in (found.images, found.labels, found.held_images, found.held_labels)
    )


def _stripes():
    """Four textures [4, 24, 24] in [0, 1]: stripes across, upright and along both diagonals, of period 4."""
    row, column = torch.meshgrid(torch.arange(QUADRANT), torch.arange(QUADRANT), indexing="ij")
    return torch.stack([((each % 4) < 2).float() for each in (row, column, row + column, row - column)])


def draw(count, generator, *, held=False):
    """A batch of canvases: a dict of image [count, 48, 48], cells [count, 36, 76], boxes [count, 4, 200], question
    [count, 8], answer [count], digit: whether a digit is asked.

    A quadrant has a texture with noise and, opaque on it, a digit at a place of its own. A cell is 8 × 8 pixels with
    its row and column, a box 14 × 14 pixels around a digit, off by up to two, with its quadrant; boxes come in any
    order. Questions are "digit?" and "texture?" of a quadrant, answers ten digits, then four textures.
    """
    images, labels = _digits()[2:] if held else _digits()[:2]
    pick = torch.randint(len(labels), (count, 4), generator=generator)
    texture = torch.randint(TEXTURES, (count, 4), generator=generator)
    canvas = torch.zeros(count, SIDE, SIDE)
    places, room = torch.randint(2, QUADRANT - DIGIT - 1, (count, 4, 2), generator=generator), _stripes()
    boxes = torch.zeros(count, 4, DIGIT * DIGIT + 4)
    off = torch.randint(-2, 3, (count, 4, 2), generator=generator)
    span = torch.arange(DIGIT)
    each = torch.arange(count)[:, None, None]
    for quadrant in range(4):
        top, left = QUADRANT * (quadrant // 2), QUADRANT * (quadrant % 2)
        canvas[:, top : top + QUADRANT, left : left + QUADRANT] = room[texture[:, quadrant]]
    canvas = 0.7 * canvas + 0.15 * torch.randn(canvas.shape, generator=generator)
    for quadrant in range(4):
        corner = places[:, quadrant] + torch.tensor([QUADRANT * (quadrant // 2), QUADRANT * (quadrant % 2)])
        rows, columns = corner[:, 0, None] + span, corner[:, 1, None] + span
        canvas[each, rows[:, :, None], columns[:, None]] = images[pick[:, quadrant]]
    for quadrant in range(4):
        corner = places[:, quadrant] + torch.tensor([QUADRANT * (quadrant // 2), QUADRANT * (quadrant % 2)])
        corner = (corner + off[:, quadrant]).clamp(0, SIDE - DIGIT)
        rows, columns = corner[:, 0, None] + span, corner[:, 1, None] + span
        boxes[:, quadrant, : DIGIT * DIGIT] = canvas[each, rows[:, :, None], columns[:, None]].flatten(1)
        boxes[:, quadrant, DIGIT * DIGIT + quadrant] = LOUD
    order = torch.rand(count, 4, generator=generator).argsort(1)
    boxes = boxes.gather(1, order[:, :, None].expand_as(boxes))
    across = SIDE // CELL
    cells = canvas.unfold(1, CELL, CELL).unfold(2, CELL, CELL).reshape(count, across * across, CELL * CELL)
    one_hot = torch.eye(across)
    where = torch.cat([one_hot.repeat_interleave(across, 0), one_hot.repeat(across, 1)], 1)
    cells = torch.cat([cells, where.expand(count, -1, -1)], 2)
    asked, digit = torch.randint(4, (count,), generator=generator), torch.rand(count, generator=generator) < 0.5
    chosen = lambda table: table.gather(1, asked[:, None])[:, 0]  # noqa: E731
    answer = torch.where(digit, labels[chosen(pick)], 10 + chosen(texture))
    question = LOUD * functional.one_hot(asked + 4 * (~digit), 8)
    return dict(image=canvas, cells=cells, boxes=boxes, question=question, answer=answer, digit=digit, order=order)


class Branch(nn.Module):
    """One branch: regions asked by the question, times what the other branch shows in the mean."""

    def __init__(self, size, hidden, glimpses=2, additive=False):
        super().__init__()
        self.see, self.key = nn.Linear(size, hidden), nn.Linear(hidden, hidden)
        self.ask, self.answer = nn.Linear(8, hidden), nn.Linear(8, hidden)
        self.out, self.additive = nn.Linear(glimpses * hidden, hidden), additive
        self.weight = nn.Parameter(torch.randn(glimpses, hidden))

    def keys(self, regions):
        """(v, x): what is returned, and what is asked."""
        value = self.see(regions).relu()
        return value, self.key(value).tanh()

    def context(self, question, other=None):
        """c = tanh(W q) ∘ mean_m tanh(T d_m), the second factor where there is another branch."""
        asked = self.ask(question).tanh()
        return asked if other is None else asked * other.mean(1)

    def weights(self, key, context):
        """The weights [count, glimpses, regions]."""
        if self.additive:
            joined = key + context[:, None]
            score = self.weight @ (joined / joined.norm(dim=-1, keepdim=True)).mT
        else:
            score = fused_scores(key, context, self.weight)
        return score.softmax(-1)

    def forward(self, question, value, key, other=None):
        seen = self.weights(key, self.context(question, other)) @ value
        return self.out(seen.flatten(1)).tanh() * self.answer(question).tanh()


class DualMFA(nn.Module):
    """Both branches, or one: logits of 14 answers. arm: one of ARMS."""

    def __init__(self, arm="dual", hidden=64):
        super().__init__()
        if arm not in ARMS:
            raise ValueError(f"an arm is one of {', '.join(ARMS)}; got {arm!r}.")
        self.arm, additive = arm, arm == "dual, additive"
        self.grid = Branch(CELL * CELL + 2 * (SIDE // CELL), hidden, additive=additive)
        self.box = Branch(DIGIT * DIGIT + 4, hidden, additive=additive)
        self.cross = nn.ModuleList([nn.Linear(hidden, hidden) for _ in range(2)])
        self.out = nn.Linear(hidden, 14)

    def forward(self, batch):
        grid, box = self.grid.keys(batch["cells"]), self.box.keys(batch["boxes"])
        to_grid, to_box = self.others(grid, box)
        total = 0
        if self.arm != "boxes only":
            total = total + self.grid(batch["question"], *grid, to_grid)
        if self.arm != "grid only":
            total = total + self.box(batch["question"], *box, to_box)
        return self.out(total)

    def others(self, grid, box):
        """What each branch hears of the other: nothing without a cross term."""
        if self.arm in ("dual", "dual, additive"):
            return self.cross[0](box[0]).tanh(), self.cross[1](grid[0]).tanh()
        return None, None


def trained(arm, seed, steps=1400, batch=64, rate=3e-3):
    """A DualMFA trained from a seed, Adam, the rate falling to 0."""
    torch.manual_seed(seed)
    model, generator = DualMFA(arm), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        given = draw(batch, generator)
        optimizer.zero_grad()
        functional.cross_entropy(model(given), given["answer"]).backward()
        optimizer.step()
    return model


@torch.no_grad()
def accuracy(model, seed, count=2000):
    """(accuracy on digits, on textures) of held-out digits on new canvases."""
    given = draw(count, torch.Generator().manual_seed(1000 + seed), held=True)
    right = model(given).argmax(1) == given["answer"]
    return right[given["digit"]].float().mean().item(), right[~given["digit"]].float().mean().item()
