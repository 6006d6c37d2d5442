"""From a wrong result to the likely mistake: what the checks of the primer's kernel exercises share."""

from dataclasses import dataclass, field

import torch

from effattn_core.primer.watch import far_rows, strayed, watch
from kernels import runtime

NO_KERNEL = "No Triton kernel was launched: write one, and launch it with grid[…](…)."
TWICE = "does tl.program_id enter the places that are stored to, and is the store masked on each axis?"
MASK = "each load and store needs the mask that says where its tensor ends, one for each axis that it moves along."
STRIDES = (
    "the view's elements do not lie side by side: multiply each index by its own stride, .stride(0) or .stride(1)."
)
WIDE = (
    "its row begins 2^31 elements after the first, and the offset came out as {offset:,}: 32 bits overflowed. Take "
    "tl.program_id(0).to(tl.int64) before you multiply by the stride."
)


@dataclass(frozen=True)
class Case:
    """One call of the reader's launcher.

    what: the case in words; arguments: of the call, the last one is the block size; wanted: the right result.
    hint: said of a wrong result that nothing else explains. mistakes: (the result that it would give, sentence).
    nan: said if a result is computed and not finite. stray: said if a lane leaves its tensor.
    tail: said if a row is written only in its first block. tiled: the grid has an axis for each axis of it.
    """

    what: str
    arguments: tuple
    wanted: torch.Tensor
    hint: str
    mistakes: list = field(default_factory=list)
    nan: str = ""
    tiled: bool = False
    stray: str = MASK
    tail: str = "only the first block is written: a grid of triton.cdiv(size, block) programs, each at its own places."


def judge(function, cases):
    """The first sentence about what is wrong with a launcher over the cases, None if there is nothing."""
    for case in cases:
        found = watch(lambda case=case: function(*case.arguments))
        reason = NO_KERNEL if found.launches == 0 else _reason(case, found)
        if reason:
            return f"For {case.what}: {reason}"
    return None


def judge_far(function, rows, columns, wanted, *rest):
    """A sentence if offsets are taken in 32 bits: `wanted(source)` is the result for rows 2^30 elements apart."""
    source = far_rows(rows, columns) if runtime.mode == "interpreter" else None
    if source is None:
        return None
    source.copy_(random(rows, columns))
    got, offset = strayed(lambda: function(source, *rest))
    if offset is not None:
        return f"For a tensor of more than 2^31 elements: {WIDE.format(offset=offset)}"
    return (
        None
        if close(got, wanted(source))
        else "For rows that lie far apart: the result differs from that of near ones."
    )


def random(*shape):
    """Normal numbers, the same in every run, where kernels run."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(runtime.device())


def close(got, wanted):
    """Whether a result is as near as float32 sums in another order come, float16 as near as its last digits."""
    within = 2e-3 if got.dtype == torch.float16 else 1e-4
    return got.shape == wanted.shape and torch.allclose(got.float(), wanted.float(), rtol=within, atol=within)


def _reason(case, found):
    got, wanted = found.result, case.wanted
    if not isinstance(got, torch.Tensor) or got.shape != wanted.shape:
        shown = tuple(getattr(got, "shape", [type(got).__name__]))
        return f"the result must be a tensor of shape {tuple(wanted.shape)}; got {shown}."
    if not close(got, wanted):
        for mistaken, sentence in case.mistakes:
            if close(got, mistaken):
                return sentence
        if case.nan and not got.isfinite().all():
            return case.nan
        if got.isnan().any():
            return _unwritten(got.isnan(), case)
    for finding in found.findings:
        if finding.kind == "outside":
            verb = "reads" if finding.access == "load" else "writes"
            where = f"program {finding.program} {verb} outside {finding.tensor}, {finding.lanes} lanes in all"
            return f"{where}: {case.stray}"
    for finding in found.findings:
        place = f"{finding.tensor}{list(finding.element)}"
        return f"programs {finding.other} and {finding.program} meet at {place}: {TWICE}"
    if close(got, wanted):
        return None
    at = (got - wanted).abs().nan_to_num(torch.inf).flatten().argmax().item()
    place = [index.item() for index in torch.unravel_index(torch.tensor(at), wanted.shape)]
    return f"element {place} is {got.flatten()[at]:.4g} and should be {wanted.flatten()[at]:.4g}: {case.hint}"


def _unwritten(missing, case):
    """A sentence about elements that stayed as torch.empty made them. missing: bool, of the result's shape."""
    table = ~missing.reshape(-1, missing.shape[-1])
    block, (rows, columns) = case.arguments[-1], table.shape
    down, across = table.any(1).sum().item(), table.any(0).sum().item()
    covered = [-(-size // block) * block for size in (rows, columns)]
    if case.tiled and (down, across) == (min(rows, covered[1]), min(columns, covered[0])) != (rows, columns):
        return (
            "the two axes of the grid are swapped: it counts tiles of columns where program_id counts tiles of rows, "
            f"so what lies past row {down} or column {across} is never written."
        )
    if across == columns // block * block or down == rows // block * block != 0 and down < rows:
        return "the last, partial block is never written: the grid must round up, triton.cdiv(size, block)."
    if across == block:
        return case.tail
    return (
        f"{missing.sum().item()} elements are never written, the first at {missing.nonzero()[0].tolist()}: is the "
        "block size that the launcher is given used for the grid and for the kernel?"
    )
