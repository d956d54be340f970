"""What the configuration of a transformer may decide, whoever wrote it.

The library takes much from ``config.json``: code to run, kernels to fetch, quantisers, types. Here
only the keys stay that the class of the configuration has by itself, without those; and sizes for
which nothing is stored are refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

LARGEST_NUMBER, MOST_LAYERS = 2**24, 1024
# Code, kernels and files of others; the form of the output; sizes of heads that are not used here.
_DROPPED = {
    *("auto_map", "custom_pipelines", "quantization_config", "_name_or_path", "architectures"),
    *("transformers_version", "dtype", "torch_dtype", "attn_implementation", "use_kernels"),
    *("return_dict", "output_attentions", "output_hidden_states", "use_cache", "torchscript"),
    *("num_labels", "id2label", "label2id", "problem_type", "pruned_heads"),
}


def safe_config(given: Mapping[str, Any]) -> Any:
    """Return a configuration of the library that holds plain settings only.

    Parameters
    ----------
    given : mapping
        The content of a ``config.json``.

    Returns
    -------
    PretrainedConfig

    Raises
    ------
    ValueError
        The kind of model is unknown or of several parts, or a size is not plausible.
    """
    from transformers import CONFIG_MAPPING

    kind = given.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise ValueError(f"`model_type` must be a model of the library, but is {kind!r}")
    cls = CONFIG_MAPPING[kind]
    known = set(cls().to_dict()) - _DROPPED
    settings = {key: value for key, value in given.items() if key in known}
    settings.pop("model_type")
    for name, value in _numbers(settings):
        if abs(value) > LARGEST_NUMBER:
            raise ValueError(f"`{name}` must be at most {LARGEST_NUMBER}, but is {value}")
    config = cls(**settings)
    if getattr(cls, "sub_configs", None) or not isinstance(
        getattr(config, "hidden_size", None), int
    ):
        raise ValueError(f"`model_type` must be a single encoder of texts, but is {kind!r}")
    if not 0 <= getattr(config, "num_hidden_layers", 0) <= MOST_LAYERS:
        raise ValueError(f"a model must have at most {MOST_LAYERS} layers")
    return config


def _numbers(settings: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for name, value in settings.items():
        if isinstance(value, int):
            yield name, value
        elif isinstance(value, Mapping):
            yield from _numbers(value)


def build(config: Any) -> nn.Module:
    """Return a model with random weights; no kernel from elsewhere computes its attention."""
    from transformers import AutoModel

    return _with_own_attention(
        lambda attention: AutoModel.from_config(
            config, trust_remote_code=False, attn_implementation=attention
        )
    )


def read(model: str | os.PathLike[str], config: Any) -> nn.Module:
    """Return the model of a folder or name with its weights, of safetensors files only."""
    from transformers import AutoModel

    if Path(model).is_dir():
        stored = sum(path.stat().st_size for path in Path(model).glob("*.safetensors"))
        n_numbers = sum(shape.numel() for shape in shapes(config).values())
        if n_numbers > stored + 2**20:  # a number takes at least a byte
            raise ValueError(f"config.json announces {n_numbers} weights in {stored} bytes")
    return _with_own_attention(
        lambda attention: AutoModel.from_pretrained(
            model,
            config=config,
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation=attention,
        )
    )


def shapes(config: Any) -> dict[str, Any]:
    """Return the shapes of all weights of a model, without their memory."""
    import torch

    with torch.device("meta"):
        return {name: value.shape for name, value in build(config).state_dict().items()}


def _with_own_attention(make: Any) -> nn.Module:
    """Call `make` with torch's own attention, or with plain operations where a model lacks it."""
    try:
        return make("sdpa")
    except ValueError:
        return make("eager")
