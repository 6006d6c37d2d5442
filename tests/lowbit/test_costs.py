"""The formulas of optimizer states are what tensors hold, and what is published."""

import pytest
import torch

from effattn_core import bill
from effattn_core.lowbit import AdamW8bit, LowBitAdamW, NaiveAdamW, SOLOAdamW, costs, state_bytes

PUBLISHED = {
    "AdamW, float32": 8, "AdamW, bfloat16": 4, "8-bit AdamW": 2.03125, "4-bit AdamW": 1.0625,
    "SOLO 3/3, as released": 1.09375, "SOLO 3/3": 0.84375, "SOLO 4/2": 0.84375, "SOLO 2/2": 0.59375,
}  # fmt: skip
MADE = {
    "AdamW, float32": torch.optim.AdamW, "8-bit AdamW": AdamW8bit, "4-bit AdamW": NaiveAdamW,
    "SOLO 3/3": lambda weights: SOLOAdamW(weights, bits=(3, 3)), "SOLO 4/2": SOLOAdamW,
    "SOLO 2/2": lambda weights: SOLOAdamW(weights, bits=(2, 2)),
}  # fmt: skip


def stepped(make, *shapes):
    weights = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]
    for each in weights:
        each.grad = torch.ones_like(each)
    optimizer = make(weights)
    optimizer.step()
    return optimizer


def test_every_design_takes_the_bytes_that_are_published():
    assert {each.name: each.bytes_per_parameter for each in costs.DESIGNS} == PUBLISHED


@pytest.mark.parametrize("name", MADE)
def test_the_storages_of_the_states_hold_what_the_formula_says(name):
    optimizer = stepped(MADE[name], (256, 33), (1024,))
    assert state_bytes(optimizer) == costs.design(name).bytes_per_parameter * (256 * 33 + 1024)


@pytest.mark.parametrize("bits", [2, 3, 4, 8, 32])
@pytest.mark.parametrize("count", [128, 129, 255, 1001])
def test_a_ragged_tensor_holds_its_bytes_and_no_padding(bits, count):
    optimizer = stepped(lambda weights: SOLOAdamW(weights, bits=(bits, bits)), (count,))
    numbers = (1, 2)
    assert state_bytes(optimizer) == sum(costs.tensor_bytes(count, bits, numbers=each) for each in numbers)


def test_a_tensor_below_the_least_size_keeps_float32():
    assert state_bytes(stepped(SOLOAdamW, (127,))) == 8 * 127
    assert state_bytes(stepped(lambda weights: LowBitAdamW(weights, least=0), (5,))) == 2 * (3 + 4)


def test_a_step_moves_what_is_published_and_gains_no_more_than_the_weights_allow():
    def moved(name, element):
        return costs.step_bytes(costs.design(name), element)

    assert moved("AdamW, float32", 4) == 28 and moved("AdamW, float32", 2) == 22
    assert moved("SOLO 4/2", 4) == 13.6875 and moved("SOLO 4/2", 2) == 7.6875
    assert moved("SOLO 2/2", 4) == 13.1875 and moved("SOLO 2/2", 2) == 7.1875
    assert moved("AdamW, float32", 2) / moved("SOLO 4/2", 2) < 22 / 6


def test_the_models_have_the_parameters_by_which_they_are_named():
    assert costs.LLAMA_7B.parameters == pytest.approx(6.738e9, rel=1e-3)
    assert costs.LLAMA_70B.parameters == pytest.approx(70.55e9, rel=1e-3)
    states = [costs.state_memory(costs.LLAMA_7B, costs.design(name)) / 2**30 for name in ("SOLO 4/2", "SOLO 2/2")]
    assert states == pytest.approx([5.30, 3.73], abs=0.01)  # the paper prints 5.18 and 3.61
    memory = costs.training_memory(costs.LLAMA_70B, costs.design("SOLO 4/2"))
    assert memory.total == pytest.approx((4 + 0.84375) * costs.LLAMA_70B.parameters)


def test_the_bill_s_line_of_the_optimizer_falls_and_no_other():
    ((before, after),) = bill.moved("lowbit")
    assert before.key == "optimizer" and after.value == before.value * 0.84375 / 8


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: costs.design("SOLO"), "name must be one of AdamW, float32"),
        (lambda: costs.moment_bytes(5), "bits must be one of 2, 3, 4, 8; it is 5"),
        (lambda: costs.moment_bytes(4, 0), "block must be a whole number of at least 1"),
        (lambda: costs.tensor_bytes(-1, 4), "count must be a whole number of at least 0"),
        (lambda: costs.step_bytes(costs.DESIGNS[0], 3), "element must be 2 or 4 bytes; it is 3"),
    ],
)
def test_bad_input_says_what_was_given_and_what_is_wanted(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
