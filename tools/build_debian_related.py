"""Build the data set ``debian_related`` from the package lists of a Debian machine.

``python tools/build_debian_related.py OUTPUT [--lists FOLDER] [--suite S] [--arch A]``

The lists are the ``Packages`` files that ``apt-get update`` leaves on the machine. A private copy,
which leaves the machine's own lists alone, is made by ::

    mkdir -p lists/partial
    apt-get -o Dir::State::lists="$PWD/lists" update
    python tools/build_debian_related.py OUTPUT --lists lists

Lists that apt keeps packed as ``.lz4`` are read through the program ``lz4``.

Task
    A sample is a binary package. Its text is the name split into words, a colon, and the one-line
    description. Its labels are the packages that its fields Recommends, Suggests and Enhances name,
    in every alternative (``a | b``); a virtual name counts where exactly one package provides it.
    Label texts are made like sample texts.
Rules
    Pairs inside one source package are dropped. A target of more than `MAX_SAMPLES` packages is no
    label. A package with more than `MAX_LABELS` labels is a collection and no sample. Of the
    packages of one source that have the same labels only `FAMILY_SAMPLES` stay samples, or one
    flipped rank would move precision by many percent. One fifth of the *source* packages, by a hash
    of the name, is the test side, so siblings never part. A test pair whose reverse is a training
    pair is in `test_filter` instead, together with the package itself and its siblings.
Metadata
    Anchors ``depends`` (packages that a package depends on), ``tag``, ``maintainer`` and
    ``section`` link training samples and labels. Label graphs are ``depends`` and ``samesource``.
    No ``depends`` edge starts at a package of the test side, so test samples never lend their
    relations to labels.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import hashlib
import logging
import lzma
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from skxc.datasets import Anchors, XCDataset, save_xc_repository

MAX_SAMPLES = 600
MAX_LABELS = 100
FAMILY_SAMPLES = 3
ANCHOR_USES = (2, 500)
TEST_SHARE = 0.2
SPLIT_SALT = "xmc1"
DEPENDS = ("Depends", "Pre-Depends")
RELATED = ("Recommends", "Suggests", "Enhances")

_logger = logging.getLogger("skxc")
_README = """# debian_related

Name and one-line description of a Debian package -> packages that it recommends, suggests or
enhances. `load_debian_related()` reads it.

## Source and licence
Made by `python tools/build_debian_related.py` from the `Packages` index (main) of
Debian {release}.

Debian publishes its archive metadata for free use. The one-line descriptions belong to the packages
they describe and are under these packages' own free licences, so no single licence text covers the
whole set. E-mail addresses are removed from the names of maintainers.

## Numbers

| what | value |
| --- | --- |
| training samples / pairs | {n_train:,} / {train_pairs:,} |
| test samples / pairs | {n_test:,} / {test_pairs:,} |
| labels | {n_labels:,} |
| labels with fewer than 5 / no training samples | {tail:.1%} / {unseen:.1%} |
| test pairs whose label has no training sample | {unseen_pairs:.1%} |
| columns: {anchor_names} | {anchor_sizes} |

How samples, labels, the split, filters and graphs are defined is written at the top of the builder.

## Cautions
- Many test packages are labels too; the filter drops a package itself from its own predictions.
- About 1.5 % of the test pairs can be read from the `depends` metadata, because the label's package
  depends on the test package. Say so when a method uses these graphs, or mask anchors and
  neighbours whose text equals the query.
