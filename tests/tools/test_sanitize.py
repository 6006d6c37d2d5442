"""Every kernel of the book is safe over ragged shapes, in any order of its programs; spoiled kernels are named."""

import importlib
import importlib.util
import pkgutil
from pathlib import Path

import pytest
import torch
import triton
import triton.language as tl

import kernels
from kernels import runtime
from kernels.sanitize import sanitize, scattered, shuffled

pytestmark = pytest.mark.skipif(runtime.mode != "interpreter", reason="kernels are not interpreted here")


def modules():
    """Every module of the kernels package by its dotted name after `kernels.`."""
    names = (found.name for found in pkgutil.walk_packages(kernels.__path__, "kernels."))
    return {name.removeprefix("kernels."): importlib.import_module(name) for name in names}


MODULES = modules()
TOPICS = [name for name, each in MODULES.items() if "." not in name and hasattr(each, "example_launches")]


def kernels_in(names):
    """Names of the kernels that these modules define."""
    found = (value for name in names for value in vars(MODULES[name]).values() if hasattr(value, "fn"))
    here = {f"kernels.{name}" for name in names}
    return {each.fn.__name__ for each in found if each.fn.__name__.endswith("_kernel") and each.fn.__module__ in here}


def ragged_launches(topic):
    module = MODULES[topic]
    assert hasattr(module, "ragged_launches"), (
        f"kernels.{topic} has example_launches but no ragged_launches(dtype, device) for the sanitizer to judge."
    )
    return module.ragged_launches


