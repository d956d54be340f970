import bz2
import gzip
import lzma

import numpy as np
import pytest

from skxc.datasets import load_xc_repository
from tools import build_debian_related as debian
from tools.build_debian_related import Archive, build, main

# By the hash of their names, the sources "owl" and "moth" are on the test side.
PACKAGES = """\
Package: bird
Source: bird (1.0)
Maintainer: Ann <ann@example.org>
Section: zoo
Description: flies
 and a long text: that is
 never read
Recommends: cat (>= 2) | nothing, hare:any, bird-doc
Depends: libzoo, libonce
Tag: kind::bird, made-of::feather

Package: bird-doc
Source: bird (1.0)
Maintainer: Ann <ann@example.org>
Section: doc
Description: flies on   paper
Enhances: bird
Suggests: cat, hare

Package: cat
Maintainer: Ann <ann@example.org>
Section: zoo
Description: meows
Suggests: owl, only-provided, twice-provided
Depends: libzoo

Package: hare
Maintainer: Bob <bob@example.org>
Section: zoo
Description: hops
Enhances: bird-doc
Provides: twice-provided

Package: owl
Maintainer: Bob <bob@example.org>
Section: zoo
Description: crawls
Recommends: cat, hare
Depends: libzoo, libowls
Tag: kind::night

Package: owl-doc
Source: owl
Maintainer: Bob <bob@example.org>
Section: doc
Description: crawls on paper
Recommends: hare
Depends: libzoo, libowls

Package: moth
Maintainer: Bob <bob@example.org>
Section: zoo
Description: buzzes
Recommends: cat

Package: libzoo
Maintainer: Ann <ann@example.org>
Section: libs
Description: zoo library
Provides: only-provided (= 1)

Package: libowls
Maintainer: Ann <ann@example.org>
Section: libs
Description: library of owls
Provides: twice-provided

Package: libonce
Maintainer: Ann <ann@example.org>
Section: libs
Description: used once
"""


@pytest.fixture
def archive():
    return Archive(PACKAGES)


@pytest.fixture
def data(archive):
    return build(archive)


def rows(matrix, names):
    """Return the stored entries of a matrix as one set of names per row."""
    assert matrix.dtype == np.float32 and (matrix.data == 1).all()
    return [{names[j] for j in matrix.indices[a:b]} for a, b in zip(*_edges(matrix), strict=True)]


def _edges(matrix):
    return matrix.indptr[:-1], matrix.indptr[1:]


def test_the_split_of_the_toy_archive(archive):
    sides = {name: archive.on_test_side(name) for name in archive.fields}
    assert {name for name, is_test in sides.items() if is_test} == {"owl", "owl-doc", "moth"}


def test_relations(archive):
    # siblings, unknown names and names of several providers are left out; "nothing" is unknown
    assert archive.relations("bird", debian.RELATED) == {"cat", "hare"}
    assert archive.relations("bird-doc", debian.RELATED) == {"cat", "hare"}
    assert archive.relations("cat", debian.RELATED) == {"owl", "libzoo"}
    assert archive.relations("bird", debian.DEPENDS) == {"libzoo", "libonce"}


def test_texts(archive):
    assert archive.text("bird-doc") == "bird doc : flies on paper"
    assert archive.text("bird") == "bird : flies"


def test_samples_and_labels(data):
    assert data.train_ids == ["bird", "bird-doc", "cat", "hare"]
    assert data.label_names == ["bird-doc", "cat", "hare", "libzoo", "owl"]
    assert data.label_texts[0] == "bird doc : flies on paper"
    assert data.train_texts[2] == "cat : meows"
    assert rows(data.train_labels, data.label_names) == [
        {"cat", "hare"},
        {"cat", "hare"},
        {"owl", "libzoo"},
        {"bird-doc"},
    ]


def test_reverse_pairs_go_to_the_filter(data):
    # "cat" in training names "owl", so the pair (owl, cat) is no test pair
    assert data.test_ids == ["moth", "owl", "owl-doc"]
    assert rows(data.test_labels, data.label_names) == [{"cat"}, {"hare"}, {"hare"}]
    assert rows(data.test_filter, data.label_names) == [set(), {"owl", "cat"}, {"owl"}]
    assert rows(data.train_filter, data.label_names) == [
        {"bird-doc"},
        {"bird-doc"},
        {"cat"},
        {"hare"},
    ]


