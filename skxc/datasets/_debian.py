"""The bundled data set."""

from __future__ import annotations

from pathlib import Path

from skxc.datasets._dataset import XCDataset
from skxc.datasets._npz_folder import read_npz_folder


def load_debian_related() -> XCDataset:
    """Load the bundled set: a Debian package's name and description to its related packages.

    A sample is a package, its labels are the packages that it recommends, suggests or enhances.
    9,108 training samples, 2,112 test samples, 11,920 labels of which 90 % have fewer than five
    training samples and 10 % none; 20 % of the test pairs are of labels without training samples.
    Texts on both sides, filters, the anchor sets ``depends``, ``tag``, ``maintainer`` and
    ``section`` with texts, the label graphs ``depends`` and ``samesource``. Source, licence and
    cautions are in the ``README.md`` beside the data; ``tools/build_debian_related.py`` of the
    repository makes the set again.

    Returns
    -------
    XCDataset

    Examples
    --------
    >>> from skxc.datasets import load_debian_related
    >>> data = load_debian_related()
    >>> data.n_train, data.n_test, data.n_labels
    (9108, 2112, 11920)
    >>> data.train_texts[2]
    '0install core : cross-distribution packaging system (non-GUI parts)'
    """
    return read_npz_folder(Path(__file__).parent / "data" / "debian_related")
