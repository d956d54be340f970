import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from skxc.linear import vectorize_one

TEXTS = [
    "Red wine and white wine",
    "deep learning, machine learning; learning to rank",
    "Straße ÄÖÜ naïve café",
    "a b c",
    "wine",
    "",
    "unknown-word wine_cellar 42 wine 42",
    " ".join(f"word{i % 7}" for i in range(60)),
    " ".join(f"word{i}" for i in range(40)),
]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sublinear_tf": True, "dtype": np.float32},
        {"norm": "l1", "dtype": np.float32},
        {"norm": None},
        {"use_idf": False, "smooth_idf": False},
        {"lowercase": False},
        {"token_pattern": r"\S+"},
        {"max_features": 5, "min_df": 1},
        {"analyzer": "char", "ngram_range": (2, 3), "dtype": np.float32},
        {"ngram_range": (1, 2)},
        {"stop_words": ["and"]},
        {"strip_accents": "unicode"},
        {"binary": True},
        {"tokenizer": str.split, "token_pattern": None},
        {"preprocessor": str.upper},
    ],
)
def test_equals_the_vectoriser_bit_for_bit(settings):
    vectorizer = TfidfVectorizer(**settings).fit(TEXTS[:-1])
    for text in [*TEXTS, "wine " * 3, "nothing known"]:
        expected = vectorizer.transform([text])
        expected.sort_indices()
        row = vectorize_one(vectorizer, text)
        assert row.shape == expected.shape
        assert row.dtype == expected.dtype
        assert row.has_sorted_indices
        np.testing.assert_array_equal(row.indices, expected.indices)
        np.testing.assert_array_equal(row.data, expected.data)


def test_there_is_no_short_cut_for_other_classes():
    class Mine(TfidfVectorizer):
        pass

    for vectorizer in (CountVectorizer(), Mine()):
        assert vectorize_one(vectorizer.fit(TEXTS), TEXTS[0]) is None
