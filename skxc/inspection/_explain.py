"""Why a label: words of the text, training rows that voted, features of trees, members' shares.

The effect of a word is what the score loses when the word is left out:

    effect(w) = score(text, label) - score(text without w, label)

It holds for any model. What a score is the sum of, its terms, each model says itself
(`Model.reasons`).
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from skxc._model import Reasons
from skxc.inspection._axes import axes_or_new
from skxc.utils._sparse import normalize_rows

# A word as common tokenisers see it.
WORD = re.compile(r"\w+")
# Lines of a printed or drawn explanation, per kind.
SHOWN = 8
# Cosine from which a sample is taken for the training row that it became.
SAME = 0.9999

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Explanation:
    """What `explain` returns; ``print`` shows it as a table, `plot` draws it.

    Attributes
    ----------
    label : int
        Id of the label.
    name : str
        Its name.
    score : float
        Its score, as in ``predict_topk(X, candidates=[label])``.
    probability : float or None
        Its probability; None where the model has none.
    terms : dict of str to float
        What the score is the sum of.
    words : list of str
        Words of the text, or features of the row, the one with the largest effect first.
    effects : ndarray of float64, shape (n_words,)
        What the score loses without them.
    rows : list of str
        Training rows with this label that voted, the heaviest first: the sample, or the names of
        its labels.
    row_effects : ndarray of float64, shape (n_rows,)
        What each of them adds to the score.
    row_ids : ndarray of int64, shape (n_rows,)
        Positions in `samples`; -1 where it was not given, or does not hold the row.
    features : list of str
        Features with the largest weights on the way to the label in its trees.
    weights : ndarray of float64, shape (n_features,)
        Their weights, times their values.
    shares : dict of str to float
        Shares of the members of a fusion in the probability that they give together.
    members : dict of str to Explanation
        What the members say, without words of their own.
    """

    label: int
    name: str
    score: float
    probability: float | None
    terms: dict[str, float]
    words: list[str]
    effects: Floats
    rows: list[str] = field(default_factory=list)
    row_effects: Floats = field(default_factory=lambda: np.zeros(0))
    row_ids: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    features: list[str] = field(default_factory=list)
    weights: Floats = field(default_factory=lambda: np.zeros(0))
    shares: dict[str, float] = field(default_factory=dict)
    members: dict[str, Explanation] = field(default_factory=dict)

    def _tables(self) -> dict[str, tuple[list[str], Any]]:
        """Return the names and values of every kind of reason that there is."""
        tables = {
            "words, by what the score loses without them": (self.words, self.effects),
            "what the score is the sum of": (list(self.terms), list(self.terms.values())),
            "training rows that voted": (self.rows, self.row_effects),
            "features with the largest weights": (self.features, self.weights),
            "shares of the members": (list(self.shares), list(self.shares.values())),
        }
        return {title: table for title, table in tables.items() if table[0]}

    def __str__(self) -> str:
        probability = "" if self.probability is None else f", probability {self.probability:.3f}"
        lines = [f"{self.name}: score {self.score:.3f}{probability}"]
        for title, (names, values) in self._tables().items():
            lines += ["", title]
            shown = list(zip(names, values, strict=True))
            lines += [f"  {value:8.3f}  {name}" for name, value in shown[:SHOWN]]
            if len(shown) > SHOWN:
                lines.append(f"            and {len(shown) - SHOWN} more")
        for name, member in self.members.items():
            lines += ["", *(f"{name} | {line}" for line in str(member).splitlines())]
        return "\n".join(lines)

    def plot(self, *, ax: Any = None) -> Any:
        """Draw words, terms, rows, features and shares as bars, one group and colour per kind.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        Axes
            With names, a legend, and the label as title; ``ax.figure.savefig(...)`` saves it.

        Raises
        ------
        ImportError
            If matplotlib is not installed: ``pip install skxc[plot]``.
        """
        tables = self._tables()
        n_bars = sum(min(len(names), SHOWN) for names, _ in tables.values())
        ax = axes_or_new(ax, 7, 1.2 + 0.28 * (n_bars + len(tables)))
        place, ticks = 0.0, []
        for title, (names, values) in tables.items():
            shown = [_shortened(name) for name in names[:SHOWN]]
            places = place + np.arange(len(shown))
            ax.barh(places, values[:SHOWN], label=title)
            ticks += list(zip(places, shown, strict=True))
            place = places[-1] + 1.7
        ax.axvline(0, color="gray", linewidth=0.8)
        ax.set_yticks([at for at, _ in ticks], [name for _, name in ticks])
        ax.invert_yaxis()
        ax.set_xlabel("contribution")
        ax.set_title(f"{self.name} (score {self.score:.2f})")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), fontsize=8)
        return ax


def explain(model: Any, text: Any, label: Any = None, *, samples: Any = None) -> Explanation:
    """Explain the score of one label for one text.

    Parameters
    ----------
    model : fitted estimator of this package
    text : str, or what stands for one sample in ``predict``: one text, or one row of features
    label : int or str, default=None
        Id or name of the label. None: the best one.
    samples : sequence of str or matrix, default=None
        Samples of the training, in which the rows that voted are looked up. None: rows are named by
        their labels.

    Returns
    -------
    Explanation

    Raises
    ------
    ValueError
        There is no such label, the model cannot score it, or more than one sample was given.

    Examples
    --------
    >>> from sklearn.feature_extraction.text import TfidfVectorizer
    >>> from skxc import KNeighborsXC
    >>> from skxc.inspection import explain
    >>> texts = ["red wine", "white wine", "deep learning", "machine learning"]
    >>> model = KNeighborsXC(vectorizer=TfidfVectorizer(), calibration=None)
    >>> model = model.fit(texts, [["wine", "red"], ["wine"], ["learning"], ["learning"]])
    >>> print(explain(model, "a glass of wine", samples=texts))
    wine: score 1.238
    <BLANKLINE>
    words, by what the score loses without them
         1.238  wine
         0.000  a
         0.000  glass
         0.000  of
    <BLANKLINE>
    what the score is the sum of
         1.238  votes
    <BLANKLINE>
    training rows that voted
         0.619  white wine
         0.619  red wine
    """
    if not hasattr(model, "_score_pairs"):
        raise ValueError(
            "`model` must be an estimator of this package, but is a "
            f"{type(model).__name__}. Of a pipeline pass the last step, and features as `text`."
        )
    check_is_fitted(model)
    X = [text] if isinstance(text, str) else text
    rows, _ = model._check_X(X)
    if rows.shape[0] != 1:
        raise ValueError(f"`text` must be one sample, but holds {rows.shape[0]}. Pass one of them.")
    label = _label_id(model, X, label)
    if samples is not None and model.input_layout_ == "texts":
        samples = list(samples)
    names = _Names(model, samples if model.input_layout_ == "texts" else None)
    return _explain(model, X, label, samples, names, with_words=True)


@dataclass(frozen=True)
class _Names:
    """What labels, rows and features are called: by the outermost model, which has the names."""

    model: Any
    texts: list[str] | None

    def label(self, labels: NDArray[np.integer]) -> list[str]:
        return list(map(str, self.model._called(labels)))

    def features(self, features: NDArray[np.integer], member: Any) -> list[str]:
        for model in (member, self.model):
            vectorizer, known = vars(model).get("vectorizer_"), vars(model).get("feature_names_in_")
            if vectorizer is not None and hasattr(vectorizer, "get_feature_names_out"):
                known = vectorizer.get_feature_names_out()
            if known is not None:
                return [str(known[feature]) for feature in features]
        return [f"feature {feature}" for feature in features]


def _explain(
    model: Any, X: Any, label: int, samples: Any, names: _Names, *, with_words: bool
) -> Explanation:
    (name,) = names.label(np.array([label]))
    words, variants = _without_each(model, X, names) if with_words else ([], [])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a text of one word has none left
        scores = _scores(model, [X, *variants], label)
        if not np.isfinite(scores[0]):
            raise ValueError(
                f"`label` must be one that the model can score, but {name!r} is not: it has no "
                "training row, and no text that the model learned from. Choose another one."
            )
        rows = model._check_X(X)[0]
        current = model._current(model.model_)
        reasons = current.reasons(current.queries(rows), label)
    effects = scores[0] - scores[1:]
    order = np.argsort(-effects, kind="stable")
    heaviest = np.argsort(-reasons.row_effects, kind="stable")
    known = None if samples is None else model._check_X(samples)[0]
    row_ids, row_names = _voters(current, reasons, heaviest, known, names)
    features = np.argsort(-np.abs(reasons.weights), kind="stable")[: 2 * SHOWN]
    members = {
        # Members get samples as the fusion sees them.
        member: _explain(estimator, rows, label, known, names, with_words=False)
        for member, estimator in getattr(model, "named_estimators_", {}).items()
        if hasattr(estimator, "_score_pairs")
    }
    return Explanation(
        label=label,
        name=name,
        score=float(scores[0]),
        probability=_probability(model, X, label),
        terms=reasons.terms,
        words=[words[word] for word in order],
        effects=effects[order],
        rows=row_names,
        row_effects=reasons.row_effects[heaviest],
        row_ids=row_ids,
        features=names.features(reasons.features[features], model),
        weights=reasons.weights[features],
        shares=reasons.shares,
        members=members,
    )


def _label_id(model: Any, X: Any, label: Any) -> int:
    """Return the id of a label that is given by id or name; the best one for None."""
    if label is None:
        best = int(model.predict_topk(X, 1)[0][0, 0])
        if best < 0:
            raise ValueError("`text` must have an answer, but has none. Pass a `label`.")
        return best
    from skxc._allowed import allowed_labels

    allowed = allowed_labels([label], model._names(), (1, model.n_labels_))
    return 0 if allowed is None else int(allowed.labels[0])


def _without_each(model: Any, X: Any, names: _Names) -> tuple[list[str], list[Any]]:
    """Return the words of a text, and the text without each; or features, and the row without."""
    if model.input_layout_ == "texts":
        (text,) = X
        words = list(dict.fromkeys(word.casefold() for word in WORD.findall(text)))
        return words, [[_without(text, word)] for word in words]
    row = sp.csr_array(model._check_X(X)[0])
    variants = []
    for place in range(row.nnz):
        other = row.copy()
        other.data[place] = 0
        variants.append(other)
    return names.features(row.indices, model), variants


def _without(text: str, word: str) -> str:
    """Return a text without all occurrences of a word."""
    return WORD.sub(lambda found: "" if found[0].casefold() == word else found[0], text)


def _scores(model: Any, samples: list[Any], label: int) -> Floats:
    """Return the scores of one label for samples of one row each."""
    if model.input_layout_ == "texts":
        X = [text for (text,) in samples]
    else:
        X = sp.vstack([sp.csr_array(row) for row in samples], format="csr")
    current = model._current(model.model_)
    queries = current.queries(model._check_X(X)[0])
    allowed = np.full(len(samples), label)
    scores = model._score_pairs(current, queries, None, np.arange(len(samples)), allowed)
    return scores.astype(np.float64)


def _probability(model: Any, X: Any, label: int) -> float | None:
    if "calibrator_" not in vars(model):
        return None
    found, probabilities = model._ranked_probabilities(X, 1, [label])
    return float(probabilities[0, 0]) if found[0, 0] >= 0 else None


def _voters(
    current: Any, reasons: Reasons, order: NDArray[np.integer], samples: Any, names: _Names
) -> tuple[NDArray[np.int64], list[str]]:
    """Return where rows that voted are in `samples`, -1 where nowhere, and what to call them."""
    called = [", ".join(names.label(reasons.row_labels[row])) for row in order]
    ids = np.full(len(order), -1, dtype=np.int64)
    if samples is None or not len(order):
        return ids, called
    queries = current.queries(samples)
    cosines = normalize_rows(reasons.row_vectors[order]) @ normalize_rows(queries).T
    cosines = cosines.toarray() if sp.issparse(cosines) else cosines
    ids = np.where(cosines.max(axis=1) > SAME, cosines.argmax(axis=1), -1).astype(np.int64)
    if names.texts is not None:
        texts = names.texts
        called = [texts[at] if at >= 0 else name for at, name in zip(ids, called, strict=True)]
    return ids, called


def _shortened(name: str, length: int = 40) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
