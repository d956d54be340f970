"""
Size and answers of saved models, stored with 32, 16 and 8 bits, for what `skxc.save` wrote.

    python docs/results/size.py DATA_FOLDER MODEL_FOLDER --json size.jsonl

The model in MODEL_FOLDER, a FusionXC, is saved again in every way, loaded, and scored on the test
rows of DATA_FOLDER; so is its DualEncoderXC.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

import skxc
from skxc import benchmark
from skxc.benchmark import _measure, _scores
from skxc.benchmark._data import load_folder

WAYS = [("float32", "training"), ("float16", "prediction"), ("int8", "prediction")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    data, fusion = load_folder(asked.data), skxc.load(asked.model)
    for model in (fusion, fusion.named_estimators_["dual"]):
        whole = None
        for dtype, keep_for in WAYS:
            with tempfile.TemporaryDirectory() as folder:
                skxc.save(model, folder, dtype=dtype, keep_for=keep_for)
                size = sum(path.stat().st_size for path in Path(folder).iterdir())
                scores, cost = _measure.predict(skxc.load(folder), data)
            best = np.asarray(scores.argmax(axis=1)).ravel()
            whole = (size, best) if whole is None else whole
            figures = _scores.percentages(scores, data)
            line = {"dataset": asked.data.name, "model": asked.model.name}
            line |= {"estimator": type(model).__name__, "dtype": dtype, "keep_for": keep_for}
            line |= {"mb": round(size / 1e6, 1), "share": round(size / whole[0], 3)}
            line |= {name: figures[name] for name in ("P@1", "P@5", "R@10", "PSP@5")}
            line["same_best"] = round(float((best == whole[1]).mean()), 4)
            benchmark.write_line(line | {"predict_cpu_us": cost}, asked.json)


if __name__ == "__main__":
    main()
