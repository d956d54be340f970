"""Members of a fusion: estimators of this package, pipelines, any classifier, frozen or not."""

from __future__ import annotations

import copy
import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.parallel import Parallel, delayed

from skxc._hold_out import JointFit, train_and_calibrate
from skxc._model import Trial
from skxc._params import Parameterized
from skxc._training_set import Features, TrainingSet
from skxc.labels import AnchorGraph, LabelGraph, LabelTexts
from skxc.utils._bases import BaseComposition
from skxc.utils._memory import check_memory
from skxc.utils._random import root_seed, stream
from skxc.utils._sparse import TopK, pack_topk, rank_rows, row_ids, top_k
from skxc.utils._validation import check_total

if TYPE_CHECKING:
    from typing_extensions import Self

Members = list[tuple[str, Any]]


def default_members(with_graph: bool) -> Members:
    """Return the recommended members, unfitted, whose encoder may learn from a graph."""
    from skxc.estimators import DualEncoderXC, GraphRegularizedXC, LinearTreeXC

    encoder = GraphRegularizedXC() if with_graph else DualEncoderXC()
    return [("tree", LinearTreeXC()), ("dual", encoder)]


class NamedMembers(BaseComposition):
    """An estimator whose members are parameters by their names."""

    estimators: Any
    random_state: Any
    graph: Any

    def _fresh_members(self, data: TrainingSet | None = None) -> list[Any]:
        """Return checked clones of the members, with seeds where they have none."""
        named = self._named_members(data)
        _check_members(named, self.estimators)
        self._validate_names([name for name, _ in named])
        members = [clone(member) for _, member in named]
        if self.random_state is not None:
            seed = root_seed(self.random_state)
            for (name, _), member in zip(named, members, strict=True):
                _give_seeds(member, int(stream(seed, name).integers(2**31)))
        return members

    def _score_pairs(self, model: Any, queries: Any, own: Any, rows: Any, labels: Any) -> Any:
        return model.score_pairs(queries, rows, labels, own)

    def _named_members(self, data: TrainingSet | None = None) -> list[tuple[str, Any]]:
        """Return the members as given, or the default ones for these data."""
        if self.estimators is not None:
            return list(self.estimators)
        graph = self.graph if data is None else data.graph
        has_edges = data is not None and data.sample_graph is not None
        # Edges that are read off the labels tell an encoder of anchors nothing.
        return default_members(has_edges or not (graph is None or isinstance(graph, str)))

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
            default = self._named_members()
            if {name for name, _ in default} & {key.partition("__")[0] for key in params}:
                self.estimators = default
        self._set_params("estimators", **params)
        return self


def can_add_labels(fusion: Any) -> bool:
    """Return whether all members of a fusion, fitted or not, have `add_labels`."""
    model = vars(fusion).get("model_")
    members = [m for _, m in fusion._named_members()] if model is None else model.members
    return all(hasattr(member, "add_labels") for member in members)


def _check_members(named: Members, given: Any) -> None:
    """Raise unless members are named classifiers."""
    if not named or not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in named):
        raise ValueError(
            "`estimators` must be a list of (name, estimator) pairs with at least one pair, "
            f"but is {given!r}. Write [('tree', LinearTreeXC())], for example."
        )
    for name, member in named:
        if isinstance(member, type) or not (
            hasattr(member, "fit")
            and (hasattr(member, "predict_topk") or hasattr(member, "decision_function"))
        ):
            raise ValueError(
                f"`estimators` must hold classifiers with predict_topk or decision_function, "
                f"but {name!r} is {member!r}. Pass an instance such as LinearTreeXC()."
            )
        if isinstance(member, Parameterized):  # scikit-learn validates the outermost estimator only
            member._validate_params()


def check_shares(weights: Any, n_members: int) -> NDArray[np.float64] | None:
    """Return given shares of the members, None where they are to be learned."""
    if weights is None:
        return None
    shares = np.asarray(weights, dtype=np.float64)
    valid = shares.shape == (n_members,) and (shares >= 0).all() and np.isfinite(shares).all()
    if not valid or not shares.any():
        raise ValueError(
            f"`weights` must hold {n_members} non-negative numbers that are not all zero, one "
            f"per member, but is {weights!r}. Use None to learn them."
        )
    check_total("weights", shares)
    return shares


def is_frozen(member: Any) -> bool:
    """Return whether a member is used as it is."""
    return isinstance(member, FrozenEstimator)


def all_frozen(members: list[Any]) -> bool:
    """Return whether no member is to be fitted."""
    return all(map(is_frozen, members))


def known_frequency(members: list[Any]) -> dict[str, Any]:
    """Return label frequencies of a member that was fitted on the training rows, if any has."""
    for member in members:
        if hasattr(member, "label_frequency_"):
            return {
                "label_frequency_": member.label_frequency_,
                "n_samples_fit_": member.n_samples_fit_,
            }
    return {}


def frequency_of(data: TrainingSet) -> dict[str, Any]:
    """Return the label frequencies of training rows."""
    n_samples = data.sample_weight.sum().item()
    return {"label_frequency_": data.label_frequency, "n_samples_fit_": n_samples}


