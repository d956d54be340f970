"""Blocks, attention and text components of fused classifiers, against their formulas."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from skxc.estimators._label_graph.classifiers import (
    DocumentBlock,
    FusedClassifiers,
    ResidualBlock,
    TextComponents,
)
from skxc.estimators._label_graph.fusion import (
    NAMES,
    AttentionFusion,
    Components,
    Fusion,
    SumFusion,
)
from skxc.utils._random import torch_seed

IDS = np.arange(6)


def draw(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def make(n_texts=2, start=True, fusion="attention", dropout=0.0, dim=5):
    table = draw(6, dim, seed=9).numpy() if start else None
    components = Components(dim, n_texts - 1, start, np.ones(6), dropout)
    with torch_seed(0):
        return FusedClassifiers(components, fusion, table).eval()


def test_a_block_starts_as_the_identity_matrix():
    block = ResidualBlock(5, 0.2).eval()
    u = draw(7, 5)
    torch.testing.assert_close(block.linear.weight, torch.eye(5))
    torch.testing.assert_close(block(u), u + torch.relu(u))


def test_without_kappa_a_block_is_the_identity():
    block = ResidualBlock(5, 0.2)
    with torch.no_grad():
        block.kappa.zero_()
        block.linear.bias.fill_(3.0)
    u = draw(7, 5)
    torch.testing.assert_close(block(u), u)


def test_the_spectral_norm_stays_1_in_training():
    with torch_seed(0):
        block = ResidualBlock(16, 0.2)
    optimizer = torch.optim.Adam(block.parameters(), lr=0.001)  # a tenth of the default rate
    for step in range(200):
        block.train()
        loss = (block(draw(64, 16, seed=step)) - draw(64, 16, seed=step) @ draw(16, 16)).pow(2)
        loss.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    block.eval()
    norm = torch.linalg.matrix_norm(block.linear.weight, 2)
    assert float(norm.detach()) == pytest.approx(1, abs=1e-3)
    assert (block.linear.weight - torch.eye(16)).abs().max() > 0.02


def test_documents_are_not_negative_and_numpy_agrees():
    block = DocumentBlock(5, 0.2)
    with torch.no_grad():
        block.block.linear.bias.copy_(draw(5))
        block.block.kappa.fill_(0.7)
    block.eval()
    u = draw(7, 5)
    expected = torch.relu(block.block(u))
    torch.testing.assert_close(block(u), expected)
    matrix, offset = block.to_numpy()
    by_hand = np.maximum(u.numpy() + np.maximum(u.numpy(), 0) @ matrix + offset, 0)
    np.testing.assert_allclose(by_hand, expected.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_attention_by_hand():
    model, texts = make(), [draw(6, 5, seed=1), draw(6, 5, seed=2)]
    parts = model.components(IDS, texts)
    shared, score = model.fusion.shared, model.fusion.score
    q = torch.cat([torch.relu(part) @ shared.weight.T + shared.bias for part in parts], dim=1)
    alpha = torch.softmax(q @ score.weight.T, dim=1)
    torch.testing.assert_close(model.fusion(IDS, parts), alpha)
    torch.testing.assert_close(alpha.sum(dim=1), torch.ones(6))
    weights = sum(alpha[:, [i]] * part for i, part in enumerate(parts))
    torch.testing.assert_close(model(IDS, texts), weights)
    torch.testing.assert_close(parts[2], model.refinement.weight)


def test_a_constant_on_all_logits_changes_nothing():
    model, texts = make(), [draw(6, 5, seed=1), draw(6, 5, seed=2)]
    parts = model.components(IDS, texts)
    logits = model.fusion.score(torch.cat([torch.relu(part) for part in parts], dim=1))
    torch.testing.assert_close(torch.softmax(logits, 1), torch.softmax(logits + 7.0, 1))


def test_permuted_labels_have_permuted_classifiers():
    model, texts = make(start=False), [draw(6, 5, seed=1), draw(6, 5, seed=2)]
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    permuted = model(IDS, [text[order] for text in texts])
    torch.testing.assert_close(permuted, model(IDS, texts)[order])


def test_a_sum_has_equal_weights():
    model, texts = make(fusion="sum"), [draw(6, 5, seed=1), draw(6, 5, seed=2)]
    assert isinstance(model.fusion, SumFusion)
    torch.testing.assert_close(model(IDS, texts), sum(model.components(IDS, texts)))
    assert isinstance(make().fusion, AttentionFusion)


def test_some_labels_alone_are_the_same():
    model, texts = make(), [draw(6, 5, seed=1), draw(6, 5, seed=2)]
    some = np.array([1, 4])
    alone = model(some, [text[some] for text in texts])
    torch.testing.assert_close(alone, model(IDS, texts)[some])


# ---- text components

GRAPH = sp.csr_array(
    np.array([[0.5, 0.4, 0, 0], [0.3, 0.6, 0.2, 0], [0, 0.1, 0.7, 0.3], [0, 0, 0, 1]], np.float32)
)


class Table(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(draw(7, 5))

    def forward(self, rows):
        return torch.from_numpy(rows.toarray()) @ self.weight


TEXTS = sp.csr_array(np.random.default_rng(0).random((4, 7)).astype(np.float32))


def test_an_identity_graph_gives_the_own_text():
    first, second = TextComponents(Table(), TEXTS, [sp.csr_array(sp.eye_array(4))])(np.arange(4))
    torch.testing.assert_close(first, second)


def test_one_hop_reaches_neighbours_and_nothing_else():
    table, ids = Table(), np.arange(4)
    before = TextComponents(table, TEXTS, [GRAPH])(ids)[1]
    for moved in range(4):
        changed = TEXTS.toarray()
        changed[moved] += 1
        after = TextComponents(table, sp.csr_array(changed), [GRAPH])(ids)[1]
        shift = table.weight.detach().numpy().sum(axis=0)
        expected = GRAPH.toarray()[:, [moved]] * shift
        np.testing.assert_allclose((after - before).detach(), expected, rtol=1e-4, atol=1e-6)


def test_text_components_reach_the_table():
    table = Table()
    own = table(TEXTS).detach().numpy()
    hops = [GRAPH, sp.csr_array(GRAPH @ GRAPH)]
    for ids in (np.array([0, 2]), np.arange(4), np.array([3])):
        found = TextComponents(table, TEXTS, hops)(ids)
        for part, expected in zip(found, [own, *(hop @ own for hop in hops)], strict=True):
            np.testing.assert_allclose(part.detach(), expected[ids], rtol=1e-5)
    # The text of a neighbour outside the batch is learned from, too.
    found = TextComponents(table, TEXTS, [GRAPH])(np.array([0]))
    found[1].sum().backward()
    expected = (GRAPH.toarray()[0] @ TEXTS.toarray())[:, None].repeat(5, axis=1)
    torch.testing.assert_close(table.weight.grad, torch.from_numpy(expected))


# ---- fusion


def test_free_vectors_start_at_the_text_of_the_neighbours():
    own = draw(4, 5).numpy()
    np.testing.assert_allclose(Fusion.start(own, [GRAPH]), GRAPH.toarray() @ own, rtol=1e-5)
    np.testing.assert_array_equal(Fusion.start(own, []), own)


def test_a_fusion_of_ones_own_is_a_class_and_a_name(monkeypatch):
    class ByFrequency(Fusion):
        def __init__(self, components):
            super().__init__(components)
            self.share = torch.from_numpy(1 / (1 + components.frequency)).float()

        def forward(self, ids, components):
            share = self.share[torch.from_numpy(ids)]
            return torch.stack([1 - share, share, share], dim=1)

    monkeypatch.setitem(NAMES, "by_frequency", ByFrequency)
    components = Components(5, 1, True, np.array([0.0, 1, 3, 3, 3, 3]), 0.0)
    model = FusedClassifiers(components, "by_frequency", draw(6, 5).numpy()).eval()
    some, texts = np.array([0, 2]), [draw(2, 5, seed=1), draw(2, 5, seed=2)]
    parts = model.components(some, texts)
    expected = torch.stack([sum(p[0] for p in parts[1:]), 0.75 * parts[0][1]])
    expected[1] += 0.25 * (parts[1][1] + parts[2][1])
    torch.testing.assert_close(model(some, texts), expected)
