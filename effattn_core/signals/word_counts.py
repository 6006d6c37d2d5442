"""Words and pairs of neighbours as counts: what the linear students of this chapter read."""

import torch


class WordCounts:
    """Counts the words of a text, one by one and in pairs, that some texts have: a call gives [texts, width].

    texts: what has `masked`, a tuple of words. The last of the `width` columns is 1, for a bias.
    """

    def __init__(self, texts):
        found = dict.fromkeys(each for text in texts for each in _features(text))
        self.places = {each: place for place, each in enumerate(found)}
        self.width = len(self.places) + 1

    def __call__(self, texts):
        found = torch.zeros(len(texts), self.width)
        found[:, -1] = 1
        for row, text in enumerate(texts):
            for each in _features(text):
                if each in self.places:
                    found[row, self.places[each]] += 1
        return found


def _features(text):
    words = ("<", *text.masked, ">")
    return [*text.masked, *zip(words, words[1:], strict=False)]
