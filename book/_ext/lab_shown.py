"""The kernels that a chapter shows outside exercises: the calls that they are tried with, by the page and by the tests.

LAUNCHES is the table of both: the editor below such a kernel (lab.py) launches it with these arguments, and compares
with what the kernel as shown gives; tests/page/test_kernels.py holds the page's Triton against Triton's interpreter.
"""

import ast
import importlib.util
import sys
import tempfile
from pathlib import Path

import lab_vendor
import numpy as np
import torch

from effattn_core.judging import Case
from kernels import runtime

IMPORTS = "import math\n\nimport torch\nimport triton\nimport triton.language as tl\n\n\n"
AS_SHOWN = "where the chapter shows a mistake, mending it differs. Reset brings back the kernel as shown."


FAULTY = "primer.careless_kernel", "primer.forgetful_kernel"  # shown for a race, and for lanes astray


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def share(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def whole(*shape):
    """Small whole numbers, whose sums are exact: for a kernel that takes the bits of a score."""
    return (2 * normal(*shape)).round()


def blank(*shape, dtype=torch.float32):
    return torch.full(shape, float("nan") if dtype.is_floating_point else 7, dtype=dtype)


def order(size, dtype=torch.int64):
    return torch.randperm(size, generator=torch.Generator().manual_seed(size)).to(dtype)


def attention(rows, keys, dim):
    return normal(rows, dim), normal(keys, dim) / 2, normal(keys, dim), blank(rows, dim)


# page.kernel: (grid, arguments) of each launch.
LAUNCHES = {
    "primer.triple_kernel": [((3,), (normal(20), blank(20), 20, 8)), ((1,), (normal(5), blank(5), 5, 8))],
    "primer.peak_kernel": [((5,), (-share(5, 33), blank(5), 33, other, 64)) for other in (float("-inf"), 0.0)],
    "primer.walk_kernel": [((4,), (scale * normal(4, 100), blank(4), 100, 32)) for scale in (3, 300)],
    "primer.plain_product_kernel": [((2, 2), (normal(32, 32), normal(32, 32) + 1, blank(32, 32), 32, 16))],
    "primer.offset_kernel": [((3,), (blank(2, 3, dtype=torch.int64), 2**30))],
    "primer.careless_kernel": [((4,), (normal(32), torch.zeros(1), 8))],
    "primer.atomic_kernel": [((4,), (whole(4), torch.zeros(1)))],
    "primer.forgetful_kernel": [((3,), (normal(32)[:20], blank(20), 20, 8))],
    "attention.flash": [
        ((time // 16,), (*attention(time, time, 16), time, scale, 16, 16))
        for time, scale in ((48, 0.25), (48, 25.0), (16, 0.25))
    ],
    "delta.delta_walk": [
        ((2,), (*attention(9, 9, 16)[:3], share(9), normal(16, 16), blank(9, 16), 9, 16, 16, 8))
    ],
    "recurrences.gated_kernel": [
        ((1,), (normal(48, 16), normal(48, 16) / 4, normal(48, 16), -share(48), blank(48, 16), 3, 16, 16))
    ],
    "retention.chunks_kernel": [
        ((1,), (normal(48, 16), normal(48, 16) / 4, normal(48, 16), blank(48, 16), -0.1, 3, 16, 16))
    ],
    "universal.step": [
        ((3,), (normal(3, 16), normal(3, 16), normal(3, 8), share(3), normal(2, 3, 16, 8), blank(3, 8), 1, 16, 8))
    ],
    "yoco.look": [((2,), (normal(8, 16), normal(64, 16) / 2, normal(64, 16), blank(8, 16), 32, 0.25, 4, 16, 16))],
    "channels.thin": [
        (
            (2,),
            (
                normal(2, 16), normal(64, 4), normal(64, 8), order(16)[:8].contiguous(), blank(2, 8), blank(2),
                32, 0.25, 16, 4, 8, 16,
            ),
        )
    ],
    "focus.behind": [
        ((2,), (normal(32, 16), normal(48, 16) / 2, normal(48, 16), blank(32, 16), 16, 0.25, 16, 16)),
    ],
    "indexing.index_kernel": [
        ((1,), (whole(4, 16), whole(32, 16), whole(4), blank(8, dtype=torch.int64), 32, 4, 16, 8)),
    ],
    "rectified.read_list": [
        ((1,), (normal(4, 16), normal(64, 16) / 2, normal(64, 16), order(4), blank(4, 16), 3, 0.25, 4, 16, 16)),
    ],
    "routing.add_rows": [((3,), (normal(6, 32), share(3, 2), order(6).view(3, 2), blank(3, 32), 32, 2))],
    "speculation.best_words": [
        (
            (2,),
            (
                normal(16), normal(32, 16), order(32), blank(2, 3), blank(2, 3, dtype=torch.int64), blank(2),
                16, 16, 3,
            ),
        )
    ],
    "autoencoders.tangent": [((2,), (normal(8, 32), normal(8, 32).flip(0), blank(8, 32), 32, 4))],
    "latents.block_of_head": [
        (
            (2,),
            (
                normal(32, 16), normal(32, 48) / 4, normal(32, 16).flip(0) / 4, normal(32, 16).flip(1) / 4,
                normal(16, 32) / 4,
                blank(32, 16), 16, 32,
            ),
        )
    ],
    "graphs.hop": [
        (
            (3,),
            (
                normal(3, 16), normal(3, 16), blank(3, 16), torch.tensor([0, 2, 2, 5]), torch.tensor([1, 2, 0, 1, 2]),
                share(5), 0.9, 16,
            ),
        )
    ],
    "lowbit.small_step": [
        ((2,), (normal(64), normal(64), order(256, torch.uint8)[:16].contiguous(), share(2), 0.1, 0.2, 32))
    ],
    "discrete.both": [
        (
            (2,),
            (
                (share(16, 32) > 0.5).to(torch.uint8), 0.9 * share(32, 32), blank(16, 32),
                blank(16, 32, dtype=torch.uint8), 32, 32, 16,
            ),
        )
    ],
}  # fmt: skip


def cases(name, text):
    """[Case] of the kernel "page.kernel", whose cell's functions are `text`: its LAUNCHES, and what it gives as shown.

    Raises KeyError for a kernel that has no launches.
    """
    kernel = name.partition(".")[2]
    function = next(node for node in ast.parse(text).body if getattr(node, "name", "") == kernel)
    names = [each.arg for each in function.args.args]
    return [_case(names, *launch, _after(text, kernel, *launch)) for launch in LAUNCHES[name]]


def _case(names, grid, arguments, after):
    """names: of the arguments; after: they, as the kernel as shown leaves them."""
    sizes = [f"{name} = {each}" for name, each in zip(names, arguments, strict=True) if not torch.is_tensor(each)]
    pairs = enumerate(zip(arguments, after, strict=True))
    written = tuple(number for number, (there, here) in pairs if torch.is_tensor(there) and not _same(there, here))
    what = f"a grid of {' × '.join(map(str, grid))}" + " with " * bool(sizes) + ", ".join(sizes)
    wanted = tuple(after[number] for number in written)
    return Case(
        what, tuple(arguments), wanted, written=written, grid=grid, hint=AS_SHOWN, asked="the kernel as shown gives"
    )


def _same(there, here):
    """Whether two tensors hold the same; what nobody has written is nan in both."""
    return torch.equal(there, here) or bool(((there == here) | (there != there) & (here != here)).all())


def _after(text, kernel, grid, arguments):
    """The arguments as the kernel leaves them: by Triton's interpreter, or else by the page's Triton."""
    if runtime.mode == "interpreter":
        copied = [each.clone() if torch.is_tensor(each) else each for each in arguments]
        with tempfile.TemporaryDirectory() as folder, np.errstate(over="ignore"):  # one is shown for its overflow
            in_triton(IMPORTS + text, kernel, Path(folder))[kernel][grid](*copied)
        return copied
    sys.path.append(str(lab_vendor.BOOK))
    import _page

    given = [_page.tensor(each.flatten().tolist(), tuple(each.shape), str(each.dtype).partition(".")[2])
             if torch.is_tensor(each) else each for each in arguments]  # fmt: skip
    _page.load_source(text)[kernel][grid](*given)
    return [torch.tensor(there.tolist(), dtype=here.dtype) if torch.is_tensor(here) else here
            for there, here in zip(given, arguments, strict=True)]  # fmt: skip


def in_triton(text, name, folder):
    """The names that a text defines, with Triton itself and PyTorch. name: of the file that is made in `folder`."""
    path = folder / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return vars(module)
