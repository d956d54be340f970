"""Device and number format: chosen when training starts, never at construction."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def resolve_device(device: str) -> torch.device:
    """Return the device that a name stands for; "auto" is CUDA where there is one, or the CPU.

    Parameters
    ----------
    device : str
        "auto", or a name that torch knows, such as "cpu" or "cuda:1".

    Raises
    ------
    ValueError
        torch does not know the name, or the machine has no such device.
    """
    if device == "auto":
        # Not Apple's GPU: torch has no sparse products there.
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"`device` must name a device of this machine, but {device!r} is not one. "
            'Pass "auto" or "cpu".'
        ) from error
    return resolved


def has_native_bfloat16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 matrices in hardware.

    On a CPU without such instructions autocast is slower than float32, so it must not be the
    default there.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if device.type != "cpu":
        return False
    # Private names, so a torch without them counts as a CPU without the instructions.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in checks)


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Return the context in which an encoder runs.

    Parameters
    ----------
    device : torch.device
    precision : {"auto", "bfloat16", "float32"}
        "auto" is bfloat16 where the hardware has it.
    """
    wanted = precision == "bfloat16" or (precision == "auto" and has_native_bfloat16(device))
    return torch.autocast(device.type, dtype=torch.bfloat16) if wanted else nullcontext()
