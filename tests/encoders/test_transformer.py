import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import safetensors.torch
import scipy.sparse as sp

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from skxc.encoders import BagEncoder, TransformerEncoder  # noqa: E402
from skxc.encoders._transformer import TokenRows  # noqa: E402

ROWS = [[5, 6, 7], [], [8], [9, 10], []]


def token_rows(rows=ROWS):
    lengths = [len(row) for row in rows]
    tokens = np.array([token for row in rows for token in row], dtype=np.int32)
    return TokenRows(tokens, np.cumsum([0, *lengths]))


def as_lists(rows):
    return [rows.tokens[a:b].tolist() for a, b in zip(rows.offsets, rows.offsets[1:], strict=False)]


@pytest.mark.parametrize(
    "ids", [[0], [3, 3, 1], [4, 0, 2], [], slice(1, 3), slice(0, 0), slice(3, 99), slice(None)]
)
def test_slices_of_token_rows(ids):
    chosen = range(5)[ids] if isinstance(ids, slice) else ids
    part = token_rows()[ids if isinstance(ids, slice) else np.array(ids, dtype=np.int64)]
    assert as_lists(part) == [ROWS[i] for i in chosen]
    assert part.shape == (len(chosen),)
    assert as_lists(part[np.arange(len(chosen))[::-1]]) == [ROWS[i] for i in chosen][::-1]


def test_padding():
    ids, mask = token_rows([[5, 6, 7], [8], [9, 10]]).padded()
    assert ids.tolist() == [[5, 6, 7], [8, 0, 0], [9, 10, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]
    assert ids.dtype == mask.dtype == np.int64


def test_rows_without_tokens_attend_to_padding():
    ids, mask = token_rows([[], [8, 9]]).padded()
    assert (ids.tolist(), mask.tolist()) == ([[0, 0], [8, 9]], [[1, 0], [1, 1]])
    ids, mask = token_rows([[], []]).padded()
    assert (ids.tolist(), mask.tolist()) == ([[0], [0]], [[1], [1]])
    assert token_rows([]).padded()[0].shape == (0, 1)


def test_tokens_of_a_folder(tiny_transformer):
    encoder = TransformerEncoder(tiny_transformer, max_length=5).fit(["ignored"])
    rows = encoder.prepare(["red wine", "", "unknown", "oak oak oak oak oak oak"])
    # [PAD] [UNK] [CLS] [SEP] come first, then the words in order.
    assert as_lists(rows) == [[2, 6, 4, 3], [2, 3], [2, 1, 3], [2, 12, 12, 12, 3]]
    assert rows.tokens.dtype == np.int32
    assert encoder.prepare([]).shape == (0,)
    assert encoder.dim_ == 16


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_equal_those_of_single_texts(pooling, tiny_transformer, texts):
    """A loop over texts without padding, straight through the transformers library."""
    encoder = TransformerEncoder(tiny_transformer, pooling=pooling).fit(texts)
    model = transformers.AutoModel.from_pretrained(tiny_transformer).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_transformer)
    expected = []
    for text in texts:
        with torch.no_grad():
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        vector = hidden.mean(dim=0) if pooling == "mean" else hidden[0]
        expected.append((vector / vector.norm()).numpy())
    actual = encoder.encode(encoder.prepare(texts), precision="float32", batch_size=16)
    np.testing.assert_allclose(actual, np.stack(expected), atol=1e-5)


