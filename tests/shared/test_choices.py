"""Which method, when: every method of the book is there, priced by the topics' formulas, and hidden for a reason."""

import itertools
import operator
import re

import pytest
from support.house import MEASUREMENTS, ROOT, chapters
from support.legible import check_states

import kernels
from effattn_core import bill, choices, costs
from effattn_core.attention.choice import SINKS, WINDOW
from effattn_core.choices import Found, Method, Reader, Recall, growth, named, reasons
from effattn_core.indexing.costs import index_bytes
from effattn_core.recurrences.costs import hybrid_kept
from effattn_core.retention.costs import HEADS, KEY_DIM, VALUE_DIM, state_bytes
from effattn_core.yoco.costs import kept
from figures import choices as draw

METHODS = choices.methods()
NAMES = [method.name for method in METHODS]
CONTEXTS = (4096, bill.CONTEXT, 1 << 20)
PAGE = (ROOT / "book" / "8-whole" / "which.md").read_text(encoding="utf-8")
READERS = [
    Reader(context, memory, training, recall, task)
    for context, memory, training, recall, task in itertools.product(
        draw.CONTEXTS, [None, *draw.MEMORIES], [None, *choices.TRAINING], [False, True], [None, *choices.TASKS]
    )
]


def left(**has):
    return [method.name for method in METHODS if not reasons(method, Reader(**has))]


def test_every_topic_that_lowers_a_line_of_the_bill_has_a_method_and_so_has_every_chapter():
    lowering = {each.topic for each in bill.stages() if any(bill.lowers(each, key) for key in bill.before(each.topic))}
    assert len(lowering) > 10 and lowering <= {method.topic for method in METHODS}
    assert {name for name in chapters() if re.match("[1-6]-", name)} == {method.page for method in METHODS}
    assert len(NAMES) == len(set(NAMES)) and len([method for method in METHODS if method.baseline]) == 1


def test_methods_stand_in_the_order_of_the_book():
    places = [chapters().index(method.page) for method in METHODS]
    assert places == sorted(places)


@pytest.mark.parametrize("topic", [each.topic for each in bill.stages()])
def test_a_method_of_a_stage_costs_what_the_bill_says(topic):
    own = [method for method in METHODS if method.topic == topic]
    for context in CONTEXTS:
        wanted = bill.lines(topic, context)
        assert any(method.lines(context) == wanted for method in own)


def test_a_window_with_sinks_keeps_and_computes_what_the_formula_of_attention_says():
    window = named("Window and sinks").lines(bill.CONTEXT)
    assert window["cache"].value == costs.cache_bytes(bill.MODEL, WINDOW + SINKS)
    assert window["decode"].value == costs.decode_bytes(bill.MODEL, WINDOW + SINKS)
    short = named("Window and sinks").lines(500)
    assert short["prefill"].value == costs.prefill_flops(bill.MODEL, 500)
    assert short["cache"].value == costs.cache_bytes(bill.MODEL, 500)


def test_a_hybrid_is_a_quarter_attention_and_three_quarters_states():
    hybrid = named("Hybrid, one layer of four attends")
    for context in CONTEXTS:
        found = hybrid.lines(context)
        whole, states = bill.lines("attention", context), bill.lines("recurrences", context)
        assert found["cache"].value == found["decode"].text == sum(hybrid_kept(context, 4))
        assert found["prefill"].text == whole["prefill"].text / 4 + states["prefill"].text * 3 / 4


def test_what_is_kept_per_token_is_the_topics_own_formula():
    per_token = costs.cache_bytes(bill.MODEL, 1)
    assert growth(named("Softmax attention, grouped")) == (per_token, 0)
    assert growth(named("Retention")) == (0, state_bytes(bill.MODEL.layers, HEADS, KEY_DIM, VALUE_DIM))
    yoco = kept(bill.MODEL, bill.CONTEXT, "YOCO, gated")
    assert growth(named("YOCO")) == (yoco.growing / bill.CONTEXT, yoco.constant)
    assert growth(named("CLSA"))[0] - growth(named("YOCO"))[0] == index_bytes(1)
    assert growth(named("Hybrid, one layer of four attends"))[0] == per_token / 4