def results_of(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


@pytest.mark.parametrize("topic", TOPICS)
def test_every_kernel_stays_in_its_tensors_and_its_programs_in_any_order_give_the_same(topic, nan_filled):
    launched, outputs = set(), []
    for what, call in ragged_launches(topic)(torch.float16):
        findings = sanitize(lambda call=call: outputs.append(results_of(call())))
        assert not findings, f"{what}:\n{findings}"
        launched |= set(findings.launches)
        with shuffled(1):
            for first, second in zip(outputs.pop(), results_of(call()), strict=True):
                assert torch.equal(first, second), what
    own = [name for name in MODULES if name.split(".")[0] == topic]
    assert kernels_in(own) <= launched, f"ragged_launches of kernels.{topic} never launches some of its kernels"


@pytest.mark.parametrize("topic", TOPICS)
def test_the_tiles_of_float32_stay_in_their_tensors_too(topic):
    for what, call in ragged_launches(topic)(torch.float32):
        findings = sanitize(call)
        assert not findings, f"{what}:\n{findings}"


def test_kernels_of_shared_files_are_judged_where_a_topic_launches_them():
    waiting = kernels_in([name for name in MODULES if name.split(".")[0] not in TOPICS])
    for topic in TOPICS:
        for _, call in ragged_launches(topic)(torch.float16):
            if not waiting:
                return
            waiting -= set(sanitize(call).launches)
    assert not waiting, f"no topic's ragged_launches launches {waiting}"


def spoiled(name, right, wrong, folder):
    """A copy of a module of the kernels package with one piece of its text replaced."""
    text = Path(MODULES[name].__file__).read_text()
    assert text.count(right) >= 1, f"kernels.{name} no longer holds {right!r}: spoil something else"
    path = folder / "spoiled.py"
    path.write_text(text.replace(right, wrong, 1))
    specification = importlib.util.spec_from_file_location("spoiled", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_a_forgotten_mask_is_named(tmp_path):
    module = spoiled("primer", "source_pointer + places, mask=inside, other=0.0)", "source_pointer + places)", tmp_path)
    (finding,) = sanitize(lambda: module.scale(torch.ones(4, 5), 2.0, block=8))
    assert finding[:5] == ("scale_kernel", "outside", "load", "source_pointer", (4, 5))
    assert finding.program == (2, 0, 0) and finding.offset == 20 and finding.lanes == 4
    assert finding.code == "source = tl.load(source_pointer + places)"
    assert str(finding).startswith(
        "scale_kernel, program (2, 0, 0), 4 lanes in all\n"
        "    reads outside source_pointer of shape (4, 5): 20 elements after its first\n    spoiled.py:"
    )
    assert str(finding).endswith(": source = tl.load(source_pointer + places)")


def test_two_programs_that_write_one_element_are_named(tmp_path):
    module = spoiled("primer", "target_pointer + row, tl.max", "target_pointer + row // 2, tl.max", tmp_path)
    (finding,) = sanitize(lambda: module.row_maximum(torch.ones(6, 5)))
    assert finding[:4] == ("row_maximum_kernel", "written twice", "store", "target_pointer")
    assert (finding.program, finding.other, finding.element) == ((1, 0, 0), (0, 0, 0), (0,)) and finding.lanes == 3
    assert "writes target_pointer[0], which program (0, 0, 0) writes" in str(finding)


@pytest.mark.parametrize(("place", "sentence"), [
    ("size - 1 - places", "writes target_pointer[1, 2], which program (0, 0, 0) reads"),  # the reader comes first …
    ("places // 2", "reads target_pointer[0, 4], which program (0, 0, 0) writes"),  # … or second
])  # fmt: skip
def test_a_program_that_reads_what_another_writes_is_named(place, sentence, tmp_path, nan_filled):
    right = "source_pointer + places, mask"
    module = spoiled("primer", right, f"target_pointer + {place}, mask", tmp_path)
    findings = sanitize(lambda: module.scale(torch.ones(2, 6), 2.0, block=8))
    assert {each.kind for each in findings} == {"read and written"}
    assert any(sentence in str(each) for each in findings), str(findings)


def test_a_line_of_a_function_that_a_kernel_calls_is_named(tmp_path):
    loaded = "key = tl.load(key_rows, mask=inside[:, None], other=0.0)"
    module = spoiled("attention.forward", loaded, "key = tl.load(key_rows)", tmp_path)
    query = scattered(1, 1, 40, 32)
    (finding,) = sanitize(lambda: module.launch_forward(query, query, query, True, None, 0, 0.2))
    assert (finding.kernel, finding.tensor, finding.code) == (
        "attention_forward_kernel", "key_pointer", "key = tl.load(key_rows)",
    )  # fmt: skip


@triton.jit
def copy_kernel(source_pointer, target_pointer, shift, BLOCK: tl.constexpr):
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(target_pointer + places + shift, tl.load(source_pointer + places))


@triton.jit
def sum_kernel(source_pointer, total_pointer, BLOCK: tl.constexpr):
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(total_pointer, tl.sum(tl.load(source_pointer + places), 0))


@triton.jit
def last_kernel(order_pointer, count_pointer):
    row = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
    tl.store(order_pointer, row)
    tl.store(count_pointer + row, 1 + tl.load(count_pointer + row))


def test_a_lane_that_lands_in_a_neighbour_or_between_elements_is_outside_and_does_no_harm():
    both = torch.zeros(2, 16)
    findings = sanitize(lambda: copy_kernel[(1,)](torch.ones(16), both[0], 8, BLOCK=16))
    assert [(each.tensor, each.offset, each.lanes) for each in findings] == [("target_pointer", 16, 8)]
    assert both[0].tolist() == [0] * 8 + [1] * 8 and not both[1].any()
    findings = sanitize(lambda: copy_kernel[(1,)](both[0, ::2], torch.zeros(16), 0, BLOCK=16))
    assert [(each.tensor, each.offset, each.lanes) for each in findings] == [("source_pointer", 1, 8)]
    findings = sanitize(lambda: copy_kernel[(1,)](torch.ones(16), both[1], -1, BLOCK=16))
    assert [(each.tensor, each.offset) for each in findings] == [("target_pointer", -1)]


def test_one_tensor_under_two_names_and_two_views_of_one_storage_meet():
    numbers = torch.arange(33.0)
    findings = sanitize(lambda: copy_kernel[(4,)](numbers[:32], numbers[1:], 0, BLOCK=8))
    assert {each.kind for each in findings} == {"read and written"}
    assert {(each.tensor, each.element) for each in findings} >= {("source_pointer", (8,))}
    assert not sanitize(lambda: copy_kernel[(4,)](numbers, numbers, 0, BLOCK=8))  # each program its own elements


def test_an_atomic_sum_is_named_because_its_order_is_open():
    (finding,) = sanitize(lambda: sum_kernel[(4,)](torch.ones(32), torch.zeros(1), BLOCK=8))
    assert finding.kind == "written twice" and finding.tensor == "total_pointer" and finding.lanes == 3


def test_each_launch_of_a_sequence_is_judged_by_itself():
    first, second = torch.ones(32), torch.zeros(32)

    def there_and_back():
        copy_kernel[(4,)](first, second, 0, BLOCK=8)
        copy_kernel[(2,)](second, first, 0, BLOCK=16)

    findings = sanitize(there_and_back)
    assert not findings and findings.launches == {"copy_kernel": 2} and findings.lanes == 128
    assert str(findings).startswith("2 launches of 1 kernel, 128 lanes: none outside its tensor")


def test_shuffled_programs_run_once_each_in_an_order_drawn_from_the_seed():
    def last(*seed):
        order, count = torch.zeros(1, dtype=torch.int32), torch.zeros(12, dtype=torch.int32)
        if seed:
            with shuffled(*seed):
                last_kernel[(3, 4)](order, count)
        else:
            last_kernel[(3, 4)](order, count)
        assert count.tolist() == [1] * 12
        return order.item()

    assert last() == 11 and last(5) == last(5)
    assert len({last(seed) for seed in range(5)}) > 1


def test_what_cannot_be_judged_is_refused_in_a_sentence(monkeypatch):
    with pytest.raises(Exception, match="cast to another width is not judged"):
        sanitize(lambda: cast_kernel[(1,)](torch.ones(4)))
    monkeypatch.setattr("kernels.trace.GRID_METHODS", ("set_everything",))
    with pytest.raises(RuntimeError, match="has no set_everything"), shuffled():
        pass
    monkeypatch.setattr(runtime, "mode", "gpu")
    with pytest.raises(RuntimeError, match="only interpreted kernels can be sanitized"):
        sanitize(lambda: None)


@triton.jit
def cast_kernel(source_pointer):
    tl.load(source_pointer.to(tl.pointer_type(tl.int64), bitcast=True))
