"""What is said of data that stays where it is (FedCVD) and of knowledge that moves without its data (the survey)."""

import functools
from statistics import fmean

import torch

from effattn_core.ledger import Claim, Figure, at_least, beyond, exact, two_errors
from effattn_core.recordings import measured
from effattn_core.splits.federated import (
    AVERAGED,
    CONTROLLED,
    Bowls,
    Variates,
    averaged,
    bytes_per_round,
    controlled,
    oracle,
)

RUN = "splits/training-cpu"
FEDCVD, SURVEY = "Zhang et al. 2024 (FedCVD)", "Survey of data-free transfer, 2021"
SMALL = "MNIST 14 × 14 in the proportions of ten labels of Fed-ECG, 40 rounds, eight seeds, untuned"


def difference(arm, other, measure, rounds=40):
    """Paired differences of an accuracy between two arms, a seed each.

    Two standard errors of them are too few: seeds draw from the same 4,000 digits and share the test.
    """
    rows = [{row["seed"]: row[measure] for row in measured(RUN, arm=each, rounds=rounds)} for each in (arm, other)]
    return [rows[0][seed] - rows[1][seed] for seed in sorted(rows[0])]


def scores(arm, classes="all"):
    """Accuracies on the other collection."""
    return [row["accuracy"] for row in measured(RUN, what="adapted", arm=arm, classes=classes)]


def students(arm, **wanted):
    """Accuracies of students on MNIST."""
    return [row["accuracy"] for row in measured(RUN, what="student", arm=arm, **wanted)]


@functools.cache
def _bowls():
    generator = torch.Generator().manual_seed(0)
    turned, _ = torch.linalg.qr(torch.randn(3, 4, 4, dtype=torch.float64, generator=generator))
    values = 0.3 + 2 * torch.rand(3, 4, dtype=torch.float64, generator=generator)
    optima = 3 * torch.randn(3, 4, dtype=torch.float64, generator=generator)
    return Bowls(turned @ torch.diag_embed(values) @ turned.mT, optima)


def _rest(released=None):
    """Where 1,000 rounds of ten local steps end: of FedAvg, or of Scaffold, where `released` says as which."""
    bowls, start = _bowls(), torch.zeros(4, dtype=torch.float64)
    clients, kept = bowls.clients(10), Variates.zero(torch.zeros(4, dtype=torch.float64), 3)
    for _ in range(1000):
        if released is None:
            start = averaged(start, clients, [1 / 3] * 3, 0.1)
        else:
            start, kept = controlled(start, kept, clients, 0.1, released=released)
    return start


def _off(point):
    return (point - _bowls().optimum([1 / 3] * 3)).norm().item()


CLAIMS = [
    Claim(
        topic="splits",
        paper=FEDCVD,
        where="released code, algorithm/ecg/scaffold.py, as we read it; it was not run",
        statement="Steps whose correction is lost are those of FedAvg with equal weights.",
        measured=Figure(lambda: (_rest(True) - _rest()).norm().item(), "between their resting places"),
        rule=exact(1e-10),
        conditions="tests our reading of the code, not the code: quadratics of three clients; float64",
    ),
    Claim(
        topic="splits",
        paper="Karimireddy et al. 2020 (Scaffold)",
        where="the method's promise",
        statement="Control variates lead to the optimum; averages of many local steps do not.",
        formula=Figure(lambda: _off(oracle(_bowls(), [1 / 3] * 3, 10, 0.1)), "off, FedAvg, by its fixed point"),
        measured=Figure(lambda: _off(_rest(False)), "off, Scaffold"),
        rule=exact(1e-10),
        conditions="three quadratics, ten local steps",
        read=False,
    ),
    Claim(
        topic="splits",
        paper=FEDCVD,
        where="released code: what clients send",
        statement="Scaffold sends twice the bytes of FedAvg.",
        published=2.0,
        unit="times",
        formula=Figure(lambda: bytes_per_round(CONTROLLED, 4, 1000) / bytes_per_round(AVERAGED, 4, 1000), "times"),
        rule=exact(),
        conditions="by formula",
    ),
    Claim(
        topic="splits",
        paper=FEDCVD,
        where="released code: methods compared as they are meant",
        statement="Control variates raise the accuracy on rare classes.",
        measured=Figure(lambda: fmean(difference("Scaffold", "FedAvg, equal", "tail")), "above equal FedAvg, tail"),
        rule=beyond(lambda: two_errors(difference("Scaffold", "FedAvg, equal", "tail")), at_least(0.0)),
        conditions=SMALL,
    ),
    Claim(
        topic="splits",
        paper=FEDCVD,
        where="released code, μ = .01",
        statement="FedProx improves on FedAvg.",
        measured=Figure(
            lambda: fmean(difference("FedProx .01", "FedAvg, equal", "macro")), "above equal FedAvg, all classes alike"
        ),
        rule=beyond(lambda: two_errors(difference("FedProx .01", "FedAvg, equal", "macro")), at_least(0.0)),
        conditions=SMALL,
    ),
    Claim(
        topic="splits",
        paper=SURVEY,
        where="abstract: distillation without data",
        statement="Matching BatchNorm statistics makes better stand-ins for data.",
        measured=Figure(
            lambda: (
                fmean(students("generator", balance=5.0, matching=1.0))
                - fmean(students("generator", balance=5.0, matching=0.0))
            ),
            "more of MNIST read by a student of the generator",
        ),
        rule=at_least(0.0),
        conditions="8 × 8 digits, one teacher per seed, three seeds",
    ),
    Claim(
        topic="splits",
        paper=SURVEY,
        where="abstract: adaptation without the source's data",
        statement="Adapting to an unlabelled target raises the accuracy there.",
        measured=Figure(lambda: fmean(scores("entropy and diversity")) - fmean(scores("source alone")), "gained"),
        rule=at_least(0.0),
        conditions="MNIST to scikit-learn's digits, balanced target, three teachers",
    ),
    Claim(
        topic="splits",
        paper="Our question",
        where="after the survey's abstract, which makes no such promise",
        statement="Adapting to an unlabelled target raises the accuracy there, whatever its classes.",
        measured=Figure(
            lambda: fmean(scores("entropy and diversity", "0 to 4")) - fmean(scores("source alone", "0 to 4")), "gained"
        ),
        rule=at_least(0.0),
        conditions="digits 0 to 4 alone, entropy and diversity; three teachers",
    ),
]
