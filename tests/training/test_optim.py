import copy
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from skxc.training import RowSparseAdam, _optim, _row_step, build_optimizers  # noqa: E402
from skxc.training._optim import (  # noqa: E402
    clip_gradients,
    scale_learning_rate,
    warmup_then_decay,
)
from skxc.utils import _threads  # noqa: E402


def table(seed=0, n=8, d=3):
    return torch.nn.Parameter(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)))


def row_gradient(parameter, rows, values):
    ids = torch.tensor([rows])
    return torch.sparse_coo_tensor(ids, values, parameter.shape, check_invariants=True)


def gradients(n_steps, rows_of_step, seed=1):
    """Yield rows and values of each step."""
    generator = torch.Generator().manual_seed(seed)
    for step in range(n_steps):
        rows = rows_of_step(step)
        yield rows, torch.randn(len(rows), 3, generator=generator)


def test_same_steps_as_sparse_adam():
    mine, theirs = table(), table()
    ours = RowSparseAdam([mine], lr=0.05, betas=(0.8, 0.95), eps=1e-9)
    reference = torch.optim.SparseAdam([theirs], lr=0.05, betas=(0.8, 0.95), eps=1e-9)
    for rows, values in gradients(6, lambda step: [step % 4, 4, 7 - step % 3]):
        mine.grad, theirs.grad = (row_gradient(mine, rows, values) for _ in range(2))
        ours.step()
        reference.step()
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_same_steps_as_adamw_where_every_row_is_touched(weight_decay):
    mine, theirs = table(), table()
    ours = RowSparseAdam([mine], lr=0.05, weight_decay=weight_decay)
    reference = torch.optim.AdamW([theirs], lr=0.05, weight_decay=weight_decay)
    for rows, values in gradients(6, lambda step: list(range(8))):
        mine.grad = row_gradient(mine, rows, values)
        theirs.grad = values.clone()
        ours.step()
        reference.step()
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_dense_steps_are_those_of_adamw(weight_decay):
    mine, theirs = table(), table()
    options = {"lr": 0.05, "betas": (0.8, 0.95), "weight_decay": weight_decay}
    ours = _optim.DenseAdam([{"params": [mine]}], **options)
    reference = torch.optim.AdamW([theirs], **options)
    for _, values in gradients(6, lambda step: list(range(8))):
        mine.grad, theirs.grad = values.clone(), values.clone()
        ours.step()
        reference.step()
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    ours.zero_grad()
    assert mine.grad is None