def test_the_order_of_a_prompt_is_that_of_its_formula():
    quadratic = {method.name for method in METHODS if method.lines and choices.order(method) == "quadratic"}
    assert {"Softmax attention, grouped", "Hybrid, one layer of four attends", "ReSA", "LeanK"} <= quadratic
    assert not quadratic & {"Retention", "Window and sinks", "YOCO", "YOCO-U, four loops", "CLSA", "FocusLLM"}


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_a_method_leads_to_recordings_kernels_sources_and_its_page(method):
    assert (MEASUREMENTS / f"{method.loses.recording}.json").exists() and re.search(r"\d", method.loses.words())
    if method.recall.stated:
        assert method.recall.stated in (choices.NOT_MEASURED, choices.ITS_MODEL_S, choices.NO_TEXT)
        assert method.recall.because and method.recall.recording is None
    else:
        assert (MEASUREMENTS / f"{method.recall.recording}.json").exists() and "%" in method.recall.words
    for _, launcher in method.kernels:
        topic, name = launcher.split(".")
        __import__(f"kernels.{topic}")
        assert callable(operator.attrgetter(launcher)(kernels))
    page = (ROOT / "book" / f"{method.page}.md").read_text(encoding="utf-8")
    entries = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    assert method.seen
    for model, key in method.seen:
        assert re.search(rf"^@\w+\{{{key},", entries, re.MULTILINE), f"{model}: no entry {key}"
        assert re.search(rf"\{{cite(:\w+)?\}}`[^`]*\b{key}\b", page), f"{method.page} does not cite {key}"


def test_a_recall_is_judged_by_its_share_of_softmax_attention_s():
    for share, verdict in ((0.96, "yes"), (0.94, "in part"), (0.5, "in part"), (0.49, "no")):
        recall = Recall("a/b", "facts", lambda share=share: 0.8 * share, lambda: 0.8)
        assert recall.verdict == verdict and recall.words.endswith("softmax attention 80%")
    assert Recall("a/b", "facts", lambda: 0.3).verdict == "yes"  # softmax attention itself
    assert Recall(stated=choices.NOT_MEASURED, because="nobody asked").words == "nobody asked"


def test_a_reader_sees_what_suits_and_a_reason_for_the_rest():
    assert left() == NAMES
    exact = left(recall=True, task="text")
    assert exact == ["Softmax attention, grouped", "Hybrid, one layer of four attends", "YOCO", "LeanK", "FR-Spec"]
    assert left(recall=True, task="text", memory=24e9) == ["Hybrid, one layer of four attends", "YOCO"]
    assert left(recall=True, task="text", memory=24e9, training="short") == []
    assert left(training="no", task="text") == ["Softmax attention, grouped", "Window and sinks", "ReSA"]
    assert left(task="training", memory=80e9) == ["SOLO, states in 4 and 2 bits"]
    assert left(task="graph") == ["SEvo"] and left(task="pictures") == ["LatentLM", "GAE"]


def test_a_reason_names_the_number_that_decides():
    leank = reasons(named("LeanK"), Reader(memory=24e9, training="no"))
    assert leank == [
        "weights and what is kept of 131,072 tokens take 24 GiB, and the card's 24 GB are 22.4 GiB",
        "it has to be trained, if shortly",
    ]
    retention = reasons(named("Retention"), Reader(training="short", recall=True))
    assert retention[0] == "the model has to be trained from scratch" and "softmax attention 99%" in retention[1]
    assert reasons(named("FocusLLM"), Reader(8192)) == [
        "at 8,192 tokens it keeps, reads and computes no less than softmax attention, grouped"
    ]
    assert reasons(named("SOLO, states in 4 and 2 bits"), Reader(training="no")) == ["it acts while a model is trained"]
    assert reasons(named("SEvo"), Reader(task="text")) == ["it is for those who learn a table over a graph"]
    (training,) = reasons(named("Experts: MaxScore, prices of the past"), Reader(memory=80e9))
    assert training.startswith("weights, gradients and optimizer states take 279 GiB")


def test_who_asks_for_more_is_never_shown_more():
    for method in METHODS:
        for context, recall in itertools.product(draw.CONTEXTS, (False, True)):
            shown = [not reasons(method, Reader(context, memory, None, recall)) for memory in (None, 80e9, 48e9, 24e9)]
            assert shown == sorted(shown, reverse=True)
            shown = [not reasons(method, Reader(context, None, most, recall)) for most in ("scratch", "short", "no")]
            assert shown == sorted(shown, reverse=True)


