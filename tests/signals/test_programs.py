"""The executor answers as the text does, grounded programs have answers, and filters keep what they say."""

import random

import pytest

from effattn_core.signals import questions
from effattn_core.signals.programs import (
    SKELETONS,
    Program,
    at_random,
    execute,
    grounded,
    joined,
    knowledge,
    oracle,
    share_that_executes,
)


def test_the_executor_answers_two_hundred_queries_as_a_reading_of_the_plays_does():
    generator, met = random.Random(7), set()
    for number in range(200):
        name = list(SKELETONS)[number % len(SKELETONS)]
        program = grounded(name, generator) if number % 3 else at_random(name, generator)
        if program is not None:
            assert execute(program) == oracle(program), program
            met.add((name, bool(execute(program))))
    assert {name for name, _ in met} == set(SKELETONS) and ("with", False) in met and ("with", True) in met


@pytest.mark.parametrize("name", SKELETONS)
def test_a_program_grounded_step_by_step_is_never_empty(name):
    generator = random.Random(1)
    found = [grounded(name, generator) for _ in range(40)]
    assert all(execute(each) for each in found if each is not None)
    assert sum(each is None for each in found) <= 6


def test_most_random_groundings_of_joins_are_empty():
    for name in ("with", "both", "more"):
        assert share_that_executes(name, at_random, 150) < 0.3 < share_that_executes(name, grounded, 50)


def test_a_count_of_nothing_is_an_answer_and_an_empty_set_is_none():
    absent = ("FALSTAFF", "Hamlet")
    assert execute(Program("scenes", absent)) == {0} and execute(Program("with", absent)) == frozenset()
    assert questions.keep(Program("scenes", absent)) and not questions.keep(Program("with", absent))
    assert not questions.keep(None)


def test_answers_are_what_one_knows():
    assert execute(Program("genre", ("Hamlet",))) == {"tragedies"}
    assert execute(Program("leader", ("Hamlet",))) == {"HAMLET"}
    assert execute(Program("more", ("HAMLET", "HORATIO", "Hamlet"))) == {"HAMLET"}
    assert execute(Program("more", ("HORATIO", "HAMLET", "Hamlet"))) == {"HAMLET"}
    assert "FALSTAFF" in execute(Program("both", ("Henry IV, Part I", "Henry IV, Part 2")))
    assert "HAMLET" not in execute(Program("with", ("HAMLET", "Hamlet")))


def test_the_order_of_patterns_changes_the_work_and_not_the_answer():
    skeleton, given = SKELETONS["with"], {"$0": "HAMLET", "$1": "Hamlet"}
    forwards, backwards = joined(skeleton.body, given), joined(skeleton.body[::-1], given)
    assert {row["?x"] for row in forwards[-1]} == {row["?x"] for row in backwards[-1]}
    assert max(map(len, backwards)) > 5 * max(map(len, forwards))


def test_a_look_up_finds_what_a_scan_of_all_triples_finds():
    base, generator = knowledge(), random.Random(3)
    for subject, relation, thing in generator.sample(sorted(base.triples, key=str), 40):
        for pattern in ((subject, None), (None, thing), (subject, thing), (None, None)):
            left, right = pattern
            scanned = {(s, o) for s, r, o in base.triples if r == relation and left in (None, s) and right in (None, o)}
            assert set(base.matches(left, relation, right)) == scanned


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        (Program("author", ("Hamlet",)), "there is no skeleton 'author'"),
        (Program("genre", ("HAMLET",)), r"genre wants \(play\); it was given \(HAMLET\)"),
        (Program("both", ("Hamlet",)), r"both wants \(play, play\)"),
    ],
)
def test_what_is_no_program_is_refused(program, sentence):
    with pytest.raises(ValueError, match=sentence):
        execute(program)


def test_names_go_where_their_type_fits_in_the_order_in_which_they_stand():
    names = (("play", "Hamlet"), ("person", "HAMLET"), ("person", "HORATIO"))
    assert questions.parse("more", names) == Program("more", ("HAMLET", "HORATIO", "Hamlet"))
    assert questions.parse("with", names) is None and questions.parse("genre", names) is None
    assert questions.parse("both", names[:2]) is None and questions.parse("plays", names[:1]) is None


def test_each_phrasing_can_be_parsed_back_by_its_own_skeleton():
    generator = random.Random(0)
    for name, sides in questions.PHRASINGS.items():
        program = grounded(name, generator)
        for phrasing in (*sides[0], *sides[1]):
            assert questions.parse(name, questions.asked(program, phrasing).names) == program, phrasing


def test_filters_keep_what_they_say():
    found = questions.sets(0, synthetic=60, gold=10, unlabelled=40, without=9, tested=10)
    student = questions.trained(questions.with_truth(found.synthetic))
    kept = {rule: questions.kept(rule, student, found.unlabelled) for rule in questions.FILTERS}
    assert len(kept["keep all"]) == len(found.unlabelled)
    for rule in ("executes", "best that executes"):
        assert kept[rule] and all(questions.keep(program) for _, program in kept[rule])
    assert len(kept["executes"]) < len(kept["best that executes"])
    assert {each.words for each, _ in kept["executes"]} <= {each.words for each, _ in kept["best that executes"]}
    with pytest.raises(ValueError, match="there is no filter 'sure'"):
        questions.kept("sure", student, found.unlabelled)


def test_questions_without_an_answer_have_none_and_no_truth():
    found = questions.unanswerable(9, random.Random(2))
    assert all(each.truth is None for each in found)
    assert not any(questions.keep(questions.parse(name, each.names)) for each in found for name in ("both", "more"))
