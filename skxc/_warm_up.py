"""Compile ahead what estimators compile when they are first used."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np


def warm_up() -> list[str]:
    """Compile all loops that numba compiles, and keep them for other processes.

    Estimators compile when they are first used, which takes up to 40 s once per machine. Call this
    where that time is free: when an image is built, or when a service starts.

    Returns
    -------
    list of str
        The folders that hold the compiled functions: ``__pycache__`` of the package or, where
        ``NUMBA_CACHE_DIR`` names a folder, that one. Empty where nothing can be written to; then
        only this process has gained.

    Notes
    -----
    Later processes may read these folders without being able to write to them. Functions are
    compiled for the processor at hand: another kind of processor compiles them anew.

    Examples
    --------
    >>> import skxc
    >>> folders = skxc.warm_up()  # doctest: +SKIP
    """
    from skxc.datasets import make_planted_xc
    from skxc.estimators import DualEncoderXC, LearnedIndexXC, LinearTreeXC
    from skxc.fusion import BoostedTrees
    from skxc.labels import LabelTexts
    from skxc.linear import LabelTree
    from skxc.utils._compiled import FUNCTIONS

    data = make_planted_xc(n_samples=200, n_labels=40, n_test=4, random_state=0)
    texts = data.test_texts or []
    tree = LabelTree(flat=False, max_leaf_size=8)
    tiny = {"encoder__dim": 8, "encoder__n_buckets": 64}
    models: list[Any] = [
        LinearTreeXC(tree=tree, random_state=0),
        DualEncoderXC(n_epochs=1, random_state=0).set_params(**tiny),
        LearnedIndexXC(n_epochs=1, random_state=0).set_params(**tiny),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for model in models:
            arguments: dict[str, Any] = {}
            if hasattr(model, "label_features"):
                arguments["label_features"] = LabelTexts(data.label_texts)
            model.fit(data.train_texts, data.train_labels, **arguments)
            model.predict_topk(texts, 2)
            model.predict_topk(texts[:1], 2)
    rng = np.random.default_rng(0)
    features, hits = rng.random((200, 3)), rng.integers(0, 2, 200)
    BoostedTrees().fit(features, hits, np.ones(200)).log_odds(features)
    return sorted({function._cache.cache_path for function in FUNCTIONS} - {None})