def test_the_page_s_script_is_given_the_reasons_of_every_reader():
    told = [draw.told(method) for method in METHODS]
    for reader in READERS[::7]:  # 7 divides none of the numbers of options: every pair of answers comes
        for method, found in zip(METHODS, told, strict=True):
            memory = f"{reader.memory:.0f} {reader.context}" if reader.memory else None
            keys = dict(context=reader.context, task=reader.task, memory=memory, training=reader.training)
            keys["recall"] = "needed" if reader.recall else None
            named_ = [found["reasons"][name][key] for name, key in keys.items() if key in found["reasons"][name]]
            assert named_ == reasons(method, reader)


def test_the_table_says_everything_without_its_script():
    html = draw.choosing().to_html()
    assert [*re.findall(r'<tbody data-method="([^"]+)">', html)] == NAMES and "<tbody hidden" not in html
    assert '<fieldset class="explorable-controls" hidden>' in html and f">{len(NAMES)} methods.<" in html
    for method in METHODS:
        assert f'href="../{method.page}.html"' in html
    assert "</script" not in html.split('class="which-data">')[1].split("</script>")[0]


def test_the_whole_bill_is_the_bill_of_every_stage_in_italics_where_a_line_is_lower():
    rows = draw.bill_rows()
    assert [row["design"] for row in rows] == ["The start", *(each.method for each in bill.stages())]
    start = bill.lines()
    for row, each in zip(rows[1:], bill.stages(), strict=True):
        lines = bill.lines(each.topic)
        for key, heading in draw.HEADINGS.items():
            assert row[heading].strip("*") == lines[key].amount()
            assert row[heading].startswith("*") == (lines[key].value < start[key].value)
        assert (row["its own"] != "–") == bool(lines.keys() - start.keys())


def test_the_bars_of_a_card_are_what_is_held_and_run_on_where_they_do_not_fit():
    check_states(draw.fits, draw.fits_says, 500, context=draw.CONTEXTS)
    figure = draw.fits(1 << 20)
    names = [method.name for method in METHODS if method.task == "text"]
    texts = [note.text for note in figure.layout.annotations]
    assert [text for text in texts if text in names] == names
    for name in names:
        size = choices.held(named(name), 1 << 20)[0]
        arrow = " ▶" if size > draw.END else ""
        assert texts[texts.index(name) + 1] == f"<b>{costs.format_bytes(size)}</b>{arrow}"
    ends = [bar.x[0] + (bar.base[0] if bar.base else 0) for bar in figure.data if bar.x[0] is not None]
    assert max(ends) == draw.END


def test_every_row_of_the_map_says_where_it_was_read():
    table = PAGE.split("| model | sees all |")[1].split("\n\n")[0].splitlines()[2:]
    assert len(table) > 20
    for row in table:
        assert re.search(r"\]\(https://|\{cite:t\}`", row.rsplit("|", 2)[1]), row


BAD = [
    (lambda: Reader(training="weekly"), "training must be None or one of no, short, scratch; it is 'weekly'."),
    (lambda: Reader(task="cook"), "task must be None or one of text, training, pictures, graph; it is 'cook'."),
    (lambda: Reader(0), "context must be at least 1 token; it is 0."),
    (lambda: named("Perceiver"), "name must be one of Softmax attention, grouped, .*; it is 'Perceiver'."),
]


@pytest.mark.parametrize(("call", "sentence"), BAD)
def test_a_wrong_question_gets_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_a_method_without_lines_or_a_price_is_refused():
    given = dict(
        topic="graphs", name="X", page="6-lowbit/graphs", task="graph", training="no", recall=Recall(stated="x")
    )
    found = Found("graphs/training-cpu", lambda: "1")
    with pytest.raises(ValueError, match="X needs lines of the bill, or a price in words; it has neither."):
        Method(**given, lines=None, loses=found)
    with pytest.raises(ValueError, match="X: training must be one of no, short, scratch, .* they are 'never'"):
        Method(**given | dict(training="never"), lines=None, loses=found)
