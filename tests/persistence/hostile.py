"""Damage every array, and every number, of saved models: load and predict must refuse or work.

Run as a script with a folder of saved models: what makes the interpreter crash must not end the
tests. One line per case goes to the standard output, the name of the case before it is tried.
"""

import json
import random
import resource
import sys
import warnings
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

import skxc
from skxc.persistence._files import write_arrays

# Memory of the process, which a declared size must not use up.
LARGEST = 12 * 2**30


def filled(number):
    return lambda array: np.full_like(array, np.array(number).astype(array.dtype))


def changed_at(place, number):
    def change(array):
        if array.size < 2 or array.dtype.itemsize < 4:
            return None
        array = array.copy()
        array.ravel()[place] = np.array(number).astype(array.dtype)
        return array

    return change


def other_type(array):
    return array.astype(np.float64 if array.dtype != np.float64 else np.int32)


INTEGERS = {"-1": filled(-1), "2^30": filled(2**30)}
FLOATS = {"nan": filled(np.nan)}
ALL = {"shorter": lambda array: array[:-1] if len(array.shape) else None, "type": other_type}
MORE_INTEGERS = {
    "0": filled(0),
    **{f"[{place}]={number}": changed_at(place, number)
       for place in (0, -1) for number in (-1, 1, 7, 2**30)},
    "reversed": lambda array: array[::-1].copy(),
}  # fmt: skip
MORE_FLOATS = {"inf": filled(np.inf), "1e38": filled(1e38), "[0]": changed_at(0, -np.inf)}


def changes_of(array, thorough):
    """Return the changes that an array is put through, by name."""
    if array.dtype.kind in "iu":
        return {**INTEGERS, **ALL, **(MORE_INTEGERS if thorough else {})}
    if array.dtype.kind == "f":
        return {**FLOATS, **ALL, **(MORE_FLOATS if thorough else {})}
    return ALL


def with_shape(node, name, shape):
    """Tell a structure that an array has another shape."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "array" and value[0] == name:
                value[1] = list(shape if value[2] == "C" else shape[::-1])
            else:
                with_shape(value, name, shape)
    elif isinstance(node, list):
        for value in node:
            with_shape(value, name, shape)


def numbers_in(node, path=()):
    """Yield the places of all numbers and texts of a structure."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        if isinstance(value, dict | list):
            yield from numbers_in(value, (*path, key))
        elif isinstance(value, int | float):
            yield (*path, key)


def cases(folder, thorough):
    """Yield the name of every case after its files are in the folder."""
    structure = folder / "model.json"
    text = structure.read_text()
    data = folder / f"arrays-{json.loads(text)['save_id']}.safetensors"
    arrays, original = load_file(data), data.read_bytes()
    for name, array in arrays.items():
        for change, make in changes_of(array, thorough).items():
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                changed = None if not array.size else make(array)
            if changed is None:
                continue
            declared = json.loads(text)
            with_shape(declared, name, changed.shape)
            structure.write_text(json.dumps(declared))
            write_arrays(data, {**arrays, name: changed})
            yield f"{name} {change}"
    data.write_bytes(original)
    rng = random.Random(0)
    for path in numbers_in(json.loads(text)):
        if rng.random() > (0.01 if "vocabulary_" in path else 1 if thorough else 0.3):
            continue
        for number in rng.sample([-1, 0, 2**30, 2**70, 1e308, float("nan"), True, "x", None, []],
                                 10 if thorough else 1):  # fmt: skip
            declared = node = json.loads(text)
            for key in path[:-1]:
                node = node[key]
            node[path[-1]] = number
            structure.write_text(json.dumps(declared))
            yield f"{'.'.join(map(str, path))} {number}"
    structure.write_text(text)


def outcome(folder, texts):
    """Return what loading and predicting come to."""
    try:
        model = skxc.load(folder)
    except ValueError as error:
        return "refused" if "\n" not in str(error) else f"FAILED {error!r}"
    except Exception as error:
        return f"FAILED load {error!r}"
    try:
        model.predict_topk(texts, 5)
        model.predict_proba(texts)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        return f"refused later {error!r}"
    except Exception as error:
        return f"FAILED later {error!r}"
    return "harmless"


def main():
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (LARGEST, LARGEST))
    root, thorough = Path(sys.argv[1]), sys.argv[2] == "thorough"
    texts = json.loads((root / "texts.json").read_text())
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        assert outcome(folder, texts) == "harmless"
        for case in cases(folder, thorough):
            print(f"{folder.name} {case}:", end=" ", flush=True)
            print(outcome(folder, texts).replace("\n", " "), flush=True)
        assert outcome(folder, texts) == "harmless"


if __name__ == "__main__":
    main()
