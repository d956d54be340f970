"""LabelGraphXC: classifiers made of label text, label graph and a free vector (after ECLARE).

The recipe is `_train`: a random walk over the training labels gives the label graph; balanced
clusters of labels smoothed by it are the outputs of the surrogate, which learns the token
embeddings; then every member trains a shortlister over clusters and a ranker of the labels in the
shortlists.
Prediction is a product of both probabilities, spread over the graphs.
"""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

from sklearn.base import clone

from skxc._params import PositiveFloat, PositiveInt, params
from skxc._training_set import TrainingSet
from skxc.base import of_model
from skxc.encoders import BagEncoder
from skxc.estimators._label_graph.classifiers import Classifiers
from skxc.estimators._label_graph.clusters import LabelClusters
from skxc.estimators._label_graph.member import Ranker, SearchSettings
from skxc.estimators._label_graph.model import LabelGraphFigures, LabelGraphModel
from skxc.estimators._label_graph.problem import Problem
from skxc.estimators._label_graph.stages import STAGES, Stages
from skxc.estimators._neural import NeuralFit, NeuralXC
from skxc.graphs import RandomWalk
from skxc.losses import LogitLoss, LossLike, make_loss

# Of all stages.
LEARNING_RATE = 0.01


@params
class LabelGraphXC(NeuralXC):
    """Classifiers made of label text, label graph and a free vector (after ECLARE).

    A random walk over the training labels alone makes a graph of related labels. A label's
    classifier is an attention-weighted sum of its text and of a free vector, plus the text of its
    neighbours in the graph, as far as that helps on rows that the graph does not rest on. The graph
    also smooths the clusters of the shortlist, adds negatives, and spreads the scores of clusters.
    Texts are bags of words, so a fit takes minutes on a CPU. `skxc.presets.eclare` is the paper's
    form.

    Without label texts, a label is described by the words of its training rows, and labels without
    any are never predicted. Scores are products of two probabilities in (0, 1), averaged
    over the members.

    Parameters
    ----------
    encoder : BagEncoder or None, default=None
        Token embeddings; None: `skxc.encoders.BagEncoder`. Its residual block is left out, because
        every stage has blocks of its own.
    walk : RandomWalk, False or None, default=None
        The walk over the training labels. None: `skxc.graphs.RandomWalk`; False: no graph anywhere,
        which leaves DECAF with attention.
    clusters : LabelClusters or None, default=None
        Clusters of labels, which make the shortlist of a row.
    classifiers : Classifiers or None, default=None
        What classifiers are made of.
    ranker : Ranker or None, default=None
        Which labels compete.
    loss : str or LogitLoss, default="decoupled"
        Of all stages: the decoupled softmax of DEXML, or "bce", the logistic loss of the paper,
        which serves rare labels less. Every loss of logits in `skxc.losses` will do.
    n_estimators : int, default=1
        Members whose probabilities are averaged; the paper has 3.
    n_epochs : int or tuple of 3 int, default=(3, 2, 4)
        Epochs of surrogate, shortlister and ranker.
    learning_rate : float, tuple of 3 float or None, default=None
        Of the tables, in the three stages; None: 0.01. What all labels share learns at a tenth.
    graph : sparse matrix, LabelGraph or None, default=None
        Your own graph over the labels, in place of the walk. It is cut to ``walk.top_k`` edges per
        label and normalised, and neither the rule for hubs nor that for texts applies to it. A
        graph made from all of `y` before a cross-validation leaks test labels; the graph of the
        walk does not, because every fit makes its own.

    Attributes
    ----------
    label_graph_ : csr_array of float32, shape (n_labels, n_labels)
        The normalised graph of the first member; empty rows for labels that cannot be predicted,
        and no entries at all with ``walk=False``.
    fusion_weights_ : ndarray of float32, shape (n_labels, n_components_of_a_classifier)
        The first member's weights of own text, of neighbours (with a graph) and of the free vector.
    shortlist_recall_ : dict of str to float
        Share of the training pairs ("train") and held-out pairs ("held_out") whose label is in the
        first member's shortlist.
    estimators_ : tuple of ShortlistRanker
        The members: clusters and classifiers.
    trained_labels_ : ndarray of int64
        Ids of the labels that can be predicted, in the order of the members.
    encoder_ : BagEncoder
        Token embeddings of the first member's ranker.
    n_clusters_ : int
        Clusters of the first member.
    history_ : list of dict
        Stage, loss and, with early stopping, held-out precision of every epoch.
    n_iter_ : int
        Epochs of all stages.
    model_ : LabelGraphModel
    classes_, n_labels_, label_names_, label_frequency_, n_samples_fit_, calibrator_
    vectorizer_, n_features_in_
        As in every estimator.

    References
    ----------
    ECLARE (WWW 2021); DECAF (WSDM 2021).

    Examples
    --------
    >>> from skxc import LabelGraphXC
    >>> from skxc.datasets import make_planted_xc
    >>> data = make_planted_xc(n_samples=200, n_labels=30, random_state=0)
    >>> model = LabelGraphXC(n_epochs=3, random_state=0)
    >>> model = model.fit(data.train_texts, data.train_labels, label_features=data.label_texts)
    >>> model.predict_topk(data.test_texts[:3], k=2)[0].shape
    (3, 2)
    """

    encoder: BagEncoder | None = None
    walk: RandomWalk | Literal[False] | None = None
    clusters: LabelClusters | None = None
    classifiers: Classifiers | None = None
    ranker: Ranker | None = None
    loss: LossLike = "decoupled"
    n_estimators: PositiveInt = 1
    n_epochs: PositiveInt | tuple[int, int, int] = (3, 2, 4)  # type: ignore[assignment]
    learning_rate: PositiveFloat | tuple[float, float, float] | None = None  # type: ignore[assignment]

    # Building the classifiers is most of a step, so that smaller batches are not cheaper.
    _fewest_steps: ClassVar[int] = 16
    _search_parameters: ClassVar[tuple[str, ...]] = (
        *("clusters__beam_width", "clusters__power", "clusters__propagate"),
        *("ranker__propagate", "ranker__unseen_weight", "top_k"),
    )

    label_graph_ = of_model("figures.label_graph", "The normalised label graph.")
    fusion_weights_ = of_model("figures.fusion_weights", "Weights of the components.")
    shortlist_recall_ = of_model("figures.shortlist_recall", "Share of pairs in the shortlists.")
    estimators_ = of_model("members", "Clusters and classifiers.")
    trained_labels_ = of_model("labels", "Ids of the labels that can be predicted.")
    encoder_ = of_model("encoder", "Token embeddings.")
    n_clusters_ = of_model("n_clusters", "Clusters of the first member.")
    history_ = of_model("figures.history", "Records of the epochs.")
    n_iter_ = of_model("figures.n_iter", "Epochs of all stages.")

    def _check(self, data: TrainingSet) -> None:
        self._per_stage("n_epochs", Integral), self._per_stage("learning_rate", Real)
        self._logit_loss()
        training = self._part("training")
        for name, does_nothing in (
            ("micro_batch_size", training.micro_batch_size is not None),
            ("precision", training.precision == "bfloat16"),
        ):
            if does_nothing:
                raise ValueError(
                    f"`training__{name}` must keep its default because bags of words train in "
                    f"whole batches of float32, but is {getattr(training, name)!r}. Leave it out."
                )

    def _train(self, fit: NeuralFit) -> LabelGraphModel:
        ranker, walk = self._part("ranker"), self._part("walk")
        classifiers = self._part("classifiers")
        encoder = clone(self._part("encoder")).set_params(residual=False)
        problem = Problem.of(fit, encoder, has_unseen=ranker.unseen_weight > 0)
        stages = Stages(
            fit,
            problem,
            walk,
            [] if walk is None else problem.edges(walk, apart=classifiers.fusion == "gated"),
            self._part("clusters"),
            classifiers,
            ranker,
            loss=self._logit_loss(),
            batch_size=self._size_of_batches(len(problem.sample_weight)),
            n_epochs=self._per_stage("n_epochs", Integral),
            learning_rate=self._per_stage("learning_rate", Real),
        )
        figures = LabelGraphFigures(history=[])
        model = LabelGraphModel((), problem.labels, self._settings(), self.device, figures)
        model = stages.surrogate(model)
        for number in range(self.n_estimators):
            model = stages.member(model, number)
        return model

    def _per_stage(self, name: str, kind: Any) -> tuple[Any, ...]:
        """Return a parameter as one positive number for each of the three stages."""
        value = getattr(self, name)
        value = LEARNING_RATE if value is None else value
        values = value if isinstance(value, tuple) else (value,) * len(STAGES)
        if len(values) != len(STAGES) or not all(isinstance(v, kind) and v > 0 for v in values):
            raise ValueError(
                f"`{name}` must be a positive number, or one for each of the stages "
                f"{', '.join(STAGES)}, but is {value!r}."
            )
        return values

    def _logit_loss(self) -> LogitLoss:
        loss = make_loss(self.loss)
        if isinstance(loss, LogitLoss):
            return loss
        raise ValueError(
            "`loss` must be a loss of logits, because scores become probabilities, but is "
            f"{self.loss!r}. Pass 'decoupled' or 'bce'."
        )

    # ---- search

    def _settings(self) -> SearchSettings:
        """Return what may be changed after `fit`."""
        clusters, ranker = self._part("clusters"), self._part("ranker")
        return SearchSettings(
            beam_width=clusters.beam_width,
            power=clusters.power,
            width=max(clusters.beam_width, self.top_k),
            unseen_weight=ranker.unseen_weight,
            propagate_clusters=clusters.propagate,
            propagate_labels=ranker.propagate,
        )

    def _search_settings(self) -> str:
        settings = self._settings()
        # A longer list changes scores only where they spread.
        return repr(settings if settings.propagate_labels else replace(settings, width=0))

    def _current(self, model: LabelGraphModel) -> LabelGraphModel:
        return replace(model, settings=self._settings(), device=self.device)