- Name families (python3-*, r-cran-*, golang-*-dev) help nearest neighbours.
- Some labels have no pair left in training or test; they stay as distractors.
"""


class Archive:
    """The packages of one suite: their fields, source packages, texts and relations.

    Parameters
    ----------
    packages : str
        Content of a ``Packages`` index.
    """

    def __init__(self, packages: str) -> None:
        self.fields = {fields["Package"]: fields for fields in _paragraphs(packages)}
        self.source = {n: p.get("Source", n).split(" ")[0] for n, p in self.fields.items()}
        self._providers: dict[str, set[str]] = defaultdict(set)
        for name, fields in self.fields.items():
            for virtual in _package_names(fields.get("Provides", "")):
                self._providers[virtual].add(name)

    def on_test_side(self, name: str) -> bool:
        """Return whether a hash puts the source of this package on the test side."""
        digest = hashlib.sha1(f"{SPLIT_SALT}|{self.source[name]}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2.0**64 < TEST_SHARE

    def relations(self, name: str, kinds: Iterable[str]) -> set[str]:
        """Return the packages of other source packages that some fields of a package name."""
        named = {t for kind in kinds for t in _package_names(self.fields[name].get(kind, ""))}
        real = {self._real(target) for target in named} - {None}
        return {t for t in real if t is not None and self.source[t] != self.source[name]}

    def _real(self, target: str) -> str | None:
        """Return a package itself, the only provider of a virtual one, or None."""
        if target in self.fields:
            return target
        providers = self._providers.get(target, set())
        return next(iter(providers)) if len(providers) == 1 else None

    def text(self, name: str) -> str:
        """Return the words of the name, a spaced colon, and the one-line description."""
        words = re.sub(r"[-_.+]+", " ", name)
        return _squeeze(f"{words} : " + self.fields[name]["Description"].split("\n")[0])

    def tags(self, name: str) -> set[str]:
        """Return the debtags of a package."""
        return {t.strip() for t in self.fields[name].get("Tag", "").split(",") if t.strip()}

    def maintainer(self, name: str) -> set[str]:
        """Return the maintainer of a package, with address."""
        return {self.fields[name]["Maintainer"]}

    def section(self, name: str) -> set[str]:
        """Return the archive section of a package."""
        return {self.fields[name]["Section"]}


def build(archive: Archive) -> XCDataset:
    """Make the data set from an archive; the rules are at the top of this file.

    Parameters
    ----------
    archive : Archive
        The packages of one suite.

    Returns
    -------
    XCDataset
        Samples and labels in the order of their names.
    """
    targets = _label_targets(archive)
    samples = _samples(archive, targets)
    labels = sorted(set().union(*(targets[n] for n in samples)))
    column = {t: j for j, t in enumerate(labels)}
    siblings: dict[str, set[str]] = defaultdict(set)
    for t in labels:
        siblings[archive.source[t]].add(t)

    train = [n for n in samples if not archive.on_test_side(n)]
    known, depends = set(train), _dependencies(archive)
    reverse = {n: {t for t in targets[n] & known if n in targets[t]} for n in samples}
    test = [n for n in samples if archive.on_test_side(n) and targets[n] - reverse[n]]

    def pairs(rows: Iterable[Iterable[str]]) -> sp.csr_array:
        return _indicator(rows, column)

    return XCDataset(
        train_labels=pairs(targets[n] for n in train),
        test_labels=pairs(targets[n] - reverse[n] for n in test),
        train_filter=pairs(siblings[archive.source[n]] for n in train),
        test_filter=pairs(reverse[n] | siblings[archive.source[n]] for n in test),
        train_texts=[archive.text(n) for n in train],
        test_texts=[archive.text(n) for n in test],
        label_texts=[archive.text(t) for t in labels],
        train_ids=train,
        test_ids=test,
        label_names=labels,
        graphs={
            "samesource": pairs(siblings[archive.source[t]] - {t} for t in labels),
            "depends": pairs(depends[t] & column.keys() for t in labels),
        },
        anchors=_all_anchors(archive, depends, train, labels),
    )


# ---------------------------------------------------------------- samples and labels
def _label_targets(archive: Archive) -> dict[str, set[str]]:
    """Return the related packages of every package, without those related to too many."""
    related = {n: archive.relations(n, RELATED) for n in archive.fields}
    uses = Counter(t for found in related.values() for t in found)
    return {n: {t for t in found if uses[t] <= MAX_SAMPLES} for n, found in related.items()}


def _samples(archive: Archive, targets: dict[str, set[str]]) -> list[str]:
    """Return the packages that are samples: no collections, few of a family, drawn by a hash."""
    families = defaultdict(list)
    for name, found in targets.items():
        if 0 < len(found) <= MAX_LABELS:
            families[archive.source[name], frozenset(found)].append(name)

    def draw(name: str) -> bytes:
        return hashlib.sha1(name.encode()).digest()

    kept = (sorted(members, key=draw)[:FAMILY_SAMPLES] for members in families.values())
    return sorted(name for names in kept for name in names)


# ---------------------------------------------------------------- metadata
def _dependencies(archive: Archive) -> dict[str, set[str]]:
    """Return what every package depends on: no hubs, nothing for packages of the test side."""
    found = {n: archive.relations(n, DEPENDS) for n in archive.fields}
    uses = Counter(a for targets in found.values() for a in targets)
    return {
        n: set() if archive.on_test_side(n) else {a for a in targets if uses[a] <= ANCHOR_USES[1]}
        for n, targets in found.items()
    }


def _dependency_nodes(archive: Archive) -> list[str]:
    """Return the packages that neither too few nor too many packages depend on."""
    uses = Counter(a for n in archive.fields for a in archive.relations(n, DEPENDS))
    return sorted(a for a, count in uses.items() if ANCHOR_USES[0] <= count <= ANCHOR_USES[1])


def _all_anchors(
    archive: Archive, depends: dict[str, set[str]], train: list[str], labels: list[str]
) -> dict[str, Anchors]:
    def anchors(of: Callable[[str], set[str]], nodes: list[str], texts: list[str]) -> Anchors:
        column = {node: j for j, node in enumerate(nodes)}
        samples = _indicator((of(n) & column.keys() for n in train), column)
        return Anchors(samples, _indicator((of(t) & column.keys() for t in labels), column), texts)

    def every(of: Callable[[str], set[str]]) -> list[str]:
        return sorted(set().union(*map(of, archive.fields)))

    packages = _dependency_nodes(archive)
    tags, people, sections = map(every, (archive.tags, archive.maintainer, archive.section))
    people_names = [re.sub(r"\s*<[^>]*>,?", "", person) for person in people]
    return {
        "depends": anchors(depends.__getitem__, packages, [archive.text(a) for a in packages]),
        "tag": anchors(archive.tags, tags, [_squeeze(t.replace("::", " ")) for t in tags]),
        "maintainer": anchors(archive.maintainer, people, [_squeeze(n) for n in people_names]),
        "section": anchors(archive.section, sections, sections),
    }


def _indicator(rows: Iterable[Iterable[str]], column: dict[str, int]) -> sp.csr_array:
    """Return the matrix of float32 ones, one row per set of names; names without a column raise."""
    numbers = [sorted(column[name] for name in row) for row in rows]
    indices = np.array([j for row in numbers for j in row], dtype=np.int32)
    indptr = np.cumsum([0, *map(len, numbers)], dtype=np.int32)
    data = np.ones(len(indices), dtype=np.float32)
    return sp.csr_array((data, indices, indptr), shape=(len(numbers), len(column)))


# ---------------------------------------------------------------- reading the lists
def _paragraphs(text: str) -> Iterator[dict[str, str]]:
    """Yield the paragraphs of a control file; continuation lines keep their line breaks."""
    for block in text.split("\n\n"):
        fields: dict[str, str] = {}
        key = ""
        for line in filter(None, block.split("\n")):
            if line[0] in " \t":
                fields[key] += "\n" + line
            else:
                key, value = line.split(":", 1)
                fields[key] = value.strip()
        if fields:
            yield fields


def _package_names(relation: str) -> Iterator[str]:
    """Yield the package names of a relation field, without version limits and architectures."""
    for clause in relation.replace("|", ",").split(","):
        name = clause.strip().split(" ")[0].split(":")[0]
        if name:
            yield name


def _squeeze(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("\0", " ")).strip()


def _apt_lists_folder() -> Path:
    command = ["apt-config", "shell", "D", "Dir::State::lists/d"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return Path(answer.stdout.split("'")[1])


def _read_list(folder: Path, pattern: str) -> str | None:
    """Return the content of the list that matches a pattern, packed or not, or None."""
    paths = sorted(folder.glob(pattern)) + sorted(folder.glob(f"{pattern}.*"))
    if not paths:
        return None
    path = paths[0]
    unpack: dict[str, Callable] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
    if path.suffix in unpack:
        with unpack[path.suffix](path, "rt", encoding="utf-8") as file:
            return file.read()
    if path.suffix == ".lz4":
        return subprocess.run(["lz4", "-dc", path], capture_output=True, check=True).stdout.decode()
    return path.read_text(encoding="utf-8")


# ---------------------------------------------------------------- command line
def _release(folder: Path, suite: str) -> str:
    """Return the version, name and date of the lists, as far as they say so."""
    head = _read_list(folder, f"*_dists_{suite}_InRelease") or ""
    found = dict(re.findall(r"^(Version|Date): (.*)$", head, flags=re.MULTILINE))
    known = f" ({suite}), release file of {found['Date']}" if "Date" in found else f" ({suite})"
    return found.get("Version", "") + known


def _readme(dataset: XCDataset, release: str) -> str:
    frequency = np.bincount(dataset.train_labels.indices, minlength=dataset.n_labels)
    test_labels = dataset.test_labels
    unseen_pairs = 0.0 if test_labels is None else np.mean(frequency[test_labels.indices] == 0)
    return _README.format(
        release=release,
        n_train=dataset.n_train,
        n_test=dataset.n_test,
        n_labels=dataset.n_labels,
        train_pairs=dataset.train_labels.nnz,
        test_pairs=0 if test_labels is None else test_labels.nnz,
        tail=np.mean(frequency < 5),
        unseen=np.mean(frequency == 0),
        unseen_pairs=unseen_pairs,
        anchor_names=", ".join(dataset.anchors),
        anchor_sizes=", ".join(f"{a.sample_anchors.shape[1]:,}" for a in dataset.anchors.values()),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the data set into a new folder.

    Parameters
    ----------
    arguments : sequence of str, or None, default=None
        Command line; None takes that of the process.

    Returns
    -------
    int
        0, or the process ends with an error message if the lists are missing.
    """
    parser = argparse.ArgumentParser(description="Build debian_related from lists of packages.")
    parser.add_argument("output", type=Path, help="new folder")
    parser.add_argument("--lists", type=Path, help="folder of the lists (default: that of apt)")
    parser.add_argument("--suite", default="bookworm")
    parser.add_argument("--arch", default="amd64")
    args = parser.parse_args(arguments)
    folder = args.lists or _apt_lists_folder()
    packages = _read_list(folder, f"*_dists_{args.suite}_main_binary-{args.arch}_Packages")
    if packages is None:
        parser.error(f"{folder} has no Packages list of {args.suite}. Run `apt-get update` first.")
    dataset = build(Archive(packages))
    save_xc_repository(dataset, args.output)
    (args.output / "README.md").write_text(_readme(dataset, _release(folder, args.suite)))
    _logger.info("%s: %r", args.output, dataset)
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    raise SystemExit(main())
