"""The numbers that the machine chapter's sentences quote, in words: computed, so that no sentence types one."""

from effattn_core import costs
from effattn_core.machine import levels, roofline

CONTEXT = 8192  # tokens of the text that the chapter reads and writes


def facts(model=costs.LLAMA_8B, hardware=costs.HARDWARE["H100 SXM"], context=CONTEXT):
    """name -> words: a model that reads and writes a text on a GPU, what waits for what, and the laptop's ridge."""
    return {**_steps(model, hardware, context), **_chip(hardware), **_layers(model, hardware, context)}


def _steps(model, hardware, context):
    writing, reading = roofline.decode(model, context), roofline.prefill(model, context)
    peak = hardware.peak("bfloat16")
    computing, moving = writing.flops / peak, writing.moved / hardware.bandwidth
    return {
        "flops": costs.format_flops(writing.flops),
        "moved": costs.format_bytes(writing.moved),
        "computing": f"{1e6 * computing:.1f} µs",
        "moving": f"{1e3 * moving:.1f} ms",
        "times": f"{moving / computing:.0f}",
        "prefill-time": f"{1e3 * reading.flops / peak:.0f} ms",
        "prefill-weights": costs.format_flops(2 * model.matrix_parameters * context),
        "prefill-attention": costs.format_flops(costs.attention_flops(model, context)),
        "prefill-each": f"{1e6 * reading.flops / peak / context:.0f} µs",
        "matrices": f"{2 * model.matrix_parameters:,}",
        "head": f"{costs.head_bytes(model):,}",
        "each": f"{costs.cache_bytes(model, 1):,}",
    }


def _chip(hardware):
    far = levels.H100[-1]
    wait = far.cycles / levels.CLOCK
    under_way = hardware.bandwidth * wait  # bytes that must be on their way at any moment
    return {
        "peak": f"{hardware.peak('bfloat16') / 1e12:.0f} TFLOP/s",
        "vector-peak": f"{hardware.peak('float32') / 1e12:.0f} TFLOP/s",
        "bandwidth": f"{hardware.bandwidth / 1e12:.2f} TB/s",
        "multiprocessors": f"{levels.MULTIPROCESSORS}",
        "cycles": f"{far.cycles:.0f}",
        "wait": f"{1e9 * wait:.0f} ns",
        "under-way": f"{under_way / 1e6:.2f} MB",
        "under-way-each": f"{under_way / levels.MULTIPROCESSORS / 1e3:.1f} kB",
        "asked": f"{64 * 32 * 4 / 1e3:.1f} kB",
    }


def _layers(model, hardware, context):
    point = roofline.ridge(hardware)
    rows = next(count for count in range(1, 1 << 20) if roofline.linear(count).intensity >= point)
    group = roofline.decode_attention(1, heads=model.heads, key_value_heads=model.key_value_heads)
    return {
        "ridge": f"{point:.0f}",
        "laptop-ridge": f"{roofline.ridge(levels.LAPTOP, 'float32'):.0f}",
        "batch": f"{rows}",
        "group": f"{group.intensity:.0f}",
        "limit": f"{roofline.decode(model, context, texts=10**6).intensity:.0f}",
    }
