"""What a row of this topic's papers says was measured."""

from effattn_core.papers import over_seeds


def against(values, what, arm, other, said, field="accuracy", **more):
    """A function that says: an arm's field against another arm's, both over seeds, and what the other is.

    values: of the recording, as in `claims.programs` and `claims.weights`.
    """
    ours, theirs = (lambda each=each: over_seeds(values(what, each, field, **more)) for each in (arm, other))
    return lambda: f"{ours()} against {theirs()} {said}"
