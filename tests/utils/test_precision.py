import pytest

torch = pytest.importorskip("torch")

from skxc.utils import _precision  # noqa: E402
from skxc.utils._precision import autocast, has_native_bfloat16, resolve_device  # noqa: E402

CPU = torch.device("cpu")


def product_dtype(precision):
    layer = torch.nn.Linear(3, 2)
    with autocast(CPU, precision):
        return layer(torch.ones(1, 3)).dtype


@pytest.mark.parametrize("native", [True, False])
def test_precision_of_a_product(monkeypatch, native):
    monkeypatch.setattr(_precision, "has_native_bfloat16", lambda device: native)
    assert product_dtype("float32") == torch.float32
    assert product_dtype("bfloat16") == torch.bfloat16
    assert product_dtype("auto") == (torch.bfloat16 if native else torch.float32)
    assert torch.nn.Linear(3, 2)(torch.ones(1, 3)).dtype == torch.float32


@pytest.mark.parametrize("name", ["_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def test_either_instruction_set_will_do(monkeypatch, name):
    for each in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, each, lambda: False, raising=False)
    assert not has_native_bfloat16(CPU)
    monkeypatch.setattr(torch.cpu, name, lambda: True)
    assert has_native_bfloat16(CPU)
    assert not has_native_bfloat16(torch.device("meta"))


def test_a_torch_without_the_private_names(monkeypatch):
    for each in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, each, raising=False)
    assert not has_native_bfloat16(CPU)


def test_devices(monkeypatch):
    assert resolve_device("cpu") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("cuda")


@pytest.mark.parametrize("name", ["gpu", "cuda:77", "", "cpu:x"])
def test_devices_that_are_none(name):
    with pytest.raises(ValueError, match=r"`device` must name a device of this machine, but"):
        resolve_device(name)
