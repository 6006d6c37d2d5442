"""Figures of the chapter on graphs: a builder for each question, and the sentence that says what it shows."""

STEPS = range(1, 5)


def mechanism(step=1):
    """TO WRITE: the idea in one figure whose first state tells the story."""
    raise NotImplementedError("TO WRITE: the chapter's first figure, by figures.theme.")


def mechanism_says(step=1):
    """TO WRITE: what that state shows, as a sentence for those who do not see it."""
    raise NotImplementedError("TO WRITE: the sentence that the first figure says.")
