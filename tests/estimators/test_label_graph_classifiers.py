"""Blocks, attention and gates of fused classifiers, against their formulas."""

import numpy as np
import pytest
import torch

from skxc.estimators._label_graph.classifiers import (
    UNSEEN_GATE,
    Classifiers,
    DocumentBlock,
    FusedClassifiers,
    ResidualBlock,
)
from skxc.utils._random import torch_seed

IDS = np.arange(6)
FREQUENCY = np.array([0.0, 1, 2, 3, 4, 9])


def draw(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def make(fusion="attention", has_graph=True, start=True, frequency=FREQUENCY):
    table = draw(6, 5, seed=9).numpy() if start else None
    part = Classifiers(fusion=fusion, dropout=0.0)
    with torch_seed(0):
        model = FusedClassifiers(
            part,
            5,
            frequency,
            # The second graph rests on half of the rows.
            graph_frequency=np.stack([frequency, frequency / 2])[: 2 * has_graph],
            start=table,
        )
    return model.eval()


def texts(n=2):
    return [draw(6, 5, seed=1 + i) for i in range(n)]


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


def by_hand(model, competing):
    """Return the attention's weights of components, nothing left out."""
    shared, score = model.attention.shared, model.attention.score
    q = torch.cat([torch.relu(part) @ shared.weight.T + shared.bias for part in competing], dim=1)
    return torch.softmax(q @ score.weight.T, dim=1)


def test_attention_by_hand():
    model = make(frequency=np.ones(6))
    parts = model.components(IDS, texts())
    alpha = by_hand(model, parts)
    torch.testing.assert_close(model.weights(IDS, parts), alpha)
    weights = sum(alpha[:, [i]] * part for i, part in enumerate(parts))
    torch.testing.assert_close(model(IDS, texts()), weights)
    torch.testing.assert_close(parts[2], model.refinement.weight)


def test_gates_by_hand():
    model = make("gated")
    with torch.no_grad():
        model.gates.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]))
    parts = model.components(IDS, texts())
    alpha = by_hand(model, [parts[0], parts[2]])
    alpha[0] = torch.tensor([1.0, 0.0])  # without training rows
    # No row, 1, 2 and 3, 4, 9.
    gates = torch.tensor([[UNSEEN_GATE], [0.1], [0.2], [0.2], [0.3], [0.4]])
    expected = alpha[:, :1] * parts[0] + gates * parts[1] + alpha[:, 1:] * parts[2]
    torch.testing.assert_close(model(IDS, texts()), expected)
    torch.testing.assert_close(
        model.weights(IDS, parts), torch.cat([alpha[:, :1], gates, alpha[:, 1:]], dim=1)
    )
    gates = model.weights(IDS, parts, 1)[:, 1]
    expected = torch.tensor([UNSEEN_GATE, 0.1, 0.1, 0.1, 0.2, 0.3])
    torch.testing.assert_close(gates, expected)


def test_labels_without_neighbours_have_no_component_of_them():
    model, (own, near) = make("gated"), texts()
    near[2] = 0
    with torch.no_grad():
        model.gates.fill_(0.5)
        model.blocks[1].linear.bias.fill_(3.0)
    parts = model.components(IDS, [own, near])
    assert parts[1][2].tolist() == [0] * 5
    assert (parts[1][[0, 1, 3, 4, 5]] != 0).all()


def test_a_graph_starts_without_effect_and_can_win_it():
    model, (own, near) = make("gated"), texts()
    before = model(IDS, [own, near])
    other = model(IDS, [own, draw(6, 5, seed=8)])
    torch.testing.assert_close(other[1:], before[1:])
    assert (other[0] != before[0]).any()  # it has no rows, and a gate that is not learned
    # Not so in the published form.
    assert (make()(IDS, [own, near]) - make()(IDS, [own, 2 * near])).abs().max() > 0.1
    before.sum().backward()
    assert (model.gates.grad != 0).all()


@pytest.mark.parametrize("fusion", ["gated", "attention"])
@pytest.mark.parametrize("has_graph", [True, False])
def test_labels_without_rows_have_no_free_vector(fusion, has_graph):
    model, sides = make(fusion, has_graph), texts(1 + has_graph)
    before = model(IDS, sides)
    alpha = model.weights(IDS, model.components(IDS, sides)).detach()
    assert float(alpha[0, -1]) == 0
    assert (alpha[1:, -1] > 0).all()
    with torch.no_grad():
        model.refinement.weight.add_(1)
    moved = (model(IDS, sides) - before).detach().abs().sum(dim=1)
    assert float(moved[0]) == 0
    assert (moved[1:] > 0).all()


@pytest.mark.parametrize("fusion", ["gated", "attention"])
def test_permuted_labels_have_permuted_classifiers(fusion):
    model = make(fusion, start=False, frequency=np.ones(6))
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    permuted = model(IDS, [text[order] for text in texts()])
    torch.testing.assert_close(permuted, model(IDS, texts())[order])


@pytest.mark.parametrize("fusion", ["gated", "attention"])
def test_some_labels_alone_are_the_same(fusion):
    model, some = make(fusion), np.array([0, 1, 4])
    alone = model(some, [text[some] for text in texts()])
    torch.testing.assert_close(alone, model(IDS, texts())[some])