def test_label_graphs(data):
    names = data.label_names
    assert rows(data.graphs["samesource"], names) == [set(), set(), set(), set(), set()]
    # "owl" depends on libzoo too, but is on the test side
    assert rows(data.graphs["depends"], names) == [set(), {"libzoo"}, set(), set(), set()]


def test_anchors(data):
    nodes = data.anchors["depends"]
    assert nodes.texts == ["libowls : library of owls", "libzoo : zoo library"]  # libonce: 1 use
    assert rows(nodes.sample_anchors, "oz") == [{"z"}, set(), {"z"}, set()]
    assert rows(nodes.label_anchors, "oz") == [set(), {"z"}, set(), set(), set()]
    nodes = data.anchors["tag"]
    assert nodes.texts == ["kind bird", "kind night", "made-of feather"]
    assert rows(nodes.sample_anchors, "bnf") == [{"b", "f"}, set(), set(), set()]
    assert rows(nodes.label_anchors, "bnf") == [set(), set(), set(), set(), {"n"}]
    nodes = data.anchors["maintainer"]
    assert nodes.texts == ["Ann", "Bob"]
    assert rows(nodes.sample_anchors, "AB") == [{"A"}, {"A"}, {"A"}, {"B"}]
    nodes = data.anchors["section"]
    assert nodes.texts == ["doc", "libs", "zoo"]
    assert rows(nodes.label_anchors, "dlz") == [{"d"}, {"z"}, {"z"}, {"l"}, {"z"}]


def test_hubs_are_no_dependencies(archive, monkeypatch):
    monkeypatch.setattr(debian, "ANCHOR_USES", (1, 3))  # libzoo: 4 packages depend on it
    data = build(archive)
    assert data.graphs["depends"].nnz == 0
    assert data.anchors["depends"].texts == ["libonce : used once", "libowls : library of owls"]


def test_popular_targets_collections_and_families(archive, monkeypatch):
    monkeypatch.setattr(debian, "MAX_SAMPLES", 3)  # cat: 4 packages, hare: 4 packages
    data = build(archive)
    assert data.label_names == ["bird-doc", "libzoo", "owl"]
    assert data.train_ids == ["cat", "hare"] and data.test_ids == []
    monkeypatch.setattr(debian, "MAX_SAMPLES", 600)
    monkeypatch.setattr(debian, "MAX_LABELS", 1)
    assert build(archive).train_ids == ["hare"]
    monkeypatch.setattr(debian, "MAX_LABELS", 100)
    monkeypatch.setattr(debian, "FAMILY_SAMPLES", 1)
    data = build(archive)
    assert len({"bird", "bird-doc"} & set(data.train_ids)) == 1
    assert {"owl", "owl-doc"} <= set(data.test_ids)  # one source, but other labels


def put_lists(folder, suffix=""):
    pack = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}[suffix]
    path = folder / f"mirror_dists_toy_main_binary-cpu_Packages{suffix}"
    path.write_bytes(pack(PACKAGES.encode()))
    (folder / "mirror_dists_toy_InRelease").write_text("Version: 7.1\nDate: Monday\nSize: 0\n")


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".bz2"])
def test_command_line(tmp_path, data, suffix):
    lists = tmp_path / "lists"
    lists.mkdir()
    put_lists(lists, suffix)
    out = tmp_path / "out"
    options = ["--lists", str(lists), "--suite", "toy", "--arch", "cpu"]
    assert main([str(out), *options]) == 0
    again = load_xc_repository(out)
    assert again.train_texts == data.train_texts
    assert (again.test_filter != data.test_filter).nnz == 0
    readme = (out / "README.md").read_text()
    assert "Debian 7.1 (toy), release file of Monday." in readme
    assert "| training samples / pairs | 4 / 7 |" in readme
    assert "| test pairs whose label has no training sample | 0.0% |" in readme


def test_missing_lists(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path / "out"), "--lists", str(tmp_path)])
    assert "has no Packages list of bookworm. Run `apt-get update`" in capsys.readouterr().err
