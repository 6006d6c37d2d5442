"""The plays as records, and the names in them."""

from effattn_core.data import FAMILIES, plain
from effattn_core.mentions import bearers, entities, mentions
from effattn_core.plays import plays


def test_every_play_has_five_acts_and_keeps_its_words():
    assert len(plays()) == len({play.title for play in plays()}) == 38
    assert {play.genre for play in plays()} == {*FAMILIES}
    for play in plays():
        assert {speech.act for speech in play.speeches} >= {1, 2, 3, 4, 5}, play.title
        assert [speech.place for speech in play.speeches] == list(range(len(play.speeches)))
        assert all(speech.text == plain(speech.text) and "_" not in speech.text for speech in play.speeches)
    assert not any(play.title.startswith(("ACT", "SCENE")) for play in plays())
    hamlet = next(play for play in plays() if play.title == "Hamlet")
    assert hamlet.speakers[0] == "HAMLET"
    assert (hamlet.speeches[0].speaker, hamlet.speeches[0].text) == ("BERNARDO", "Who's there?")


def test_a_play_whose_file_lacks_its_title_is_called_as_the_file():
    (measure,) = (play for play in plays() if play.title == "Measure for Measure")
    assert measure.genre == "problems" and "ISABELLA" in measure.speakers
    assert {speech.play for speech in measure.speeches} == {"Measure for Measure"}


def test_a_mention_names_a_person_of_its_play_who_does_not_speak():
    people = entities()
    assert len({(person.name, person.play) for person in people}) == len(people) > 600
    for mention in mentions():
        person = people[mention.entity]
        assert (person.name, person.play) == (mention.name, mention.play)
        assert mention.entity in bearers(mention.name)


def test_what_describes_a_person_is_not_what_is_tested():
    hamlet = next(person for person in entities() if person.name == "HAMLET")
    play = next(play for play in plays() if play.title == "Hamlet")
    late = {word for speech in play.speeches if speech.act > 2 for word in speech.words}
    early = {word for speech in play.speeches if speech.act <= 2 for word in speech.words}
    assert not {*hamlet.text} & (late - early - {"scene", "room", "castle"})
