"""FusionXC: several estimators, and a rule learned on held-out rows that makes their scores one.

The recipe is `_train_and_calibrate`: hold rows out, fit the members on the rest, learn on the
held-out rows how to combine them, calibrate on the same rows by cross-fitted scores, and fit the
members once more on all rows, unless data are large.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from sklearn.utils.metaestimators import available_if

from skxc._hold_out import MODERATE_SAMPLE, hold_out
from skxc._label_side import LabelSideXC, NewLabelsMixin, SampleGraphMixin
from skxc._outputs import no_rows
from skxc._params import params
from skxc._training_set import Features, TrainingSet
from skxc.base import of_model
from skxc.calibration import TopKCalibrator
from skxc.estimators._fusion.members import (
    NamedMembers,
    all_frozen,
    can_add_labels,
    check_shares,
    check_takers,
    fit_members,
    frequency_of,
    known_frequency,
)
from skxc.estimators._fusion.model import FusionModel
from skxc.fusion import learn_combiner, make_objective
from skxc.fusion._candidates import lowest_scores
from skxc.ranking import rank_pairs
from skxc.utils._sparse import TopK, pack_topk


@params
class FusionXC(NamedMembers, SampleGraphMixin, NewLabelsMixin, LabelSideXC):
    """Several estimators, combined by a rule that is learned for the metric you name.

    Every member gives its `top_k` best labels; a label in any of these lists is a candidate, and a
    member that did not retrieve it gives it the smallest score of its own list. On training rows
    that the members have not seen, scores become probabilities, these are mixed by shares that are
    chosen for the objective, and boosted trees add what ranks, agreement and label frequency tell.
    For a label without training rows the largest probability counts instead of the mixture, since
    most members have heard nothing of it.
    Shares stay close to equal unless the held-out rows tell otherwise by more than two standard
    errors, or a single member is better there.

    Parameters
    ----------
    estimators : list of (str, estimator), default=None
        The members by name: estimators of this package, pipelines, or any classifier with
        ``predict_topk`` or ``decision_function``. One in a `sklearn.frozen.FrozenEstimator` is used
        as it is. None: ``[("tree", LinearTreeXC()), ("dual", DualEncoderXC())]``, the recommended
        default; with a graph or `sample_graph`, "dual" is a `GraphRegularizedXC`.
    objective : str or dict of str to float, default="precision@1"
        The metric to tune for: "precision@k", "recall@k", "ndcg@k", "psp@k", or a blend
        such as ``{"precision@1": 0.5, "psp@5": 0.5}``.
    method : {"trees", "linear"}, default="trees"
        "linear": a weighted sum of the members' probabilities. "trees": its log-odds, joined with
        those of gradient-boosted trees over pair features; one to a few percent better and slower.
    weights : array-like of shape (n_members,), default=None
        Fixed non-negative shares of the members, without a preference for rare labels. None:
        learned.
    top_k : int, default=100
        Number of labels that are retrieved per row, and candidates that each member is asked for.
    graph : sparse matrix, LabelGraph, AnchorGraph, "cooccurrence" or None, default=None
        For the members whose `fit` takes it.
    label_features : LabelTexts, sequence of str, matrix or None, default=None
        For the members whose `fit` takes them, in the same form as the samples.
    vectorizer : transformer or None, default=None
        Turns texts into one feature matrix for all members. None: members get `X` as it is.
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
    model_, classes_, n_labels_, label_names_, label_frequency_, n_samples_fit_, calibrator_
    vectorizer_, n_features_in_
        As in every estimator. Where all members are frozen, frequencies come from the first member
        that has them, since the rows given to `fit` are not the training rows; the rule knows none
        if no member has.

    Notes
    -----
    *Which rows learn what.* Members are fitted without the held-out rows, and up to 50,000 rows
    once more, on all; `calibration` says otherwise. Below 10 rows nothing is held out and all
    shares are equal. The rule's calibrators and trees are cross-fitted over the held-out rows, so
    what calibrates the fusion saw other rows only. A label of held-out rows alone looks unseen.

    *Frozen members.* Their scores are optimistic on rows that they were trained on, which misleads
    the rule. If all members are frozen, `fit` learns the rule on all rows it is given: give it rows
    that no member has seen.

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

    estimators: list | tuple | None = field(default=None, kw_only=False)
    objective: str | Mapping[str, float] = "precision@1"
    method: Literal["trees", "linear"] = "trees"
    weights: Annotated[Any, None, "array-like"] = None
    n_jobs: int | None = None

    _accepts_texts: ClassVar[bool] = True
    _named_graphs: ClassVar[tuple[str, ...]] = ("cooccurrence",)

    estimators_ = of_model("members", "The fitted members.")
    named_estimators_ = of_model("named_members", "The fitted members by name.")
    combiner_ = of_model("combiner", "The learned rule.")
    objective_ = of_model("objective", "The objective on held-out rows, cross-fitted.")
    member_objectives_ = of_model("member_objectives", "The same of each member alone.")
    member_frequency_ = of_model("frequency", "Weighted rows of the labels in the members' fit.")
    n_member_samples_ = of_model("n_samples", "Weighted number of rows of the members' fit.")

    def _check(self, data: TrainingSet) -> None:
        make_objective(self.objective)
        named = self._named_members(data)
        self._fresh_members(data)
        check_shares(self.weights, len(named))
        check_takers(named, data)

    def _refits(self, n_samples: int) -> bool:
        return n_samples <= MODERATE_SAMPLE

    def _train_and_calibrate(self, data: TrainingSet) -> dict[str, Any]:
        members = self._fresh_members(data)
        if all_frozen(members):
            # Frequencies of the rows given to `fit` would give away which labels are right in them.
            known = known_frequency(members)
            return self._learn(members, data, known, is_held_out=True) | known
        large = self.calibration == "auto" and not self._refits(data.n_samples)
        refits = not large and self.calibration != "held_out"
        rest, held_out = hold_out(data, given_back=refits)
        refits &= held_out is not None
        fitted, trials = fit_members(members, rest, self.n_jobs, held_out, is_trial=refits)
        rows, is_held_out = (data, False) if held_out is None else (held_out, True)
        learned = self._learn(fitted, rows, frequency_of(rest), is_held_out=is_held_out)
        if refits:
            fitted.clear()  # they take memory, and others are fitted now
            members = self._fresh_members(data)
            learned["model_"] = replace(
                learned["model_"],
                members=fit_members(members, data, self.n_jobs, trials=trials)[0],
                frequency=data.label_frequency,
                n_samples=data.sample_weight.sum().item(),
            )
        for trial in trials:
            trial.finish()
        return learned

    def _learn(
        self, members: list[Any], rows: TrainingSet, known: dict[str, Any], *, is_held_out: bool
    ) -> dict[str, Any]:
        """Learn the rule and the calibrator on rows that the members have not seen."""
        dense = rows.attributes["target_layout_"] != "sparse"
        model = FusionModel(
            names=[name for name, _ in self._named_members(rows)],
            members=members,
            combiner=None,
            frequency=known.get("label_frequency_", np.zeros(rows.n_labels)),
            n_samples=known.get("n_samples_fit_", 0),
            depth=rows.n_labels if dense else min(self.top_k, rows.n_labels),
        )
        lists = model.lists(rows.X, model.depth)
        candidates = model.candidates(lists, rows.own)
        learned = learn_combiner(
            candidates,
            rows.y,
            objective=make_objective(self.objective),
            label_frequency=model.frequency,
            inverse_propensity=model.inverse_propensity(np.arange(rows.n_labels)),
            floors=lowest_scores(lists),
            trees=self.method == "trees",
            shares=check_shares(self.weights, len(lists)),
            row_weight=rows.sample_weight,
            search=is_held_out,
        )
        model = model.with_rule(learned)
        if self.calibration is None:
            return {"model_": model}
        shape = (candidates.n_rows, min(self.top_k, rows.n_labels))
        scores = learned.scores.astype(np.float32)
        best = rank_pairs(candidates.rows, candidates.labels, scores, shape=shape)
        calibrator = TopKCalibrator(by_rank=True).fit(
            pack_topk(*best, rows.n_labels), rows.y, rows.sample_weight
        )
        return {"model_": model, "calibrator_": calibrator}

    def _search(self, model: FusionModel, X: Features, own: Any, k: int) -> TopK:
        return self._current(model).search(X, k, own) if X.shape[0] else no_rows(k)

    def _current(self, model: FusionModel) -> FusionModel:
        # Members are asked for as many labels, whatever k, so that the best do not depend on it.
        if self.target_layout_ != "sparse":
            return model
        return replace(model, depth=min(self.top_k, len(model.frequency)))

    @available_if(can_add_labels)
    def add_labels(self, label_features: Any, *, label_names: Any = None) -> Any:
        """Add labels that are known by their texts or features to every member.

        There only where all members have this method, whose description holds here too. Old labels
        keep their scores as long as the new ones do not push them out of a member's list.

        Parameters
        ----------
        label_features : LabelTexts, sequence of str, or matrix of shape (n_new, n_features)
        label_names : sequence of str or None, default=None

        Returns
        -------
        self
        """
        return super().add_labels(label_features, label_names=label_names)
