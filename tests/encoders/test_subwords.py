import math
import pickle
import re
import zlib

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skxc.encoders import SubwordVectorizer

TEXTS = ["red apple", "Green APPLE, apple!", "", "naïve café", "red red wine_2 x"]


def naive_ngrams(word, low, high, n_buckets):
    marked = f"<{word}>"
    return [
        zlib.crc32(marked[i : i + size].encode()) % n_buckets
        for size in range(low, high + 1)
        for i in range(len(marked) - size + 1)
    ]


def naive_rows(fitted_on, texts, low, high, n_buckets, min_df):
    """Return dense rows by loops over words and their n-grams."""
    documents = [re.findall(r"\w+", text.lower()) for text in fitted_on]
    order = list(dict.fromkeys(word for words in documents for word in words))
    df = {word: sum(word in words for words in documents) for word in order}
    known = [word for word in order if df[word] >= min_df]
    n = len(fitted_on)
    rows = np.zeros((len(texts), len(known) + n_buckets))
    for row, text in enumerate(texts):
        words = re.findall(r"\w+", text.lower())
        weight = {}
        for word in set(words):
            idf = math.log((1 + n) / (1 + (df[word] if word in known else 0))) + 1
            weight[word] = (1 + math.log(words.count(word))) * idf
        norm = math.sqrt(sum(value**2 for value in weight.values())) or 1
        for word, value in weight.items():
            if word in known:
                rows[row, known.index(word)] += value / norm
            elif n_buckets:
                grams = naive_ngrams(word, low, high, n_buckets)
                for gram in grams:
                    rows[row, len(known) + gram] += value / norm / math.sqrt(len(grams))
    return rows, known


@pytest.mark.parametrize(("low", "high"), [(3, 5), (1, 2), (7, 9)])
@pytest.mark.parametrize("n_buckets", [0, 7, 1000])
@pytest.mark.parametrize("min_df", [1, 2])
def test_rows(low, high, n_buckets, min_df):
    vectorizer = SubwordVectorizer(ngram_range=(low, high), n_buckets=n_buckets, min_df=min_df)
    fresh = [*TEXTS, "unseen red apple unseen", "ox", "ï"]
    expected, known = naive_rows(TEXTS, fresh, low, high, n_buckets, min_df)
    rows = vectorizer.fit(TEXTS).transform(fresh)
    assert list(vectorizer.vocabulary_) == known
    assert rows.dtype == np.float32
    assert rows.has_canonical_format
    np.testing.assert_allclose(rows.toarray(), expected, rtol=1e-5, atol=1e-7)


def test_known_rows_are_of_unit_length():
    rows = SubwordVectorizer().fit(TEXTS).transform(TEXTS)
    lengths = np.sqrt(rows.multiply(rows).sum(axis=1))
    np.testing.assert_allclose(lengths, [1, 1, 0, 1, 1], rtol=1e-6)


@pytest.mark.parametrize("n_buckets", [5, 1000])
def test_spelling(n_buckets):
    vectorizer = SubwordVectorizer(n_buckets=n_buckets).fit(TEXTS)
    for word, row in vectorizer.vocabulary_.items():
        grams = naive_ngrams(word, 3, 5, n_buckets)
        expected = np.bincount(grams, minlength=n_buckets) / math.sqrt(max(len(grams), 1))
        np.testing.assert_allclose(vectorizer.spelling_[[row]].toarray()[0], expected, rtol=1e-6)


def test_an_unknown_word_is_near_its_relatives():
    vectorizer = SubwordVectorizer().fit(["python3-numpy", "compiler", "numpydoc"])
    spelled = vectorizer.transform(["numpyish"])[:, 4:].toarray()[0]
    numpy_, compiler = (
        vectorizer.spelling_[[vectorizer.vocabulary_[word]]].toarray()[0]
        for word in ("numpy", "compiler")
    )
    assert spelled @ numpy_ > spelled @ compiler == 0


def test_fit_takes_a_stream_and_no_texts():
    stream = SubwordVectorizer().fit(text for text in TEXTS)
    assert stream.vocabulary_ == SubwordVectorizer().fit(TEXTS).vocabulary_
    nothing = SubwordVectorizer(n_buckets=8).fit([])
    assert nothing.transform(["a word"]).shape == (1, 8)
    assert SubwordVectorizer().fit(TEXTS).transform([]).shape[0] == 0


def test_as_a_transformer():
    vectorizer = SubwordVectorizer(n_buckets=16)
    with pytest.raises(NotFittedError):
        vectorizer.transform(TEXTS)
    rows = vectorizer.fit_transform(TEXTS)
    again = pickle.loads(pickle.dumps(vectorizer)).transform(TEXTS)
    np.testing.assert_array_equal(rows.toarray(), again.toarray())
    assert not hasattr(clone(vectorizer), "vocabulary_")


def test_one_text_has_the_row_that_it_has_among_others():
    texts = ["red apple apple", "green apple", "pear, red; PEAR pear", "", "apple of gold", "red"]
    vectorizer = SubwordVectorizer(n_buckets=64).fit(texts[:4])
    together = vectorizer.transform(texts)
    for number, text in enumerate(texts):
        alone = vectorizer.transform([text])
        assert alone.shape == (1, together.shape[1])
        assert alone.dtype == np.float32
        row = together[[number]]
        np.testing.assert_array_equal(alone.indices, row.indices)
        np.testing.assert_array_equal(alone.data, row.data)
