"""Sizes that scale with the number of labels."""

import warnings

import pytest

from skxc.indices import IndexSizes, index_sizes


@pytest.mark.parametrize(
    ("n_labels", "expected"),
    [
        (64, (8, 64, 1.6, 128, 2, 64)),
        (1000, (32, 320, 6.4, 640, 2, 100)),
        (4000, (64, 630, 10, 1260, 4, 252)),
        (31_000, (512, 1000, 10, 2000, 20, 2000)),
        (131_000, (2048, 1000, 10, 2000, 20, 2000)),
        (670_000, (8192, 1000, 10, 2000, 20, 2000)),
    ],
)
def test_published_sizes_and_those_in_between(n_labels, expected):
    assert index_sizes(n_labels, 10) == IndexSizes(*expected)


@pytest.mark.parametrize("n_labels", [1, 2, 3, 50, 1000, 10_000, 100_000, 10**6])
@pytest.mark.parametrize("top_k", [1, 10, 100])
def test_sizes_are_safe(n_labels, top_k):
    sizes = index_sizes(n_labels, top_k)
    assert 1 <= sizes.n_clusters <= n_labels
    assert sizes.n_clusters & (sizes.n_clusters - 1) == 0
    assert sizes.alpha <= max(1, sizes.n_clusters / 5)
    assert sizes.beta == 2 * sizes.edges_per_cluster
    assert sizes.beam_width <= sizes.n_clusters
    assert min(n_labels, top_k) <= sizes.shortlist_size <= n_labels
    assert sizes.edges_per_cluster <= n_labels


def test_given_sizes_are_kept():
    given = {"n_clusters": 16, "edges_per_cluster": 20, "alpha": 2.0, "beta": 3.0}
    sizes = index_sizes(100, 10, **given, beam_width=5, shortlist_size=30)
    assert sizes == IndexSizes(16, 20, 2.0, 3.0, 5, 30)


def test_given_sizes_are_clipped_to_what_exists():
    sizes = index_sizes(
        10, 5, n_clusters=64, edges_per_cluster=99, beam_width=99, shortlist_size=99
    )
    assert (sizes.n_clusters, sizes.edges_per_cluster) == (8, 10)
    assert (sizes.beam_width, sizes.shortlist_size) == (8, 10)


@pytest.mark.parametrize("given", [{"alpha": 9.0}, {"beta": 501.0}])
def test_unsafe_gains_warn(given):
    with pytest.warns(UserWarning, match="at their cap have no gradient"):
        index_sizes(100, 10, n_clusters=16, edges_per_cluster=100, **given)


def test_a_plain_softmax_is_always_safe():
    with pytest.warns(UserWarning, match="Pass at most 1, or None"):
        index_sizes(100, 10, n_clusters=2, alpha=5.0)


def test_the_edge_of_the_safe_zone_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index_sizes(100, 10, n_clusters=16, edges_per_cluster=100, alpha=4.0, beta=500.0)
