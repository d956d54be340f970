"""Do explanations tell which words matter? Deletes named and random words of test rows.

Run ``python explanations.py OUTPUT.jsonl``: one line per estimator, percent of 200 test rows.
"""

import json
import re
import sys

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from skxc import DualEncoderXC, FusionXC, KNeighborsXC, LinearTreeXC
from skxc.datasets import load_debian_related
from skxc.inspection import explain

N_ROWS, N_DELETED = 200, 3
WORD = re.compile(r"\w+")


def without(text, words):
    return WORD.sub(lambda word: "" if word[0].casefold() in words else word[0], text)


def score(model, text, label):
    _, scores = model.predict_topk([text], 1, candidates=[label])
    return float(scores[0, 0])


def compare(model, texts, seed=0):
    """Return one line of figures; rows have at least as many other words as named ones."""
    rng = np.random.default_rng(seed)
    losses, gaps = [], []
    for text in texts:
        found = explain(model, text)
        others = rng.choice(found.words[N_DELETED:], N_DELETED, replace=False)
        named, random = (
            found.score - score(model, without(text, set(words)), found.label)
            for words in (found.words[:N_DELETED], others)
        )
        losses.append((named, random))
        gaps.append(abs(sum(found.terms.values()) - found.score))
    named, random = np.array(losses).T
    return {
        "estimator": type(model).__name__,
        "n_rows": len(texts),
        "named_lowers_more_percent": round(100 * float((named > random).mean()), 1),
        "equal_percent": round(100 * float((named == random).mean()), 1),
        "loss_of_named": round(float(named.mean()), 4),
        "loss_of_random": round(float(random.mean()), 4),
        "largest_gap_of_terms": float(max(gaps)),
    }


if __name__ == "__main__":
    data = load_debian_related()
    enough = [
        text for text in data.test_texts
        if len({word.casefold() for word in WORD.findall(text)}) >= 2 * N_DELETED
    ][:N_ROWS]  # fmt: skip
    texts = dict(zip(data.label_names, data.label_texts, strict=True))
    with open(sys.argv[1], "a") as output:
        for model in (
            KNeighborsXC(vectorizer=TfidfVectorizer()),
            LinearTreeXC(random_state=0),
            DualEncoderXC(random_state=0),
            FusionXC(random_state=0),
        ):
            sides = {} if isinstance(model, KNeighborsXC) else {"label_features": texts}
            model.fit(data.train_texts, data.train_labels, **sides)
            print(json.dumps(compare(model, enough)), file=output, flush=True)