def test_training_does_not_load_the_compiler_of_torch():
    code = (
        "import sys, torch\n"
        "from skxc.training import build_optimizers\n"
        "p = torch.nn.Parameter(torch.ones(2))\n"
        "for optimizer in build_optimizers([{'params': [p], 'lr': 1.0}]):\n"
        "    p.grad = torch.ones(2)\n"
        "    optimizer.step()\n"
        "    optimizer.zero_grad()\n"
        "print('torch._dynamo' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (answer.stdout, answer.returncode) == ("False\n", 0), answer.stderr


def test_untouched_rows_keep_every_bit():
    parameter = table()
    optimizer = RowSparseAdam([parameter], lr=0.1, weight_decay=0.1)
    before = parameter.detach().clone()
    for rows, values in gradients(3, lambda step: [1, 5]):
        parameter.grad = row_gradient(parameter, rows, values)
        optimizer.step()
    others = [0, 2, 3, 4, 6, 7]
    assert torch.equal(parameter[others], before[others])
    assert not (parameter[[1, 5]] == before[[1, 5]]).any()
    assert not optimizer.state[parameter]["mean"][others].any()


def test_repeated_rows_of_a_gradient_add_up():
    first, second = table(), table()
    values = torch.ones(3, 3)
    first.grad = row_gradient(first, [2, 2, 4], values)
    second.grad = row_gradient(second, [2, 4], torch.stack([values[0] * 2, values[0]]))
    for parameter in (first, second):
        RowSparseAdam([parameter], lr=0.1).step()
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_step_without_a_gradient_and_with_a_closure():
    parameter = table()
    before = parameter.detach().clone()
    optimizer = RowSparseAdam([parameter])
    assert optimizer.step() is None
    assert torch.equal(parameter, before)

    def closure():
        parameter.grad = row_gradient(parameter, [0], torch.ones(1, 3))
        return 3.5

    assert optimizer.step(closure) == 3.5
    assert (parameter[0] != before[0]).all()


def test_state_round_trip():
    parameter = table()
    optimizer = RowSparseAdam([parameter], lr=0.1)
    steps = list(gradients(4, lambda step: [step, 6]))
    for rows, values in steps[:2]:
        parameter.grad = row_gradient(parameter, rows, values)
        optimizer.step()
    twin = torch.nn.Parameter(parameter.detach().clone())
    resumed = RowSparseAdam([twin], lr=0.1)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for rows, values in steps[2:]:
        for each, owner in ((parameter, optimizer), (twin, resumed)):
            each.grad = row_gradient(each, rows, values)
            owner.step()
    assert torch.equal(parameter, twin)


def test_one_optimizer_per_kind_of_gradient():
    dense, other, rows = (torch.nn.Parameter(torch.zeros(2, 3)) for _ in range(3))
    first, second = build_optimizers(
        [
            {"params": [dense], "lr": 0.1, "weight_decay": 0.5},
            {"params": [rows], "lr": 0.2, "sparse": True},
            {"params": [other], "lr": 0.3, "sparse": False},
        ]
    )
    assert (type(first), type(second)) == (_optim.DenseAdam, RowSparseAdam)
    figures = [
        (group["lr"], group["initial_lr"], group["weight_decay"])
        for group in first.param_groups + second.param_groups
    ]
    assert figures == [(0.1, 0.1, 0.5), (0.3, 0.3, 0.0), (0.2, 0.2, 0.0)]
    assert len(build_optimizers([{"params": [rows], "lr": 1.0, "sparse": True}])) == 1
    assert build_optimizers([]) == []
    scale_learning_rate([first, second], 0.5)
    scale_learning_rate([first, second], 0.5)
    assert [g["lr"] for g in first.param_groups + second.param_groups] == [0.05, 0.15, 0.1]


def test_schedule():
    assert warmup_then_decay(0.0, 0.2) == 0
    assert warmup_then_decay(0.1, 0.2) == pytest.approx(0.5)
    assert warmup_then_decay(0.2, 0.2) == 1
    assert warmup_then_decay(0.6, 0.2) == pytest.approx(0.5)
    assert warmup_then_decay(1.0, 0.2) == warmup_then_decay(1.2, 0.2) == 0
    assert warmup_then_decay(0.0, 0.0) == 1
    assert warmup_then_decay(0.05) == pytest.approx(0.5)


@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clipping_over_all_kinds_of_gradients(max_norm):
    dense, rows, idle = table(0), table(1), table(2)
    dense.grad = torch.randn(8, 3, generator=torch.Generator().manual_seed(3))
    values = torch.randn(3, 3, generator=torch.Generator().manual_seed(4))
    rows.grad = row_gradient(rows, [2, 5, 2], values)  # not coalesced: rows 2 add up
    full = [dense.grad.clone(), rows.grad.to_dense()]
    norm = sum(float((gradient**2).sum()) for gradient in full) ** 0.5
    optimizers = build_optimizers(
        [{"params": [dense, idle], "lr": 1.0}, {"params": [rows], "lr": 1.0, "sparse": True}]
    )
    assert float(clip_gradients(optimizers, max_norm)) == pytest.approx(norm, rel=1e-5)
    factor = min(1.0, max_norm / norm)
    torch.testing.assert_close(dense.grad, full[0] * factor)
    torch.testing.assert_close(rows.grad.to_dense(), full[1] * factor)
    assert rows.grad.is_sparse
    assert idle.grad is None


def test_bfloat16_steps_are_those_of_float32_on_average():
    """Each step is far below half a unit in the last place: nearest rounding would take none."""
    start = torch.full((500, 3), 1.0)
    ends = {}
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        parameter = torch.nn.Parameter(start.to(dtype, copy=True))
        optimizer = RowSparseAdam([parameter], lr=2e-4)
        for _ in range(20):
            parameter.grad = row_gradient(parameter, list(range(400)), torch.ones(400, 3)).to(dtype)
            optimizer.step()
        ends[dtype] = parameter.detach().float()
        assert all(v.dtype == dtype for k, v in optimizer.state[parameter].items() if k != "step")
    moved = [1 - end[:400].mean() for end in ends.values()]
    assert moved[0] == pytest.approx(20 * 2e-4, rel=1e-3)
    assert moved[1] == pytest.approx(float(moved[0]), rel=0.1)
    assert (ends[torch.bfloat16][400:] == 1).all(), "untouched rows keep every bit"


def after_steps(dtype, n_steps=12, n=600, d=40):
    """Return weights and moments after random steps on some of the rows, with weight decay."""
    generator = torch.Generator().manual_seed(5)
    torch.manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(n, d, generator=generator).to(dtype))
    optimizer = RowSparseAdam([parameter], lr=0.01, weight_decay=0.1)
    for _ in range(n_steps):
        ids = torch.randperm(n, generator=generator)[: n // 2].sort().values
        values = torch.randn(len(ids), d, generator=generator)
        parameter.grad = row_gradient(parameter, ids.tolist(), values.to(dtype)).coalesce()
        optimizer.step()
    state = optimizer.state[parameter]
    return [tensor.detach().float() for tensor in (parameter, state["mean"], state["square"])]


def test_the_compiled_step_is_that_of_torch(monkeypatch):
    compiled = after_steps(torch.float32)
    monkeypatch.setattr(_optim, "can_fuse", lambda parameter: False)
    for mine, theirs in zip(compiled, after_steps(torch.float32), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5)
        assert not (mine == 0).all()


def test_the_compiled_step_rounds_as_torch_does(monkeypatch):
    """Rounding is random, so only means over many numbers can be compared."""
    compiled = after_steps(torch.bfloat16)
    monkeypatch.setattr(_optim, "can_fuse", lambda parameter: False)
    by_torch, exact = after_steps(torch.bfloat16), after_steps(torch.float32)
    for mine, theirs, true in zip(compiled, by_torch, exact, strict=True):
        error, usual = (mine - true).abs().mean(), (theirs - true).abs().mean()
        assert 0.8 * usual < error < 1.2 * usual
        assert (mine - true).mean().abs() < 0.1 * usual


def test_halves_round_to_their_neighbours_as_often_as_they_are_near():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2000, generator=generator).numpy()
    values[:3] = float("inf"), -float("inf"), float("nan")
    bits = values.view("uint32")
    rounded = torch.empty((500, len(values)), dtype=torch.bfloat16)
    for seed, row in enumerate(rounded.view(torch.int16).numpy()):
        _row_step._round(bits.copy(), row, np.uint64(seed) << np.uint64(32))
    torch.testing.assert_close(rounded[0, :3].float(), torch.tensor(values[:3]), equal_nan=True)
    rounded, values = rounded[:, 3:].float(), torch.tensor(values[3:])
    below = (bits[3:] & 0xFFFF0000).view("float32")
    unit = (((bits[3:] >> 16) + 1) << 16).astype("uint32").view("float32") - below
    assert ((rounded - values).abs() < abs(torch.tensor(unit))).all()
    error = ((rounded.mean(dim=0) - values) / torch.tensor(unit)).numpy()
    assert abs(error.mean()) < 4 * 0.5 / (500 * len(values)) ** 0.5
    assert abs(error).max() < 5 * 0.5 / 500**0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_threads_change_no_bit(monkeypatch, dtype):
    alone = after_steps(dtype)
    monkeypatch.setattr(_threads, "WORK_PER_THREAD", 1000)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    for mine, theirs in zip(alone, after_steps(dtype), strict=True):
        assert torch.equal(mine, theirs)


def test_a_table_that_the_compiled_loop_does_not_take():
    flat = torch.nn.Parameter(torch.ones(4))
    ids, values = torch.tensor([[1]]), torch.tensor([2.0])
    flat.grad = torch.sparse_coo_tensor(ids, values, flat.shape, check_invariants=True)
    RowSparseAdam([flat], lr=0.5).step()
    torch.testing.assert_close(flat.detach(), torch.tensor([1, 0.5, 1, 1]))
