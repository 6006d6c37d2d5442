"""The hidden cases of the machine chapter's exercises."""

from effattn_core import costs
from effattn_core.exercises import compare_number, exercise
from effattn_core.machine.roofline import decode_attention, linear, ridge
from kernels.inspect import occupancy

H100 = costs.HARDWARE["H100 SXM"]
CONTEXT = 8192


@exercise("machine.linear_intensity", level="pencil")
def linear_intensity(answer):
    exact, width = linear(16).intensity, 4096
    mistakes = [
        (exact * 2, "That counts numbers, not bytes: bfloat16 has two bytes per number."),
        (exact / 2, "A multiply and an add are two operations."),
        (1.0, "That is the intensity for one token: the weight is read once and serves all 16."),
        (2 * 16 * width**2 / 2 / (16 * width**2), "The weight is read once for all 16 tokens, not once per token."),
    ]
    return compare_number(answer, exact, mistakes, within=0.02)


@exercise("machine.decode_milliseconds", level="pencil")
def decode_milliseconds(answer):
    model, bandwidth = costs.LLAMA_8B, H100.bandwidth
    exact = 1e3 * costs.decode_bytes(model, CONTEXT) / bandwidth
    cache = costs.cache_bytes(model, CONTEXT)
    mistakes = [
        (exact / 1e3, "That is in seconds; milliseconds are asked."),
        (1e3 * cache / bandwidth, "That reads the cache alone; the weights are read for every token, too."),
        (exact - 1e3 * cache / bandwidth, "That reads the weights alone; the cache is read for every token, too."),
        (1e3 * costs.decode_flops(model, CONTEXT) / H100.peak("bfloat16"),
         "That is the time of the arithmetic; the bytes take far longer, and the longer of the two decides."),
    ]  # fmt: skip
    return compare_number(answer, exact, mistakes, within=0.03)


@exercise("machine.resident_warps", level="pencil")
def resident_warps(answer):
    share, _ = occupancy(168, 64 << 10, 8, 90)
    mistakes = [
        (64, "That is the most a multiprocessor can hold; this kernel's registers do not leave room for so many."),
        (24, "That is what shared memory allows; the registers allow fewer, and the smallest number decides."),
        (12, "A program is admitted whole: eight warps at a time, not single warps."),
        (1, "That is the number of programs; each has eight warps."),
        (share, "That is the occupancy, a share; the number of warps is asked."),
    ]
    return compare_number(answer, share * 64, mistakes, within=0.001)


@exercise("machine.least_seconds", level="code")
def least_seconds(function):
    for flops, moved, peak, bandwidth in ((2e9, 1e9, 1e12, 1e11), (5e12, 1e9, 1e12, 1e11), (0, 1e9, 1e12, 1e11)):
        got = function(flops, moved, peak, bandwidth)
        if not isinstance(got, tuple) or len(got) != 2:
            return f"Return a pair (seconds, limit); got {got!r}."
        seconds, limit = got
        computing, moving = flops / peak, moved / bandwidth
        if abs(seconds - computing - moving) < 1e-12 and min(computing, moving) > 0:
            return "The two times are added; a GPU moves and computes at once, so the longer one decides."
        if abs(seconds - max(computing, moving)) > 1e-12:
            return (f"For {flops:g} operations and {moved:g} bytes the time is {max(computing, moving):g} s; "
                    f"got {seconds:g}.")  # fmt: skip
        if limit != ("computing" if computing > moving else "memory"):
            return f'At {seconds:g} s the limit is "memory" or "computing": whichever takes longer. Got {limit!r}.'
    return None


@exercise("machine.tokens_at_ridge", level="code")
def tokens_at_ridge(function):
    cases = ((4096, 4096, H100, 2), (1024, 1024, H100, 2), (4096, 14336, costs.HARDWARE["A100 80GB SXM"], 2))
    for inputs, outputs, hardware, element in cases:
        point = ridge(hardware)
        got = function(inputs, outputs, element, point)
        wanted = next(n for n in range(1, 10**6) if linear(n, inputs, outputs, element=element).intensity >= point)
        weight_only = -(-point * element // 2)
        if got == wanted:
            continue
        if abs(got - weight_only) <= 1 and abs(got - wanted) > 1:
            return (f"For {inputs} × {outputs} you found {got}: right if only the weight is moved. Count the rows that "
                    "go in and come out, too: they grow with the tokens.")  # fmt: skip
        if abs(got - wanted) <= 1:
            return f"For {inputs} × {outputs} the smallest whole number of tokens is {wanted}; got {got!r}: round up."
        return f"For {inputs} × {outputs} at a ridge of {point:.4g} the answer is {wanted}; got {got!r}."
    return None


@exercise("machine.group_at_ridge", level="pencil")
def group_at_ridge(answer):
    exact = ridge(H100)  # 2 G / b = ridge with b = 2
    per_group = decode_attention(1, heads=4, key_value_heads=1).intensity / 4
    mistakes = [
        (exact / 2, "That takes b = 1; bfloat16 has two bytes per number, which cancel the two operations."),
        (exact * 2, "A multiply and an add: two operations per number and query head."),
    ]
    return compare_number(answer, exact / per_group, mistakes, within=0.02)
