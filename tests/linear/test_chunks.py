import pickle

import numpy as np
import scipy.sparse as sp

from skxc.linear._chunks import hashed, join_chunks, make_chunk
from tests.linear.models import random_model


def test_chunks_hold_all_entries():
    rng = np.random.default_rng(0)
    nodes = [
        sp.coo_array(sp.random_array((300, 9), density=density, random_state=rng, dtype=np.float32))
        for density in (0.3, 0.0, 0.02, 1.0)
    ]
    chunks = []
    for part in nodes:
        order = rng.permutation(part.nnz)
        features, children = part.coords[0][order], part.coords[1][order]
        chunks.append(make_chunk(features, children.astype(np.int32), part.data[order]))
    joined = join_chunks(chunks)
    first = [*joined["first_bucket"], len(joined["buckets"]) - 1]
    feature_of = {key: feature for feature, key in enumerate(hashed(np.arange(300)).tolist())}
    for node, part in enumerate(nodes):
        bounds = joined["buckets"][first[node] : first[node + 1] + 1]
        n_rows = bounds[-1] - bounds[0]
        assert n_rows == len(set(part.coords[0]))
        assert len(bounds) - 1 < max(2 * n_rows, 2)
        dense = np.zeros((300, 9), np.float32)
        for row in range(bounds[0], bounds[-1]):
            key = int(joined["keys"][row])
            bucket = key >> joined["shift"][node]
            assert bounds[bucket] <= row < bounds[bucket + 1]
            entries = slice(*joined["rows"][row : row + 2])
            dense[feature_of[key], joined["children"][entries]] = joined["values"][entries]
        np.testing.assert_array_equal(dense, part.toarray())


def test_hashes_differ_and_fill_buckets_evenly():
    hashes = hashed(np.arange(6400))
    assert len(set(hashes.tolist())) == 6400
    counts = np.bincount(hashes >> 26, minlength=64)
    assert len(counts) == 64
    assert counts.max() < 200


def test_what_is_derived_is_no_part_of_the_state():
    model = random_model(0)[1]
    assert model.n_labels == 23
    assert model.smallest_leaf == min(model.n_children[model.first_child >= len(model.roots)][-8:])
    again = pickle.loads(pickle.dumps(model))
    assert set(vars(again)) == set(model.arrays._fields)
    for one, other in zip(model.arrays, again.arrays, strict=True):
        np.testing.assert_array_equal(one, other)
