"""Claims return the verdict they carry, negatives are executed, and labels are read off the replaced-token head."""

import random

import pytest
import torch

from effattn_core.signals import tables, tokens


def read(program, column, name, other):
    """The verdict of a claim from a column of pandas."""
    ranks = column.rank(method="min", ascending=False)
    return {
        "most": lambda: ranks[name] == 1,
        "second": lambda: ranks[name] == 2,
        "least": lambda: column[name] == column.min(),
        "above": lambda: column[name] > column.mean(),
        "below": lambda: column[name] < column.mean(),
        "more": lambda: column[name] > column[other],
        "fewer": lambda: column[name] < column[other],
        "twice": lambda: column[name] / column[other] >= 2,
        "exactly": lambda: column[name] == other,
        "reaches": lambda: column[name] >= other,
    }[program]()


def test_each_claim_has_the_verdict_that_another_reading_of_its_table_gives():
    import pandas

    for claim in tables.claims(100, random.Random(5)):
        column = pandas.DataFrame(claim.table.cells, index=claim.table.names)[claim.column]
        assert read(claim.program, column, claim.arguments[0], claim.arguments[-1]) == claim.verdict, claim


def test_negatives_that_are_true_are_found_by_executing_them():
    generator, spared, false = random.Random(0), 0, 0
    for table in tables.tables():
        for program in ("most", "least", "second", "more", "exactly"):
            arguments = tables.supported(program, table, "scenes", generator)
            if arguments:
                given = tables.refuted(program, table, "scenes", arguments, generator)
                false += given is not None and tables.execute(program, table, "scenes", given)
                free = tables.refuted(program, table, "scenes", arguments, generator, executed=False)
                spared += tables.execute(program, table, "scenes", free)
    assert false == 0 and spared > 0
    assert tables.true_by_chance("scenes", 500) > tables.true_by_chance("words", 500) == 0


def test_the_share_of_true_claims_is_about_a_half():
    verdicts = [claim.verdict for claim in tables.claims(300, random.Random(1))]
    assert 0.4 < sum(verdicts) / 300 < 0.6


def test_the_likelihood_of_a_verdict_sums_over_programs_that_return_it():
    claims = tables.claims(30, random.Random(2))
    fits, verdicts = tables.outcomes(claims)
    logits = torch.randn(30, len(tables.PROGRAMS), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    both = [
        tables.verdict_likelihood(logits, fits, verdicts, torch.full((30,), wanted)).exp() for wanted in (True, False)
    ]
    assert torch.allclose(sum(both), torch.ones(30, dtype=torch.float64))
    likely = torch.tensor([
        sum(p for p, fit, says in zip(row.exp().tolist(), fit, says, strict=True) if fit and says)
        / sum(p for p, fit in zip(row.exp().tolist(), fit, strict=True) if fit)
        for row, fit, says in zip(logits, fits.tolist(), verdicts.tolist(), strict=True)
    ]).double()  # fmt: skip
    assert torch.allclose(both[0], likely)


def test_what_is_no_claim_is_refused():
    table = tables.tables()[0]
    with pytest.raises(ValueError, match="got most, lines"):
        tables.execute("most", table, "lines", table.names[:1])
    assert tables.execute("more", table, "words", table.names[:1]) is None


def test_the_label_that_looks_least_replaced_is_the_one_with_the_smallest_logit():
    logits = torch.randn(50, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    position, bias = torch.tensor([8, 2, 5, 6]), torch.tensor([0.3, -1.0, 0.0, 2.0], dtype=torch.float64)
    chosen = tokens.label_probabilities(logits, position, bias).argmax(-1)
    assert torch.equal(chosen, (logits[:, position] + bias).argmin(-1))
    assert not torch.equal(chosen, (logits[:, position] + bias).argmax(-1))


def test_without_a_text_the_best_bias_is_the_log_odds_of_not_being_the_label():
    labels = torch.tensor([0] * 5 + [1] * 3 + [2] * 12)
    shares = torch.bincount(labels).double() / len(labels)
    bias, position = torch.zeros(3, dtype=torch.float64, requires_grad=True), torch.arange(3)
    optimizer = torch.optim.LBFGS([bias], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-16)

    def loss():
        optimizer.zero_grad()
        found = tokens.label_loss(torch.zeros(20, 3, dtype=torch.float64), position, bias, labels)
        found.backward()
        return found

    optimizer.step(loss)
    assert torch.allclose(bias.detach(), tokens.best_bias(shares), atol=1e-7)
    probabilities = tokens.label_probabilities(torch.zeros(1, 3).double(), position, tokens.best_bias(shares))
    assert torch.allclose(probabilities[0], shares)


def test_a_token_does_not_read_itself_in_the_mean_of_the_others():
    model, window = tokens.Discriminator(20), torch.randint(1, 20, (2, 6))
    own = model.vector(window)
    scores = torch.zeros(6, 6).fill_diagonal_(float("-inf"))  # attention with a query of zeros and a mask
    others = torch.softmax(scores, -1) @ own
    given = torch.cat([own, others, own * others * tokens.DIM**0.5], -1)
    assert torch.allclose(model.features(window), torch.nn.functional.gelu(model.dense(given)), atol=1e-6)


def test_windows_of_the_test_hold_no_label_word_and_shuffled_words_no_label_its_own():
    found = tokens.corpus()
    assert not torch.isin(found.tested[0], found.label_tokens).any()
    for seed in range(6):
        assert (tokens.shown_labels("shuffled words", seed) != found.label_tokens).all()
    with pytest.raises(ValueError, match="one bias per label"):
        tokens.label_probabilities(torch.zeros(1, 4), torch.arange(3), torch.zeros(2))
