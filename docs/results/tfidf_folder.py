"""Write a data folder whose rows are the TF-IDF of another one's texts.

python tfidf_folder.py FOLDER OUT

With it, `python -m skxc benchmark` starts from the same vectors as tools that cannot read texts.
"""

import sys
from dataclasses import replace

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer

from skxc.datasets import load_xc_repository, save_xc_repository

folder, out = sys.argv[1:]
data = load_xc_repository(folder)
vectorizer = TfidfVectorizer(sublinear_tf=True, dtype=np.float32).fit(data.train_texts)
features = {
    f"{side}_features": sp.csr_array(vectorizer.transform(getattr(data, f"{side}_texts")))
    for side in ("train", "test", "label")
}
texts = dict.fromkeys(("train_texts", "test_texts", "label_texts"))
save_xc_repository(replace(data, **features, **texts), out)
