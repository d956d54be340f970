"""FusionXC: several estimators, and a rule learned on held-out rows that makes their scores one.

The recipe is `_fit_calibrated`: hold rows out, fit the members on the rest, learn on the held-out
rows how to combine them, calibrate on the same rows by cross-fitted scores, and give the rows back
to the members where data are small.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import _BaseComposition, available_if
from sklearn.utils.parallel import Parallel, delayed

from skxc.base import BaseXC, Features, TrainingSet, _hold_out
from skxc.calibration import TopKCalibrator
from skxc.estimators._dual_encoder import DualEncoderXC
from skxc.estimators._linear_tree import LinearTreeXC
from skxc.fusion import Candidates, Learned, collect_candidates, learn_combiner, make_objective
from skxc.fusion._candidates import lowest_scores
from skxc.labels import AnchorGraph, LabelGraph, LabelTexts
from skxc.metrics import inverse_propensity
from skxc.ranking import rank_pairs
from skxc.utils._canonical import _hash_parts
from skxc.utils._random import root_seed, stream
from skxc.utils._sparse import TopK, pack_topk, pair_ids, rank_rows, top_k

if TYPE_CHECKING:
    from typing_extensions import Self

# Rows whose candidates are in memory at once.
BLOCK_ROWS = 1024
# Held-out pairs of a sample with the label of the same text that tell whether such pairs count, and
# the share of right ones up to which they do not.
ENOUGH_OWN_PAIRS = 10
FEW_RIGHT = 0.01
# Propensities are defined from this number of rows on.
FEWEST_FOR_PROPENSITY = 3


def _can_add_labels(self: FusionXC) -> bool:
    members = getattr(self, "estimators_", None) or [member for _, member in self._named_members()]
    return all(hasattr(member, "add_labels") for member in members)


class FusionXC(_BaseComposition, BaseXC):
    """Several estimators, combined by a rule that is learned for the metric you name.

    Every member gives its `top_k` best labels; a label in any of these lists is a candidate, and a
    member that did not retrieve it gives it the smallest score of its own list. On training rows
    that the members have not seen, scores become probabilities, these are mixed by shares that are
    chosen for the objective, and boosted trees add what ranks, agreement and label frequency tell.
    For a label without training rows the largest probability counts instead of the mixture, since
    most members have heard nothing of it.
    Shares stay close to equal unless the held-out rows tell otherwise by more than two standard
    errors, and each single member is among the candidates, so that a fusion is not worse than its
    best member by more than the noise of these rows.

    Parameters
    ----------
    estimators : list of (str, estimator), default=None
        The members by name: estimators of this package, pipelines, or any classifier with
        ``predict_topk`` or ``decision_function``. One in a `sklearn.frozen.FrozenEstimator` is used
        as it is. None: ``[("tree", LinearTreeXC()), ("dual", DualEncoderXC())]``, the recommended
        default.
    objective : str or dict of str to float, default="precision@1"
        The metric to tune for: "precision@k", "recall@k", "ndcg@k", "psprecision@k", or a blend
        such as ``{"precision@1": 0.5, "psprecision@5": 0.5}``.
    method : {"trees", "linear"}, default="trees"
        "linear": a weighted sum of the members' probabilities. "trees": its log-odds, joined with
        those of gradient-boosted trees over pair features; one to a few percent better and slower.
    weights : array-like of shape (n_members,), default=None
        Fixed non-negative shares of the members, without a preference for rare labels. None:
        learned.
    top_k : int, default=100
        Number of labels that are retrieved per row, and candidates that each member is asked for.
    threshold : float, default=0.5
        Smallest probability of a predicted label.
    graph : sparse matrix, LabelGraph, AnchorGraph, "cooccurrence" or None, default=None
        For the members whose `fit` takes it.
    label_features : LabelTexts, sequence of str, matrix or None, default=None
        For the members whose `fit` takes them, in the same form as the samples.
    vectorizer : transformer or None, default=None
        Turns texts into one feature matrix for all members. None: members get `X` as it is, and
        texts need members that read texts, or have vectorisers of their own.
    random_state : int, RandomState instance or None, default=None
        Seeds every member whose own `random_state` is None.
    n_jobs : int or None, default=None
        Members that are fitted at once, through joblib.

    Attributes
    ----------
    estimators_ : list of estimator
        The fitted members.
    named_estimators_ : dict of str to estimator
        The same by name.
    combiner_ : skxc.fusion.Combiner
        The learned rule, with `shares`, `tilt` and `tree_share`.
    objective_ : float
        The objective on held-out rows, cross-fitted.
    member_objectives_ : ndarray of float64, shape (n_members,)
        The same of each member alone.
    member_frequency_ : ndarray of shape (n_labels,)
        Weighted number of rows of every label among those that the members were fitted on.
    n_member_samples_ : float
        Weighted number of these rows.
    drops_own_labels_ : bool
        Whether a label whose text equals that of the sample is no candidate.
    classes_, n_labels_, label_names_, label_frequency_, n_samples_fit_, calibrator_
        As in every estimator. Where all members are frozen, frequencies come from the first member
        that has them, since the rows given to `fit` are not the training rows; the rule knows none
        if no member has.

    Notes
    -----
    *Which rows learn what.* From 2,000 rows on, 5 % (at most 1,000) are held out: members are
    fitted on the rest, and hold out rows of their own from it. With fewer rows 20 % are held out,
    and the members are fitted again on all rows once the rule is known; below 10 rows nothing is
    held out and all shares are equal. The rule's own calibrators and trees are cross-fitted over
    the held-out rows, so the scores that calibrate the fusion come from parts that saw other rows
    only; what saw all of them is the choice of a few shares. Label frequencies that the rule uses
    leave the held-out rows out as well: a label that occurs in these alone must look unseen.

    *Frozen members.* Their scores are optimistic on rows that they were trained on, which misleads
    the rule. If all members are frozen, `fit` learns the rule on all rows it is given: give it rows
    that no member has seen.

    *Samples that are labels.* Where samples and labels are of one kind (products, articles,
    packages), a label text can equal the text of the sample. If such pairs are hardly ever right
    among the held-out rows (at most 1 % of at least 10), they are never candidates.

    References
    ----------
    Breiman et al., "Classification and Regression Trees", 1984 (the standard-error rule);
    NGAME (WSDM 2023), score fusion by trees; Jain et al. (KDD 2016), inverse propensities.

    Examples
    --------
    >>> from sklearn.feature_extraction.text import TfidfVectorizer
    >>> from skxc import FusionXC, KNeighborsXC, LinearTreeXC
    >>> from skxc.datasets import make_planted_xc
    >>> data = make_planted_xc(n_samples=200, n_labels=30, random_state=0)
    >>> members = [("tree", LinearTreeXC()), ("near", KNeighborsXC(vectorizer=TfidfVectorizer()))]
    >>> model = FusionXC(members, objective="recall@5", random_state=0)
    >>> model = model.fit(data.train_texts, data.train_labels)
    >>> model.predict_topk(data.test_texts[:3], k=2)[0].shape
    (3, 2)
    """

    __metadata_request__fit: ClassVar[dict[str, Any]] = {"sample_graph": True}

    _accepts_texts = True
    _accepts_anchors = True
    _named_graphs = ("cooccurrence",)
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **{
            name: BaseXC._parameter_constraints[name]
            for name in (
                *("top_k", "threshold", "graph", "label_features", "vectorizer"),
                *("random_state", "n_jobs"),
            )
        },
        "estimators": [list, tuple, None],
        "objective": [str, Mapping],
        "method": [StrOptions({"trees", "linear"})],
        "weights": ["array-like", None],
    }

    def __init__(
        self,
        estimators: Any = None,
        *,
        objective: Any = "precision@1",
        method: str = "trees",
        weights: Any = None,
        top_k: int = 100,
        threshold: float = 0.5,
        graph: Any = None,
        label_features: Any = None,
        vectorizer: Any = None,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.estimators = estimators
        self.objective = objective
        self.method = method
        self.weights = weights
        self.top_k = top_k
        self.threshold = threshold
        self.graph = graph
        self.label_features = label_features
        self.vectorizer = vectorizer
        self.random_state = random_state
        self.n_jobs = n_jobs

    # ---- members and parameters

    def _named_members(self) -> list[tuple[str, Any]]:
        """Return the members as given, or the default ones."""
        if self.estimators is None:
            return [("tree", LinearTreeXC()), ("dual", DualEncoderXC())]
        return list(self.estimators)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, and with `deep` those of the members as ``name__parameter``.

        Parameters
        ----------
        deep : bool, default=True

        Returns
        -------
        dict of str to object
        """
        return self._get_params("estimators", deep=deep)

    def set_params(self, **params: Any) -> Self:
        """Set parameters, a member by its name, or its parameters such as ``dual__n_epochs``.

        Default members first become a list in `estimators`.

        Parameters
        ----------
        **params : dict

        Returns
        -------
        self
        """
        if self.estimators is None and "estimators" not in params:
            names = {name for name, _ in self._named_members()}
            if names & {key.partition("__")[0] for key in params}:
                self.estimators = self._named_members()
        self._set_params("estimators", **params)
        return self

    def _fresh_members(self) -> list[Any]:
        """Return checked clones of the members, with seeds where they have none."""
        named = self._named_members()
        if not named or not all(
            isinstance(pair, tuple | list) and len(pair) == 2 for pair in named
        ):
            raise ValueError(
                "`estimators` must be a list of (name, estimator) pairs with at least one pair, "
                f"but is {self.estimators!r}. Write [('tree', LinearTreeXC())], for example."
            )
        self._validate_names([name for name, _ in named])
        for name, member in named:
            if isinstance(member, type) or not (
                hasattr(member, "fit")
                and (hasattr(member, "predict_topk") or hasattr(member, "decision_function"))
            ):
                raise ValueError(
                    f"`estimators` must hold classifiers with predict_topk or decision_function, "
                    f"but {name!r} is {member!r}. Pass an instance such as LinearTreeXC()."
                )
        members = [clone(member) for _, member in named]
        if self.random_state is not None:
            seed = root_seed(self.random_state)
            for (name, _), member in zip(named, members, strict=True):
                _give_seeds(member, int(stream(seed, name).integers(2**31)))
        return members

    def _shares(self, n_members: int) -> NDArray[np.float64] | None:
        if self.weights is None:
            return None
        shares = np.asarray(self.weights, dtype=np.float64)
        valid = shares.shape == (n_members,) and (shares >= 0).all() and np.isfinite(shares).all()
        if not valid or shares.sum() == 0:
            raise ValueError(
                f"`weights` must hold {n_members} non-negative numbers that are not all zero, one "
                f"per member, but is {self.weights!r}. Use None to learn them."
            )
        return shares

    @property
    def named_estimators_(self) -> dict[str, Any]:
        """The fitted members by name."""
        return dict(zip(self.member_names_, self.estimators_, strict=True))

    # ---- fit

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        graph: Any = None,
        sample_graph: Any = None,
        label_features: Any = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Fit the members that are not frozen, and learn how to combine them.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features), or sequence of str
            Samples.
        y : sparse matrix or array-like of shape (n_samples, n_labels), or of shape (n_samples,)
            Binary indicator, or one class per sample. Members get an indicator in any case.
        graph : sparse matrix, LabelGraph, AnchorGraph or "cooccurrence", default=None
            Overrides the constructor parameter, as does `label_features`.
        sample_graph : sparse matrix of shape (n_samples, n_anchors), default=None
            Edges of the samples, for the members whose `fit` takes them.
        label_features : LabelTexts, matrix or sequence of str with n_labels rows, default=None
        sample_weight : array-like of shape (n_samples,), default=None
            Handed on as well; it also weighs the held-out rows.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Members that are no list of named classifiers, an unknown objective, a graph that no
            member takes, or a frozen member with other labels.
        """
        return self._fit_checked(
            X,
            y,
            graph=graph,
            sample_graph=sample_graph,
            label_features=label_features,
            sample_weight=sample_weight,
        )

    def _fit_calibrated(self, data: TrainingSet) -> None:
        make_objective(self.objective)
        members = self._fresh_members()
        self._shares(len(members))
        self.member_names_ = [name for name, _ in self._named_members()]
        has_label_side = data.label_features is not None
        self.label_hashes_ = _hash_parts([data.label_features]) if has_label_side else None
        _check_takers(members, data)
        if all(isinstance(member, FrozenEstimator) for member in members):
            self._check_frozen(members)
            self._copy_frequency(members)
            self.estimators_ = members
            self._learn(data, is_held_out=True)
            return
        rest, held_out = _hold_out(data)
        self._fit_members(members, rest)
        self._learn(data if held_out is None else held_out, is_held_out=held_out is not None)
        if held_out is not None and self._gives_rows_back(data.n_samples):
            self._fit_members(self._fresh_members(), data)

    def _fit_members(self, members: list[Any], data: TrainingSet) -> None:
        """Fit the members on `data`, except frozen ones."""
        self._check_frozen(members)
        self.estimators_ = Parallel(n_jobs=self.n_jobs)(
            delayed(_fit_member)(member, data) for member in members
        )
        self.member_frequency_ = data.y.T @ data.sample_weight
        self.n_member_samples_ = data.sample_weight.sum().item()

    def _check_frozen(self, members: list[Any]) -> None:
        for name, member in zip(self.member_names_, members, strict=True):
            n_labels = len(getattr(member, "classes_", ())) if _is_frozen(member) else 0
            if n_labels and n_labels != self.n_labels_:
                raise ValueError(
                    f"The frozen member {name!r} must know the {self.n_labels_} labels of `y`, but "
                    f"was fitted with {n_labels}. Pass a `y` with the columns of its training."
                )

    def _copy_frequency(self, members: list[Any]) -> None:
        """Take label frequencies from a member that was fitted on the training rows."""
        # Those of the rows given to `fit` would give away which labels are right in them.
        self.member_frequency_, self.n_member_samples_ = np.zeros(self.n_labels_), 0
        for member in members:
            if hasattr(member, "label_frequency_"):
                self.label_frequency_ = self.member_frequency_ = member.label_frequency_
                self.n_samples_fit_ = member.n_samples_fit_
                self.n_member_samples_ = member.n_samples_fit_
                return

    def _learn(self, held_out: TrainingSet, *, is_held_out: bool) -> None:
        """Learn the rule and the calibrator on rows that the members have not seen."""
        lists = self._lists(held_out.X, self._depth(1))
        candidates = collect_candidates(lists, self.n_labels_)
        own = self._own_pairs(held_out.X, candidates)
        keys = candidates.rows[own] * self.n_labels_ + candidates.labels[own]
        n_right = np.isin(keys, pair_ids(held_out.y)).sum()
        self.drops_own_labels_ = bool(
            is_held_out and len(keys) >= ENOUGH_OWN_PAIRS and n_right <= FEW_RIGHT * len(keys)
        )
        if self.drops_own_labels_:
            candidates = candidates.take(~own)
        learned: Learned = learn_combiner(
            candidates,
            held_out.y,
            objective=make_objective(self.objective),
            label_frequency=self.member_frequency_,
            inverse_propensity=self._inverse_propensity(np.arange(self.n_labels_)),
            floors=lowest_scores(lists),
            trees=self.method == "trees",
            shares=self._shares(len(lists)),
            row_weight=held_out.sample_weight,
            search=is_held_out,
        )
        self.combiner_ = learned.combiner
        self.objective_, self.member_objectives_ = learned.objective, learned.member_objectives
        shape = (candidates.n_rows, min(self.top_k, self.n_labels_))
        best = rank_pairs(
            candidates.rows, candidates.labels, learned.scores.astype(np.float32), shape=shape
        )
        self.calibrator_ = TopKCalibrator().fit(
            pack_topk(*best, self.n_labels_), held_out.y, held_out.sample_weight
        )

    def _inverse_propensity(self, labels: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the weights of labels; ones where there are too few rows to define them."""
        if self.n_member_samples_ < FEWEST_FOR_PROPENSITY:
            return np.ones(len(labels))
        return inverse_propensity(self.member_frequency_[labels], self.n_member_samples_)

    # ---- search

    def _depth(self, k: int) -> int:
        """Return for how many labels members are asked.

        The same for every k up to `top_k`, so that a shorter answer is the start of a longer one.
        """
        if self.target_layout_ != "sparse":
            return self.n_labels_
        return min(max(k, self.top_k), self.n_labels_)

    def _search(self, X: Features, k: int) -> TopK:
        blocks = [
            self._search_block(X[start : start + BLOCK_ROWS], k)
            for start in range(0, max(X.shape[0], 1), BLOCK_ROWS)
        ]
        labels, scores = zip(*blocks, strict=True)
        return np.concatenate(labels), np.concatenate(scores)

    def _search_block(self, X: Features, k: int) -> TopK:
        lists = self._lists(X, self._depth(k))
        candidates = collect_candidates(lists, self.n_labels_, self.combiner_.floors)
        if self.drops_own_labels_:
            candidates = candidates.take(~self._own_pairs(X, candidates))
        log_weight = np.log(self._inverse_propensity(candidates.labels))
        scores = self.combiner_.score(candidates, self.member_frequency_, log_weight)
        return rank_pairs(
            candidates.rows, candidates.labels, scores.astype(np.float32), shape=(X.shape[0], k)
        )

    def _lists(self, X: Features, k: int) -> list[TopK]:
        """Return the k best labels of every row by each member."""
        return [_ask(member, X, k) for member in self.estimators_]

    def _own_pairs(self, X: Features, candidates: Candidates) -> NDArray[np.bool_]:
        """Return which candidate labels have the text, or the features, of their sample."""
        if self.label_hashes_ is None:
            return np.zeros(len(candidates.rows), dtype=bool)
        equal = _hash_parts([X])[candidates.rows] == self.label_hashes_[candidates.labels]
        return equal.all(axis=1)

    # ---- new labels

    @available_if(_can_add_labels)
    def add_labels(self, label_features: Any, *, label_names: Any = None) -> Self:
        """Add labels that are known by their texts or features to every member.

        There only where all members have this method. Old labels keep their ids, and their scores
        as long as the new ones do not push them out of a member's list. A later `fit` or `clone`
        forgets added labels.

        Parameters
        ----------
        label_features : LabelTexts, sequence of str, or matrix of shape (n_new, n_features)
            The new labels, in the same form as the samples.
        label_names : sequence of str or None, default=None
            Names, where the other labels have names.

        Returns
        -------
        self
        """
        features, grown = self._check_new_labels(label_features, label_names)
        names = grown["label_names_"] and grown["label_names_"][self.n_labels_ :]
        n_new = grown["n_labels_"] - self.n_labels_
        grown["member_frequency_"] = np.pad(self.member_frequency_, (0, n_new))
        # Copies, so that a member that fails leaves the others as they were.
        grown["estimators_"] = [_grow(member, features, names) for member in self.estimators_]
        if self.label_hashes_ is not None:
            grown["label_hashes_"] = np.concatenate([self.label_hashes_, _hash_parts([features])])
        self.__dict__.update(grown)
        return self


