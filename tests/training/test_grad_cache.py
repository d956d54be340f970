import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

from skxc.training import _grad_cache, backward_in_chunks  # noqa: E402

CPU = torch.device("cpu")


class Toy:
    """An encoder with dropout, and a loss with parameters and dropout of its own, in float64."""

    def __init__(self):
        torch.manual_seed(0)
        self.encoder = torch.nn.Sequential(
            torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Dropout(0.3), torch.nn.Linear(8, 4)
        ).double()
        self.table = torch.nn.Parameter(torch.randn(12, 4, dtype=torch.float64))
        self.rows = torch.randn(20, 5, dtype=torch.float64)
        torch.manual_seed(1)

    def loss(self, vectors):
        labels = vectors[8:] + functional.dropout(self.table, 0.5)
        return torch.logsumexp(vectors[:8] @ labels.T, dim=1).sum()

    def chunks(self, size):
        return list(self.rows.split(size))

    def gradients(self):
        return [p.grad for p in self.encoder.parameters()] + [self.table.grad]


def direct(size):
    toy = Toy()
    loss = toy.loss(torch.cat([toy.encoder(chunk) for chunk in toy.chunks(size)]))
    loss.backward()
    return toy, loss.detach()


def cached(size):
    toy = Toy()
    return toy, backward_in_chunks(toy.encoder, toy.chunks(size), toy.loss, CPU)


def largest_difference(first, second):
    pairs = zip(first.gradients(), second.gradients(), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


@pytest.mark.parametrize("size", [1, 7, 20])
def test_gradients_are_those_of_direct_back_propagation(size):
    (first, loss), (second, cached_loss) = direct(size), cached(size)
    assert float(loss) == pytest.approx(float(cached_loss), rel=1e-12)
    assert not cached_loss.requires_grad
    assert largest_difference(first, second) < 1e-12


@pytest.mark.parametrize("size", [1, 7, 20])
def test_random_numbers_go_on_as_after_a_direct_step(size):
    direct(size)
    expected = torch.get_rng_state()
    cached(size)
    assert torch.equal(torch.get_rng_state(), expected)


@pytest.mark.parametrize("size", [1, 7, 20])
def test_gradients_are_wrong_without_the_replay(size, monkeypatch):
    monkeypatch.setattr(_grad_cache._RandomState, "restore", lambda self: None)
    assert largest_difference(direct(size)[0], cached(size)[0]) > 1e-3


def test_gradients_accumulate():
    toy, _ = cached(7)
    once = [gradient.clone() for gradient in toy.gradients()]
    torch.manual_seed(1)
    backward_in_chunks(toy.encoder, toy.chunks(7), toy.loss, CPU)
    for first, second in zip(once, toy.gradients(), strict=True):
        torch.testing.assert_close(2 * first, second)


def test_one_graph_at_a_time():
    """The memory of activations must not grow with the number of chunks."""
    toy = Toy()
    saved, most = [0], [0]

    def pack(tensor):
        saved[0] += tensor.numel()
        most[0] = max(most[0], saved[0])
        return tensor

    def unpack(tensor):
        saved[0] -= tensor.numel()
        return tensor

    def encode(chunk):
        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            return toy.encoder(chunk)

    peaks = {}
    for size in (2, 20):
        saved[0], most[0] = 0, 0
        backward_in_chunks(encode, toy.chunks(size), toy.loss, CPU)
        peaks[size] = most[0]
    assert peaks[2] < peaks[20] / 2