def test_texts_without_any_token_are_finite(tiny_transformer, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    encoder = TransformerEncoder(tiny_transformer).fit([""])
    plain = tokenizers.Tokenizer.from_str(encoder.tokenizer_json_)
    plain.post_processor = tokenizers.processors.TemplateProcessing(single="$A", special_tokens=[])
    encoder.tokenizer_json_ = plain.to_str()
    rows = encoder.prepare(["", "red", " "])
    assert as_lists(rows)[0] == []
    vectors = encoder.encode(rows)
    assert np.isfinite(vectors).all()
    np.testing.assert_array_equal(vectors[0], vectors[2])


def test_gradient_checkpointing_changes_nothing(tiny_transformer, texts):
    gradients = []
    for flag in (False, True):
        encoder = TransformerEncoder(tiny_transformer, gradient_checkpointing=flag).fit(texts)
        encoder.module_.train()
        torch.manual_seed(0)
        batch = encoder.prepare(texts)[:8]
        encoder.unit_vectors(batch, "float32").prod(dim=1).sum().backward()
        gradients.append([p.grad for p in encoder.module_.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 10
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)


def test_weights_are_float32_whatever_the_folder_holds(tiny_transformer, tmp_path):
    model = transformers.AutoModel.from_pretrained(tiny_transformer)
    model.half().save_pretrained(tmp_path / "half")
    transformers.AutoTokenizer.from_pretrained(tiny_transformer).save_pretrained(tmp_path / "half")
    encoder = TransformerEncoder(str(tmp_path / "half")).fit(["red"])
    again = TransformerEncoder("unused")
    again.__setstate__(encoder.__getstate__())
    for each in (encoder, again):
        dtypes = {t.dtype for t in each.module_.state_dict().values() if t.is_floating_point()}
        assert dtypes == {torch.float32}


def test_state_needs_no_folder(tiny_transformer, texts, tmp_path):
    shutil.copytree(tiny_transformer, tmp_path / "model")
    encoder = TransformerEncoder(str(tmp_path / "model"), max_length=4).fit(texts)
    expected = encoder.encode(encoder.prepare(texts))
    state = encoder.__getstate__()
    assert "_tokenizer" not in state
    shutil.rmtree(tmp_path / "model")
    again = TransformerEncoder("gone")
    again.__setstate__(state)
    np.testing.assert_array_equal(again.encode(again.prepare(texts)), expected)


def test_groups_by_decay(tiny_transformer):
    encoder = TransformerEncoder(tiny_transformer).fit(["red"])
    decaying, fixed = encoder.parameter_groups(None)
    assert decaying["weight_decay"] > 0 == fixed.get("weight_decay", 0)
    assert all(p.ndim > 1 for p in decaying["params"])
    assert all(p.ndim == 1 for p in fixed["params"])


def test_mistakes(tiny_transformer, tmp_path):
    with pytest.raises(ValueError, match="must hold texts for a transformer"):
        TransformerEncoder(tiny_transformer).fit(sp.csr_array(np.eye(3)))
    with pytest.raises(ValueError, match=r"cannot be read .* Pass a folder with config\.json"):
        TransformerEncoder(str(tmp_path)).fit(["red"])


def test_the_library_is_imported_on_use():
    code = "import sys, skxc.encoders as e; e.make_encoder('x'); print(*sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not {"torch", "transformers"} & set(answer.stdout.split())


def test_lengths_of_rows(tiny_transformer):
    encoder = TransformerEncoder(tiny_transformer).fit(["wine"])
    cache = encoder.prepare(["wine", "red wine tree", ""])
    assert encoder.row_lengths(cache).tolist() == [3, 5, 2]
    assert BagEncoder().fit(["wine"]).row_lengths(cache) is None


# ---- folders of others


def changed(tiny_transformer, folder, **settings):
    """Copy the folder, with other settings in config.json."""
    shutil.copytree(tiny_transformer, folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return str(folder)


CODE = "open({!r}, 'w').close()\nimport transformers\nclass Model(transformers.BertModel): pass\n"


@pytest.mark.parametrize(
    "settings",
    [
        {"auto_map": {"AutoModel": "foreign.Model", "AutoConfig": "foreign.Model"}},
        {"attn_implementation": "someone/kernel", "_attn_implementation": "someone/kernel"},
        {"quantization_config": {"quant_method": "none-such"}, "num_labels": 10**12},
        {"return_dict": False, "output_attentions": True, "dtype": "float16"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_what_a_folder_asks_for_beside_its_model_is_left_out(
    tiny_transformer, texts, tmp_path, monkeypatch, settings
):
    folder = changed(tiny_transformer, tmp_path / "model", **settings)
    (tmp_path / "model" / "foreign.py").write_text(CODE.format(str(tmp_path / "ran")))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on standard input"))
    encoder = TransformerEncoder(folder).fit(texts)
    expected = TransformerEncoder(tiny_transformer).fit(texts)
    again = TransformerEncoder("gone")
    again.__setstate__(expected.__getstate__() | {"config_": expected.config_ | settings})
    for each in (encoder, again):
        assert each.module_.model.config._attn_implementation in ("sdpa", "eager")
        np.testing.assert_array_equal(
            each.encode(each.prepare(texts)), expected.encode(expected.prepare(texts))
        )
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "none-such"}, "none-such"),
        ({"model_type": "clip"}, "must be a single encoder of texts"),
        ({"vocab_size": 10**9}, "`vocab_size` must be at most"),
        ({"vocab_size": 10**7}, "weights in"),
        ({"num_hidden_layers": 10**6}, "at most 1024 layers"),
        ({"hidden_size": 24}, "cannot be read"),
    ],
    ids=str,
)
def test_sizes_for_which_nothing_is_stored(tiny_transformer, texts, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message) as caught:
        TransformerEncoder(changed(tiny_transformer, tmp_path / "a", **settings)).fit(texts)
    assert "\n" not in str(caught.value)
    state = TransformerEncoder(tiny_transformer).fit(texts).__getstate__()
    with pytest.raises(ValueError, match=r"must (be|have)|model"):
        TransformerEncoder("b").__setstate__(state | {"config_": state["config_"] | settings})


def test_weights_are_safetensors_only(tiny_transformer, texts, tmp_path):
    folder = changed(tiny_transformer, tmp_path / "model")
    (weights,) = (tmp_path / "model").glob("*.safetensors")
    torch.save(safetensors.torch.load_file(weights), tmp_path / "model" / "pytorch_model.bin")
    content = weights.read_bytes()
    for damage in (None, content[:-9], b"no weights", b"\xff" * 64):
        weights.unlink() if damage is None else weights.write_bytes(damage)
        with pytest.raises(ValueError, match=r"cannot be read .*safetensors weights\."):
            TransformerEncoder(folder).fit(texts)