def fit_members(
    members: list[Any],
    data: TrainingSet,
    n_jobs: int | None,
    held_out: TrainingSet | None = None,
    trials: list[Trial] | None = None,
    *,
    is_trial: bool = False,
) -> tuple[list[Any], list[Trial]]:
    """Return the members, fitted on `data` unless they are frozen, and what held-out rows chose.

    Parameters
    ----------
    members : list of estimator
    data : TrainingSet
    n_jobs : int or None
    held_out : TrainingSet, optional
        Rows by which members choose and calibrate, in place of rows of their own.
    trials : list of Trial, optional
        What a first fit of each member chose; members then hold no rows out either.
    is_trial : bool, default=False
        Whether they are fitted a second time.
    """
    joint = [JointFit(held_out, is_trial, trial) for trial in trials or [Trial() for _ in members]]
    alone = held_out is None and trials is None
    fitted = Parallel(n_jobs=n_jobs)(
        delayed(_fit_member)(member, data, None if alone else one)
        for member, one in zip(members, joint, strict=True)
    )
    return [member for member, _ in fitted], [trial for _, trial in fitted]


def check_takers(named: Members, data: TrainingSet) -> None:
    """Raise if a graph would reach no member at all, or a frozen member knows other labels."""
    for name, member in named:
        n_labels = len(getattr(member, "classes_", ())) if is_frozen(member) else 0
        if n_labels and n_labels != data.n_labels:
            raise ValueError(
                f"The frozen member {name!r} must know the {data.n_labels} labels of `y`, but "
                f"was fitted with {n_labels}. Pass a `y` with the columns of its training."
            )
    bare = [member for _, member in named if not is_frozen(member)]
    for member in bare:
        if hasattr(member, "_needed_bytes"):  # before another member is fitted for long
            check_memory(type(member).__name__, member._needed_bytes(data))
    handed = {name for member in bare for name in _arguments(member, data)}
    for name in ("graph", "sample_graph"):
        if bare and getattr(data, name) is not None and name not in handed:
            raise ValueError(
                f"`{name}` must be of a kind that some member uses, but none of "
                f"{[type(member).__name__ for _, member in named]} takes it. "
                f"Leave it out, or add a member that does."
            )


def ask(member: Any, X: Features, k: int) -> TopK:
    """Return the k best labels of every row; pipelines have no predict_topk, but scores."""
    if hasattr(member, "predict_topk"):
        return member.predict_topk(X, k)
    scores = member.decision_function(X)
    if sp.issparse(scores):
        return rank_rows(sp.csr_array(scores), k)
    return top_k(np.asarray(scores), k)


def ask_pairs(member: Any, X: Features, pairs: sp.csr_array) -> sp.csr_array:
    """Return the scores of pairs, without those that the member cannot score."""
    predict = getattr(member, "predict_topk", None)
    if predict is not None and "candidates" in inspect.signature(predict).parameters:
        widest = int(np.diff(pairs.indptr).max(initial=1))
        labels, found = predict(X, widest, candidates=pairs)
        return pack_topk(labels, found, pairs.shape[1])
    scores = member.decision_function(X)
    if sp.issparse(scores):
        return sp.csr_array(scores)
    rows = row_ids(pairs)
    parts = np.asarray(scores)[rows, pairs.indices], pairs.indices, pairs.indptr
    return sp.csr_array(parts, shape=pairs.shape)


def grown(member: Any, features: Features) -> Any:
    """Return a copy of a member with new labels."""
    if is_frozen(member):
        return FrozenEstimator(grown(member.estimator, features))
    names = None
    if getattr(member, "label_names_", None) is not None:
        # The fusion answers with its own names; those of members only have to be there.
        first = member.n_labels_
        names = [f"added label {label}" for label in range(first, first + features.shape[0])]
    return copy.copy(member).add_labels(features, label_names=names)


def _give_seeds(member: Any, seed: int) -> None:
    """Set every `random_state` of a member that is None."""
    if is_frozen(member):
        return
    names = [
        name
        for name, value in member.get_params().items()
        if value is None and (name == "random_state" or name.endswith("__random_state"))
    ]
    member.set_params(**dict.fromkeys(names, seed))


def _fit_member(member: Any, data: TrainingSet, joint: JointFit | None) -> tuple[Any, Trial]:
    """Return a member fitted with those of the arguments that its `fit` takes, and its choices."""
    trial = Trial() if joint is None else joint.trial
    if is_frozen(member):
        return member, trial
    arguments = _arguments(member, data)
    if joint is not None and _fits_jointly(member):
        return member._fit(data.X, data.y, joint=joint, **arguments), trial
    return member.fit(data.X, data.y, **arguments), trial


def _fits_jointly(member: Any) -> bool:
    """Return whether a member leaves it to the fusion which rows are held out.

    A subclass with a `fit` of its own may do more than `_fit`, which takes these rows.
    """
    kind = type(member)
    if getattr(kind, "_train_and_calibrate", None) is not train_and_calibrate:
        return False
    return member.calibration == "auto" and kind.fit.__module__.startswith("skxc.")


def _arguments(member: Any, data: TrainingSet) -> dict[str, Any]:
    """Return the keyword arguments of `data` that a member's `fit` takes."""
    label_features = data.label_features
    if label_features is not None:
        label_features = LabelTexts(label_features, names=data.label_names)
    arguments = {
        "graph": data.graph if _takes_graph(member, data.graph) else None,
        "sample_graph": data.sample_graph,
        "label_features": label_features,
        "groups": data.groups,
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
