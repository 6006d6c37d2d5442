"""What test_pyodide.py asks of Pyodide and of the Python here: run by both, beside the packed page, and by no test."""

import json
import math
import sys
import time

import _page
import lab_worker


def answered(asked):
    """JSON of {version, computed, judged} for JSON of {texts, floats, whole, requests}."""
    asked = json.loads(asked)
    floats, whole = [float(each) for each in asked["floats"]], asked["whole"]
    return json.dumps(
        {
            "version": list(sys.version_info[:2]),
            "computed": [computed(text, floats, whole) for text in asked["texts"]],
            "judged": {name: judged(request) for name, request in asked["requests"].items()},
        }
    )


def computed(text, floats, whole):
    """The numbers that a kernel of test_expressions leaves, as their bytes, or what it raises."""
    drawn = [
        (floats, "float32", 5),
        (floats[:-1], "float16", 7),
        (whole, "int32", 3),
        ([0, 1, 3, 200, 255], "uint8", 2),
    ]
    given = [
        _page.tensor([numbers[place * step % len(numbers)] for place in range(32)], (4, 8), dtype)
        for numbers, dtype, step in drawn
    ]
    results = [_page.tensor([0.0] * 64, (2, 4, 8), "float32"), _page.tensor([0] * 64, (2, 4, 8), "int64")]
    try:
        _page.load_source(text)["kernel"][(2,)](*given, *results)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    same = [[math.nan if value != value else value for value in each.storage.values] for each in results]
    return [each.dtype.pack(values).hex() for each, values in zip(results, same, strict=True)]


def judged(request):
    """(seconds of a warm Run, seconds of a Check, the best of three each, and what is wrong or None)."""
    request = json.dumps(request)
    times, answer = [], lab_worker.run(request)
    for call in (lab_worker.run, lab_worker.check):
        took = []
        for _ in range(3):
            start = time.perf_counter()
            answer = call(request)
            took.append(time.perf_counter() - start)
        times.append(min(took))
    return *times, json.loads(answer)["reason"]
