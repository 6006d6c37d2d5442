"""The formulas of condensed chunks are what runs: rows and scores counted in a model, bytes of its states."""

import pytest
import torch

from effattn_core import bill, costs, focus
from effattn_core.focus import costs as priced
from effattn_core.model import LanguageModel, configuration
from effattn_core.states import kept_bytes
from effattn_core.yoco.costs import model_of

SIZES = dict(chunk=12, prompt=4, local=9)


class Counter:
    """Counts the rows that pass through a model's feed-forward layers, and the scores of its attention."""

    def __init__(self, model, monkeypatch):
        self.rows = self.scores = 0
        heads = model.sizes.heads

        def attention(query, key, value, **settings):
            batch, _, time, _ = query.shape
            self.scores += batch * heads * sum(key.shape[2] - time + row + 1 for row in range(time))
            return attend(query, key, value, **settings)

        for name in ("effattn_core.focus.model", "effattn_core.states", "effattn_core.layers"):
            attend = __import__(name, fromlist=["attention"]).attention
            monkeypatch.setattr(f"{name}.attention", attention)
        for block in model.blocks:
            block.feed_forward.register_forward_hook(self.count)

    def count(self, module, given, made):
        self.rows += given[0].shape[:-1].numel()

    def flops(self, model):
        """Operations of the counted rows and scores, and of one row of the head."""
        sizes = model_of(model.sizes)
        per_layer = sizes.matrix_parameters // sizes.layers
        return 2 * per_layer * self.rows + 4 * sizes.head_dim * self.scores + 2 * sizes.vocabulary * sizes.width


@pytest.fixture
def model():
    torch.manual_seed(0)
    return LanguageModel(configuration("tiny", 20, layers=3, context=40)).eval().requires_grad_(False)


@pytest.mark.parametrize("rest", [0, 1, 5, 11])
@pytest.mark.parametrize("chunks", [1, 3])
def test_reading_a_prompt_takes_the_operations_of_the_formula(model, monkeypatch, chunks, rest):
    text = torch.randint(20, (1, chunks * 12 + 9 + rest))
    parts, counter = focus.split(text, 12, 9), Counter(model, monkeypatch)
    candidates = focus.condense(model, focus.Added(model, 0), *parts, prompt=4)
    focus.predict(model, candidates, parts.local, last=1)
    assert counter.flops(model) == priced.prefill_flops(model_of(model.sizes), text.shape[1], **SIZES)
    assert counter.scores == 3 * 4 * focus.scores_chunked(chunks, 12, 4, 9 + rest)
    assert priced.chunks_of(text.shape[1], 12, 9) == chunks == parts.chunks.shape[1]
    one = priced.chain_flops(model_of(model.sizes), text.shape[1], **SIZES)
    assert (one == priced.prefill_flops(model_of(model.sizes), text.shape[1], **SIZES)) is (chunks == 1)


@pytest.mark.parametrize("rest", [0, 5, 11])
def test_a_written_token_takes_the_operations_of_the_formula_and_what_is_kept_its_bytes(model, monkeypatch, rest):
    context, added = 45 + rest, focus.Added(model, 0)
    chunks, local = focus.split(torch.randint(20, (1, context)), 12, 9)
    memory = focus.read_chunks(model, chunks, local[:, -4:-1], room=1)
    counter, sizes = Counter(model, monkeypatch), model_of(model.sizes)
    _, memory = model.read(model.embedding(local[:, -1:].expand(3, -1)), memory)
    candidates = focus.refresh(model, added, memory)
    _, states = focus.predict(model, candidates, local, last=1)
    assert counter.rows == 3 * priced.decode_rows(context, chunk=12, local=9) == 3 * (2 * 3 + 9 + rest)
    assert counter.flops(model) == priced.decode_flops(sizes, context, **SIZES)
    assert kept_bytes(memory) + kept_bytes(states) == priced.kept_bytes(sizes, context, dtype="float32", **SIZES)
    read = priced.decode_bytes(sizes, context, dtype="float32", **SIZES)
    own = sum(each.nbytes for each in added.parameters())
    matrices = 4 * (sizes.matrix_parameters + sizes.vocabulary * sizes.width)
    assert read == matrices + own + kept_bytes(memory) + kept_bytes(states)


def test_what_is_added_to_llama_2_is_the_paper_s_two_billion():
    assert round(priced.added_parameters(priced.LLAMA2_7B) / 1e9, 2) == 2.15
    assert round(priced.LLAMA2_7B.parameters / 1e9, 2) == 6.74


def test_the_longest_chain_is_one_chunk_and_the_local_text_however_long_the_context():
    model, first = priced.LLAMA2_7B, priced.chain_flops(priced.LLAMA2_7B, 16 * 1024)
    last = priced.chain_flops(model, 400 * 1024)
    one = priced.prefill_flops(model, 4096)
    assert priced.chunks_of(4096) == 1 and one == priced.chain_flops(model, 4096)
    extra = 4 * 32 * 32 * 128 * 2048 * (priced.chunks_of(400 * 1024) - priced.chunks_of(16 * 1024))
    assert last - first == extra and last < 1.05 * one
    assert costs.prefill_flops(model, 400 * 1024) > 50 * last


def test_a_text_that_is_all_local_costs_what_a_dense_model_costs():
    model = priced.LLAMA2_7B
    for context in (1, 300, 2048, 2049, 4095):
        assert priced.chunks_of(context) == 0
        assert priced.prefill_flops(model, context) == priced.chain_flops(model, context)
        assert priced.prefill_flops(model, context) == costs.prefill_flops(model, context)
        assert priced.kept_bytes(model, context) == costs.cache_bytes(model, context)


def test_the_bill_s_stage_lowers_the_prompt_and_says_what_grows():
    before, after = bill.lines("attention"), bill.lines("focus")
    assert after["prefill"].value == priced.prefill_flops(bill.MODEL, bill.CONTEXT) < before["prefill"].value / 2
    assert after["prefill"].weights > before["prefill"].weights and after["prefill"].text < before["prefill"].text / 30
    assert after["cache"].value == priced.kept_bytes(bill.MODEL, bill.CONTEXT) > before["cache"].value
    assert after["decode"].value == priced.decode_bytes(bill.MODEL, bill.CONTEXT) > before["decode"].value
    assert after["decode"].text == after["cache"].text and after["optimizer"] == before["optimizer"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ((-1,), "context must be a whole number of at least 0; it is -1"),
        ((10, 0), "chunk must be a whole number of at least 1; it is 0"),
        ((10, 4, 0), "local must be a whole number of at least 1; it is 0"),
    ],
)
def test_sizes_that_make_no_text_are_refused(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        priced.chunks_of(*given)