def _is_frozen(member: Any) -> bool:
    return isinstance(member, FrozenEstimator)


def _give_seeds(member: Any, seed: int) -> None:
    """Set every `random_state` of a member that is None."""
    if _is_frozen(member):
        return
    names = [
        name
        for name, value in member.get_params().items()
        if value is None and (name == "random_state" or name.endswith("__random_state"))
    ]
    member.set_params(**dict.fromkeys(names, seed))


def _fit_member(member: Any, data: TrainingSet) -> Any:
    """Return a member fitted with those of the arguments that its `fit` takes."""
    if _is_frozen(member):
        return member
    return member.fit(data.X, data.y, **_arguments(member, data))


def _arguments(member: Any, data: TrainingSet) -> dict[str, Any]:
    """Return the keyword arguments of `data` that a member's `fit` takes."""
    label_features = data.label_features
    if label_features is not None:
        label_features = LabelTexts(label_features, names=data.label_names)
    arguments = {
        "graph": data.graph if _takes_graph(member, data.graph) else None,
        "sample_graph": data.sample_graph,
        "label_features": label_features,
        "sample_weight": data.sample_weight,
    }
    known = inspect.signature(member.fit).parameters
    return {name: value for name, value in arguments.items() if value is not None and name in known}


def _takes_graph(member: Any, graph: LabelGraph | AnchorGraph | str | None) -> bool:
    """Return whether a member's `fit` takes a graph of this kind."""
    if isinstance(graph, str):
        return graph in getattr(member, "_named_graphs", ())
    if isinstance(graph, AnchorGraph):
        return getattr(member, "_accepts_anchors", False)
    return "graph" in inspect.signature(member.fit).parameters


def _check_takers(members: list[Any], data: TrainingSet) -> None:
    """Raise if a graph would reach no member at all."""
    bare = [member for member in members if not _is_frozen(member)]
    handed = {name for member in bare for name in _arguments(member, data)}
    for name in ("graph", "sample_graph"):
        if bare and getattr(data, name) is not None and name not in handed:
            raise ValueError(
                f"`{name}` must be of a kind that some member uses, but none of "
                f"{[type(member).__name__ for member in members]} takes it. "
                f"Leave it out, or add a member that does."
            )


def _ask(member: Any, X: Features, k: int) -> TopK:
    """Return the k best labels of every row; pipelines have no predict_topk, but scores."""
    if hasattr(member, "predict_topk"):
        return member.predict_topk(X, k)
    scores = member.decision_function(X)
    if sp.issparse(scores):
        return rank_rows(sp.csr_array(scores), k)
    return top_k(np.asarray(scores), k)


def _grow(member: Any, features: Features, names: list[str] | None) -> Any:
    """Return a copy of a member with new labels."""
    if _is_frozen(member):
        return FrozenEstimator(_grow(member.estimator, features, names))
    if getattr(member, "label_names_", None) is None:
        names = None
    return copy.copy(member).add_labels(features, label_names=names)
