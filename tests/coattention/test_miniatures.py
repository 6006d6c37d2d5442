"""The small worlds of this chapter are what their pages say: grammar, pictures, plays, and who is held out."""

from collections import Counter

import pytest
import torch

from effattn_core.coattention import languages, slices, trees, views
from effattn_core.plays import plays


def test_who_does_what_in_a_clause_is_what_its_pronoun_says():
    """who: the noun before it acts. whom: it is acted upon. A main clause has no pronoun, and its agent comes first."""
    import random

    rng, kinds = random.Random(3), Counter()
    for _ in range(60):
        said = trees.sentence(rng)
        for agent, verb, patient in said.facts:
            pronouns = [said.words[each] for each, head in enumerate(said.heads)
                        if head == verb and said.words[each] in ("who", "whom")]  # fmt: skip
            kinds[tuple(pronouns)] += 1
            if pronouns:
                noun = said.heads[verb]
                assert noun == (agent if pronouns == ["who"] else patient)
            else:
                assert agent < verb < patient
    assert all(kinds[each] > 20 for each in ((), ("who",), ("whom",))), kinds


def test_verbs_of_equal_weight_count_as_a_draw_among_them():
    table, mask, right = trees.asked(40, seed=1)
    nothing = torch.zeros(2, dtype=torch.float64)
    wanted = (1 / mask.sum(1).double()).mean().item()
    assert trees.accuracy(table, mask, right, nothing, (0, 1)) == pytest.approx(wanted)


def test_pictures_of_a_digit_are_drawn_from_all_that_there_are():
    generator = torch.Generator().manual_seed(0)
    for images in languages._drawn(torch.full((200,), 7), generator):
        assert len(images.unique(dim=0)) > 50


class Seeing:
    """Stands in for the encoders: a picture's code is its digit, and pointing hands back what it was asked."""

    def encode(self, images, those):
        return images[0]

    def pointer(self, heads, relation, candidates):
        self.asked = heads[:, 0], relation, candidates[..., 0]
        return torch.zeros(candidates.shape[:2])


def test_the_right_picture_is_the_one_that_the_relation_leads_to(monkeypatch):
    monkeypatch.setattr(languages, "_drawn", lambda labels, generator, held=False: [labels[..., None].float()] * 2)
    model = Seeing()
    _, right = languages._asked(model, torch.Generator().manual_seed(1), 300, 5, torch.zeros(300, 2, dtype=torch.int64))
    heads, relation, candidates = model.asked
    wanted = (heads.long() + torch.tensor(languages.RELATIONS)[relation]) % languages.COUNT
    assert torch.equal(candidates.gather(1, right[:, None])[:, 0].long(), wanted)
    assert all(len(set(row)) == 5 for row in candidates.tolist()) and len(set(relation.tolist())) == 3
    assert set(right.tolist()) == set(range(5))


def test_walks_add_the_odd_powers_and_no_other():
    counts = torch.rand(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    step = counts / (counts.sum(1, keepdim=True) * counts.sum(0)).sqrt()
    back = step @ step.T
    torch.testing.assert_close(slices.walks(counts, 1), step)
    torch.testing.assert_close(slices.walks(counts, 5), step + back @ step + back @ back @ step)


def test_equals_share_the_mean_of_their_ranks():
    counts = torch.zeros(2, 4, 4, dtype=torch.float64)
    counts[0, 0, 1] = counts[0, 0, 2] = 1  # the first has answered two others once each
    counts[0, 1, 0] = counts[0, 2, 0] = 1
    counts[1, 0, 1] = 1
    found = slices.Sliced("made up", tuple("abcd"), counts)
    assert slices.ranks(found, float("inf"), 1) == [1 / 1.5]


def test_a_row_of_counts_answers_its_column():
    for play in plays()[:3]:
        found, spoken = slices.sliced(play), Counter()
        for one, other in zip(play.speeches, play.speeches[1:], strict=False):
            if (one.act, one.scene) == (other.act, other.scene) and one.speaker != other.speaker:
                spoken[other.speaker, one.speaker] += 1
        total = found.counts.sum(0)
        assert total.sum() == sum(spoken.values())
        for (answers, asked), count in spoken.items():
            assert total[found.speakers.index(answers), found.speakers.index(asked)] == count


def test_a_fit_of_gaps_ends_where_the_likelihood_is_level():
    gaps = torch.rand(5, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) * 3
    gaps[0, 20:] = torch.nan
    found = [each.clone().requires_grad_() for each in slices.fitted(gaps)]
    told = slices.log_density(gaps.nan_to_num(), found[0][:, None], found[1][:, None])
    (told * ~gaps.isnan()).sum().backward()
    assert max(each.grad.abs().max().item() for each in found) < 1e-6


def test_two_speakers_are_matched_alike_in_either_order():
    play = plays()[0]
    one, other = (views.timeline(play, name) for name in play.speakers[:2])
    there, back = views._matched(one, other), views._matched(other, one)
    assert all(there[name] == pytest.approx(back[name]) for name in there)


def test_held_out_plays_teach_nothing():
    """In every play that is held out the sign of the feature means the opposite; all of its pairs are then wrong."""
    titles = [f"play {number:02}" for number in range(6)]
    out = torch.randperm(6, generator=torch.Generator().manual_seed(0))[:2].tolist()
    found = [
        views.Pair(title, {"sign": [sign]}, (sign > 0) != (place in out), True)
        for place, title in enumerate(titles) for sign in (-1.0, 1.0) for _ in range(50 if place in out else 2)
    ]  # fmt: skip
    assert views.areas(found, ("sign",), 0, held=2) == (0.0, 0.0)
