"""What does a cluster read in a headline, and what does an adversary's move change of it? Made-up words in space."""

import functools

import torch

from effattn_core.signals.clusters import attend, loss_of, memberships, perturbation, random_move
from figures import theme

TOPICS = ("oil", "grain", "money")
WORDS = {  # word -> place between the three topics, and how rare it is
    "crude": (3.0, 0.3, 0.3, 3.0), "barrel": (3.0, 0.5, 0.2, 4.0), "wheat": (0.2, 3.0, 0.4, 4.0),
    "harvest": (0.3, 3.0, 0.2, 4.0), "bank": (0.2, 0.3, 3.0, 2.0), "dollar": (0.6, 0.4, 3.0, 3.0),
    "prices": (1.2, 1.2, 1.4, 1.0), "rise": (0.9, 1.1, 1.1, 1.0), "tanks": (2.0, 0.2, 1.6, 4.0),
    "exports": (1.4, 2.0, 0.6, 2.0),
}  # fmt: skip
TEXTS = (
    "crude prices rise", "barrel prices rise", "wheat harvest exports", "harvest prices rise", "bank dollar rise",
    "dollar tanks prices", "crude exports rise", "bank tanks",
)  # fmt: skip
SIZES, MOVES = (0.0, 0.1, 0.3, 1.0), ("along the gradient", "anywhere")


@functools.cache
def _given():
    """(words, mask, rarity, clusters, others), in float64."""
    length = max(len(text.split()) for text in TEXTS)
    words = torch.zeros(len(TEXTS), length, 3, dtype=torch.float64)
    mask, rarity = torch.zeros(words.shape[:2], dtype=torch.bool), torch.zeros(words.shape[:2], dtype=torch.float64)
    for row, text in enumerate(TEXTS):
        for place, word in enumerate(text.split()):
            vector = torch.tensor(WORDS[word][:3], dtype=torch.float64)
            words[row, place], mask[row, place] = vector / vector.norm(), True
            rarity[row, place] = WORDS[word][3]
    clusters = torch.nn.functional.normalize(torch.eye(3, dtype=torch.float64) + 0.35, dim=1)
    others = torch.stack([torch.arange(len(TEXTS)).roll(shift) for shift in range(1, len(TEXTS))], 1)
    return words, mask, rarity, clusters, others


@functools.cache
def _moved(size, move):
    """(clusters after a move, loss before, loss after, rise to first order along the gradient)."""
    words, mask, rarity, clusters, others = _given()

    def loss(found):
        return loss_of(words, mask, rarity, found, others)

    if move == MOVES[0]:
        step = perturbation(loss, clusters, size)
    else:
        step = random_move(clusters, size, torch.Generator().manual_seed(1))
    unit = perturbation(loss, clusters, 1.0)
    leaf = clusters.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf), leaf)
    first = size * (gradient * unit).sum().item()
    return clusters + step, loss(clusters).item(), loss(clusters + step).item(), first


def reads(text=1, size=0.0, move=MOVES[0]):
    """A row of attention per cluster over one headline, after a move of the clusters."""
    import plotly.graph_objects as go

    words, mask, rarity, _, _ = _given()
    clusters, before, after, first = _moved(size, move)
    weight = attend(words, mask, rarity, clusters)[0][text - 1].round(decimals=2)
    share = memberships(words, mask, rarity, clusters)[0][text - 1]
    said = TEXTS[text - 1].split()
    rows = [f"{name}, p {part:.2f}" for name, part in zip(TOPICS, share.tolist(), strict=True)]
    shown = weight[:, : len(said)]
    heat = go.Heatmap(
        z=shown.tolist()[::-1], x=said, y=rows[::-1], colorscale=theme.MAGNITUDE, zmin=0, zmax=1, xgap=2, ygap=2,
        hovertemplate="%{y} reads %{x}: %{z:.2f}<extra></extra>",
        colorbar=dict(title=dict(text="weight"), thickness=12),
    )  # fmt: skip
    title = f"<b>loss {before:.2f} → {after:.2f}; straight on it would be {before + first:.2f}</b>"
    return theme.figure(
        heat, height=320, annotations=[theme.heading(title)], margin=dict(l=8, r=8, t=30, b=8),
        meta=dict(narrow={"annotations.0.text": f"<b>loss {before:.2f} → {after:.2f}</b>"}),
    )  # fmt: skip


def reads_says(text=1, size=0.0, move=MOVES[0]):
    """`reads` in a sentence."""
    words, mask, rarity, _, _ = _given()
    clusters, before, after, first = _moved(size, move)
    share = memberships(words, mask, rarity, clusters)[0][text - 1].tolist()
    parts = ", ".join(f"{name} {each:.2f}" for name, each in zip(TOPICS, share, strict=True))
    return (
        f"“{TEXTS[text - 1]}” after a move of {size} {move}: {parts}; the loss goes from {before:.3f} to {after:.3f}, "
        f"along the gradient and straight on it would rise by {first:.3f}."
    )
