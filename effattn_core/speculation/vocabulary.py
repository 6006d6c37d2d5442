"""The words that a drafter may propose: the most frequent of a text, by their numbers (FR-Spec)."""

from dataclasses import dataclass

import torch

from effattn_core.calls import require_count

END = 2  # SmolLM2's id of the end of a turn, <|im_end|>


def counts(tokens, vocabulary):
    """How often each word stands in a text: int64 [vocabulary]. tokens: int64, any shape.

    Raises ValueError for a token that is no word of the vocabulary.
    """
    require_count("vocabulary", vocabulary)
    if tokens.numel() and not 0 <= tokens.min() <= tokens.max() < vocabulary:
        raise ValueError(f"tokens must lie in 0..{vocabulary - 1}; they go from {tokens.min()} to {tokens.max()}.")
    return torch.bincount(tokens.flatten(), minlength=vocabulary)


@dataclass(frozen=True)
class Subset:
    """`ids`: int64 [kept], the words that are kept, in the order of the vocabulary; `vocabulary`: how many there are.

    `ids` maps a place of the small law to its word.
    """

    ids: torch.Tensor
    vocabulary: int

    def __post_init__(self):
        ids = self.ids
        if ids.ndim != 1 or ids.dtype != torch.int64 or not len(ids) or (ids.diff() <= 0).any():
            raise ValueError(
                f"ids must be int64 [kept], each once and in order; they are {ids.dtype} {list(ids.shape)}."
            )
        if ids[0] < 0 or ids[-1] >= self.vocabulary:
            raise ValueError(f"ids must lie in 0..{self.vocabulary - 1}; they go from {ids[0]} to {ids[-1]}.")

    def __len__(self):
        return len(self.ids)

    def law(self, logits, temperature=1.0):
        """The law over the whole vocabulary that logits over the kept words mean: [..., kept] to [..., vocabulary].

        Words that are not kept have probability 0: the law is truncated and normalised, not the full one masked.
        """
        whole = logits.new_zeros(*logits.shape[:-1], self.vocabulary)
        whole[..., self.ids] = (logits / temperature).softmax(-1)
        return whole

    def coverage(self, counted):
        """The share of a text's words that are kept. counted: its `counts`."""
        return (counted[self.ids].sum() / counted.sum()).item()


def most_frequent(counted, kept, *, always=(END,)):
    """The Subset of the `kept` most frequent words of a text; those of `always`, the end of a text, are among them.

    counted: int64 [vocabulary], see `counts`; of equally frequent words the lower id stays. A drafter that cannot
    propose the end would pay a refused draft at every end. Raises ValueError unless 1 <= kept <= vocabulary, and
    for more words in `always` than are kept, or words that there are not.
    """
    vocabulary = len(counted)
    if strange := [word for word in always if not 0 <= word < vocabulary]:
        raise ValueError(
            f"words that are always kept must lie in 0..{vocabulary - 1}; {strange[0]} is given: name the end of your "
            "own texts, or always=()."
        )
    if not len(set(always)) <= kept <= vocabulary or kept < 1:
        raise ValueError(f"kept must lie in {max(1, len(set(always)))}..{vocabulary}; it is {kept}.")
    ranked = counted.double()
    ranked[list(always)] = float("inf")
    return Subset(ranked.argsort(descending=True, stable=True)[:kept].sort().values, vocabulary)
