"""Tables whose rows are classified by rules: enumerated boards of tic-tac-toe, wine, breast, penguins, digits.

Rows become literals: one per value of a discrete feature, two per threshold of a continuous one, "above" and "not
above". Means, spreads and thresholds come from training rows alone; the released code takes them from all rows.
Boards are enumerated from the rules of the game; the others come with scikit-learn (BSD) and palmerpenguins (CC0).
"""

import functools
from dataclasses import dataclass

import torch

LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))
NAMES = ("tic-tac-toe", "wine", "breast", "penguins", "digits")
THRESHOLDS = {"digits": 4}


@dataclass(frozen=True)
class Table:
    """columns: float64 [rows, features]; labels: int64 [rows]; values: of a discrete feature its names, else None."""

    columns: torch.Tensor
    labels: torch.Tensor
    features: tuple
    values: tuple | None
    classes: tuple

    def __len__(self):
        return len(self.labels)


def _won(board, player):
    return any(all(board[place] == player for place in line) for line in LINES)


def final_boards():
    """Boards on which a game of tic-tac-toe ends, x first, sorted: strings of x, o and b for blank; 958 of them."""
    found, open_boards = set(), {"b" * 9}
    for move in range(9):
        player = "xo"[move % 2]
        after = {board[:at] + player + board[at + 1 :] for board in open_boards for at in range(9) if board[at] == "b"}
        ended = {board for board in after if _won(board, player) or "b" not in board}
        found |= ended
        open_boards = after - ended
    return sorted(found)


@functools.cache
def table(name):
    """One of NAMES. Raises ValueError for another."""
    if name == "tic-tac-toe":
        boards = final_boards()
        columns = torch.tensor([["xob".index(each) for each in board] for board in boards], dtype=torch.float64)
        labels = torch.tensor([int(_won(board, "x")) for board in boards])
        features = tuple(f"{place}" for place in range(1, 10))
        return Table(columns, labels, features, ("x", "o", "b"), ("x has not won", "x wins"))
    if name == "penguins":
        from palmerpenguins import load_penguins

        kept = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
        rows = load_penguins().dropna(subset=[*kept, "sex"])
        labels = torch.tensor((rows["sex"] == "male").to_numpy().copy()).long()
        return Table(torch.tensor(rows[kept].to_numpy(dtype=float)), labels, tuple(kept), None, ("female", "male"))
    loaders = {"wine": "load_wine", "breast": "load_breast_cancer", "digits": "load_digits"}
    if name not in loaders:
        raise ValueError(f"a table is one of {', '.join(NAMES)}; got {name!r}.")
    from sklearn import datasets

    found = getattr(datasets, loaders[name])()
    names = tuple(map(str, found.feature_names))
    classes = tuple(map(str, found.target_names))
    return Table(torch.tensor(found.data), torch.tensor(found.target).long(), names, None, classes)


def split(table, seed, share=0.3):
    """(training rows, test rows) as indices: test rows are `share` of each class."""
    generator, test = torch.Generator().manual_seed(1000 + seed), []
    for label in range(len(table.classes)):
        rows = (table.labels == label).nonzero().flatten()
        test.append(rows[torch.randperm(len(rows), generator=generator)][: round(share * len(rows))])
    test = torch.cat(test).sort().values
    train = torch.ones(len(table), dtype=torch.bool)
    train[test] = False
    return train.nonzero().flatten(), test


@dataclass(frozen=True)
class Literal:
    """feature op bound: op "=" with a value's name, ">" or "≤" with a number. `words` is how a rule prints it."""

    feature: str
    op: str
    bound: str | float

    @property
    def words(self):
        return (
            f"{self.feature}{self.op}{self.bound}" if self.op == "=" else f"{self.feature} {self.op} {self.bound:.3g}"
        )


class Encoder:
    """Rows to literals: `literals`, and a call [rows, features] -> float32 [rows, literals] of 0 and 1.

    thresholds: per continuous feature, drawn from a normal distribution over standardised values and never trained.
    """

    def __init__(self, table, rows, *, thresholds=10, seed=0):
        self.values = table.values
        if table.values is not None:
            self.literals = [Literal(each, "=", value) for each in table.features for value in table.values]
            return
        known = table.columns[rows]
        generator = torch.Generator().manual_seed(seed)
        cuts = torch.randn(len(table.features), thresholds, generator=generator, dtype=torch.float64)
        spread = known.std(0)
        self.cuts = cuts * torch.where(spread > 0, spread, 1.0)[:, None] + known.mean(0)[:, None]
        self.literals = [
            Literal(feature, op, cut)
            for op in (">", "≤")
            for feature, own in zip(table.features, self.cuts.tolist(), strict=True)
            for cut in own
        ]

    def __call__(self, columns):
        if self.values is not None:
            hot = columns[:, :, None] == torch.arange(len(self.values))
            return hot.flatten(1).float()
        above = (columns[:, :, None] > self.cuts).flatten(1).float()
        return torch.cat([above, 1 - above], 1)
