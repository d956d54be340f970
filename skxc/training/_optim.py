"""Optimisers: AdamW for dense parameters, a lazy Adam for tables with row-sparse gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skxc.training._row_step import Rule, can_fuse, fused_step
from skxc.utils._rounding import store_rows
from skxc.utils._row_sparse import settled


class _Adam(torch.optim.Optimizer):
    """What both kinds share.

    Two methods stand in for torch's, of which each loads torch's compiler: more than a second in
    every process that trains, for nothing.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, with the usual numbers where it has none."""
        self.param_groups.append(
            {**self.defaults, **param_group, "params": list(param_group["params"])}
        )

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad, parameter.n_row_gradients = None, 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update what has a gradient; return the loss of the closure, if there is one."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            for parameter in parameters:
                state = self.state[parameter]
                if not state:
                    state["step"] = 0
                    state["mean"], state["square"] = _zeros(parameter), _zeros(parameter)
                state["step"] += 1
                self._update(parameter, state, group)
        return loss

    def _update(self, parameter: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        raise NotImplementedError


def _zeros(parameter: Tensor) -> Tensor:
    """Return zeros like a parameter; on a CPU numpy's, whose pages take no time until written."""
    kinds: dict[torch.dtype, type] = {torch.float32: np.float32, torch.bfloat16: np.int16}
    if parameter.device.type != "cpu" or parameter.dtype not in kinds:
        return torch.zeros_like(parameter)
    zeros: Any = np.zeros(parameter.shape, kinds[parameter.dtype])
    return torch.from_numpy(zeros).view(parameter.dtype)


class DenseAdam(_Adam):
    """AdamW, as ``torch.optim.AdamW``.

    Parameters
    ----------
    params : iterable of Parameter or of group dicts
    lr, betas, eps, weight_decay
        As those of `RowSparseAdam`.
    """

    def _update(self, parameter: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        mean, square, gradient = state["mean"], state["square"], parameter.grad
        assert gradient is not None
        mean.lerp_(gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        denominator = (square.sqrt() / (1 - beta2 ** state["step"]) ** 0.5).add_(group["eps"])
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        rate = group["lr"] / (1 - beta1 ** state["step"])
        parameter.addcdiv_(mean, denominator, value=-rate)


class RowSparseAdam(_Adam):
    """Adam that reads and writes only the rows with a gradient (lazy Adam).

    A row's moments decay only when the row is touched, so cost and memory traffic of a step do not
    depend on the length of the table. Bias correction uses the common step count, as in
    ``torch.optim.SparseAdam``; this version avoids the sparse temporaries that make up most of that
    one's time on a CPU, and takes one compiled loop there.

    A bfloat16 table has bfloat16 moments. A step is computed in float32 and rounded stochastically.

    Parameters
    ----------
    params : iterable of Parameter or of group dicts
        Their gradients must be row-sparse.
    lr : float, default=1e-3
    betas : tuple of float, default=(0.9, 0.999)
    eps : float, default=1e-8
    weight_decay : float, default=0.0
        Decoupled, applied to touched rows only.
    """

    def _update(self, parameter: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        gradient = settled(parameter)
        ids, values = gradient.indices()[0], gradient.values().float()
        beta1, beta2 = group["betas"]
        correction1 = 1 - beta1 ** state["step"]
        correction2 = 1 - beta2 ** state["step"]
        kept = 1 - group["lr"] * group["weight_decay"]
        if can_fuse(parameter):
            numbers = (1 - beta1, beta2, 1 - beta2, correction2, group["eps"], kept)
            rule = Rule(*map(np.float32, (*numbers, group["lr"] / correction1)))
            fused_step((parameter, state["mean"], state["square"]), ids, values, rule)
            return
        mean, square = (state[name].index_select(0, ids).float() for name in ("mean", "square"))
        mean.lerp_(values, 1 - beta1)
        square.mul_(beta2).addcmul_(values, values, value=1 - beta2)
        store_rows(state["mean"], ids, mean)
        store_rows(state["square"], ids, square)
        denominator = square.div_(correction2).sqrt_().add_(group["eps"])
        rows = parameter.index_select(0, ids).float()
        if group["weight_decay"]:
            rows.mul_(kept)
        rows.addcdiv_(mean, denominator, value=-group["lr"] / correction1)
        store_rows(parameter, ids, rows)


def build_optimizers(groups: Iterable[dict[str, Any]]) -> list[torch.optim.Optimizer]:
    """Return one optimiser per kind of gradient for groups that say ``sparse`` or not.

    Parameters
    ----------
    groups : iterable of dict
        ``{"params": [...], "lr": float, "weight_decay": float, "sparse": bool}``.

    Returns
    -------
    list of Optimizer
        Every group remembers its rate as ``initial_lr``, which `scale_learning_rate` needs.
    """
    kinds: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for group in groups:
        options = {name: value for name, value in group.items() if name != "sparse"}
        kinds[group.get("sparse", False)].append(
            {"weight_decay": 0.0, **options, "initial_lr": group["lr"]}
        )
    optimizers: list[torch.optim.Optimizer] = []
    if kinds[False]:
        optimizers.append(DenseAdam(kinds[False]))
    if kinds[True]:
        optimizers.append(RowSparseAdam(kinds[True]))
    return optimizers


def scale_learning_rate(optimizers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    """Set every group's rate to its initial rate times the factor."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor


def warmup_then_decay(progress: float, warmup: float = 0.1) -> float:
    """Return the rate's factor: linear warm-up, then linear decay to 0.

    Parameters
    ----------
    progress : float
        Share of training that is done, in [0, 1].
    warmup : float, default=0.1
        Share of training spent warming up.
    """
    if progress < warmup:
        return progress / warmup
    return max(0.0, (1 - progress) / (1 - warmup))


def clip_gradients(optimizers: Iterable[torch.optim.Optimizer], max_norm: float) -> Tensor:
    """Scale all gradients so that their joint L2 norm is at most `max_norm`; return their norm.

    The norm is the one before scaling, a number on the device of the first parameter, for which the
    host does not wait. torch's own function does not take sparse gradients.
    """
    gradients = [
        settled(parameter).values() if parameter.grad.is_sparse else parameter.grad
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter.grad is not None
    ]
    norm = torch.zeros((), dtype=torch.float64)
    if gradients:
        norms = [torch.linalg.vector_norm(g, dtype=torch.float64) for g in gradients]
        norm = torch.linalg.vector_norm(torch.stack([n.to(norms[0].device) for n in norms]))
    factor = (max_norm / norm).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor.to(gradient.device))
    return norm
