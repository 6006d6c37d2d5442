"""What a trained model cost where it was measured, beside what the formulas say of it."""

from effattn_core import costs


def against_formulas(rows):
    """A table row per formula of `effattn_core.costs`, from the rows of the measurement "pretrained/cpu" or "/gpu".

    "by formula": bytes kept, or the least time: operations, or bytes read, over the rate that the same process
    measured. "this book" and "transformers": what they kept, or the median time. "times the formula": this book's
    measured value over the formula's.
    """
    rate = {
        name: max(row["median"] for row in rows if row["what"] == "rate" and row["name"] == name)
        for name in ("copying", "multiplying")
    }
    for row in rows:
        if row["what"] == "bytes":
            words = "weights" if row["name"] == "weights" else f"cache of {row['tokens']:,} tokens"
            yield _row(words, row["formula"], {"this book": row["bytes"]}, costs.format_bytes)
    for what, words, by in (("prompt", "prompt of {:,} tokens", "multiplying"), ("token", "next token", "copying")):
        timed = {row["name"]: row for row in rows if row["what"] == what}
        ours = timed["this book"]
        seconds = {name: row["median"] for name, row in timed.items()}
        yield _row(words.format(ours["tokens"]), ours["formula"] / rate[by], seconds, _seconds)


def _row(what, formula, found, words):
    shown = {name: words(value) for name, value in found.items()}
    return {"what": what, "by formula": words(formula), "this book": shown["this book"],
            "transformers": shown.get("transformers"), "times the formula": found["this book"] / formula}  # fmt: skip


def _seconds(value):
    return f"{value:.3g} s" if value >= 1 else f"{1e3 * value:.3g} ms"


def recorded_facts(rows):
    """name -> words, for the sentences of the page: rates, and speeds alone and beside the peer."""
    first = {(row["what"], row.get("name")): row for row in reversed(rows)}
    prompt, token = (
        {name: first[what, name] for name in ("this book", "transformers")} for what in ("prompt", "token")
    )
    tokens = prompt["this book"]["tokens"]
    return {
        "smollm2-read": f"{tokens / prompt['this book']['median']:,.0f}",
        "smollm2-written": f"{1 / token['this book']['median']:.1f}",
        "smollm2-prompt-ratio": f"{prompt['this book']['median'] / prompt['transformers']['median']:.2f}",
        "smollm2-token-ratio": f"{token['this book']['median'] / token['transformers']['median']:.2f}",
        "smollm2-copying": f"{first['rate', 'copying']['median'] / 1e9:.1f} GB/s",
        "smollm2-multiplying": f"{first['rate', 'multiplying']['median'] / 1e9:.0f} GFLOP/s",
        "smollm2-flops": costs.format_flops(prompt["this book"]["formula"]),
        "smollm2-moved": costs.format_bytes(token["this book"]["formula"]),
        "smollm2-loading": f"{first['load', 'this book']['seconds']:.1f} s",
    }
