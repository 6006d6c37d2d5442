"""One shared index as a way on the common frontier: bytes, dense at 1, and a dry run of its driver."""

import json

import torch
from support import house

from effattn_core.attention import attention
from effattn_core.indexing import frontier as ours


class Echo:
    """A reader whose queries are the keys of the last tokens of a stretch, sharpened: four query heads on two."""

    heads, key_heads, head_dim = 4, 2, 8

    def __init__(self):
        self.words = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))

    def key_value(self, text):
        key = self.words[:, text][None]
        return key, key.clone()

    def query(self, text):
        return 4 * self.words[:, text[-1]].repeat_interleave(2, 0)[None, :, None]


def test_a_cache_that_reads_everything_is_dense_and_bytes_are_the_index_and_the_rows():
    text = torch.randint(6, (400,), generator=torch.Generator().manual_seed(1))
    indexer = ours.taught(Echo(), text, steps=3, keys=64, queries=4)
    key, value = Echo().key_value(text[:100])
    whole, few = (ours.cache_of(indexer, dial, (1, 2, 100, 8)) for dial in (1.0, 0.2))
    for cache in (whole, few):
        cache.append(key[:, :, :60], value[:, :, :60])
        cache.append(key[:, :, 60:], value[:, :, 60:])
    query = Echo().query(text[:100])
    torch.testing.assert_close(whole.look(query), attention(query, key, value), rtol=0, atol=1e-5)
    assert few.look(query).shape == query.shape and few.rows.shape == (1, 20)
    assert few.step_bytes() == {"descriptors": 100 * ours.INDEX_DIM * 4, "blocks": 20 * 2 * 2 * 8 * 4}
    (way,) = ours.WAYS
    assert (way.name, way.extra, way.period) == ("CLSA", 0.0, 0)


def test_what_an_index_is_taught_covers_more_than_what_it_was():
    text = torch.randint(6, (400,), generator=torch.Generator().manual_seed(1))
    key, value = Echo().key_value(text[:100])
    query, caught = Echo().query(text[:100]), []
    score = (8**-0.5 * query @ key.repeat_interleave(2, 1).mT).softmax(-1).mean((1, 2))[0]
    for steps in (1, 60):
        cache = ours.cache_of(ours.taught(Echo(), text, steps=steps, keys=64, queries=8), 0.2, (1, 2, 100, 8))
        cache.append(key, value)
        cache.look(query)
        caught.append(score[cache.rows[0]].sum().item())
    assert caught[1] > caught[0]


def test_a_dry_bench_holds_every_budget_and_part(monkeypatch, tmp_path):
    driver = house.driver("indexing/bench")
    monkeypatch.setattr(driver, "shakespeare", lambda: "to be or not to be, that is the question. " * 400)
    monkeypatch.setattr(driver, "reproducible", lambda *given: None)
    indexer = ours.taught(Echo(), torch.randint(6, (400,)), steps=1, keys=64, queries=2)
    wide = ours.ReaderIndexer(8 * 64, 2 * 64)
    assert indexer.index_dim == wide.index_dim
    monkeypatch.setattr(ours, "reader_indexer", lambda: wide)
    driver.main(contexts=(512,), repeats=3, folder=tmp_path)
    rows = json.loads((tmp_path / "cpu.json").read_text())["rows"]
    judge = house.driver("rectified/bench")
    monkeypatch.setattr(judge.frontier, "ways", lambda: ours.WAYS)
    plain = judge.plain_letters(driver.shakespeare())
    letters = judge.Characters(plain)
    reader, text = judge.Reader(len(letters)), letters.encode(plain)
    with torch.no_grad():
        judged, _, _ = judge.frontier_rows(reader, text, 512, (0.05, 0.3), 0.3, 3, 2)
    low, high = (row for row in judged if row["name"] == "CLSA")
    assert "left_out" in low and high["share"] <= 0.3 and high["bytes"] == high["share"] * 512 * 2 * 128 * 4
    times = {row["name"] for row in rows if row["what"] == "time of a token"}
    assert times == {"dense", "an index a layer", "one index", "scoring", "top-k", "gathering", "attention"}
