"""scikit-learn's handwritten digits: the images of the control run, not speech.

They come with the package, so there is nothing to read from a folder.
"""

import hashlib
from functools import cache

import numpy as np
import pandas as pd
from jaxtyping import Float

from speechunlearn.corpora.base import described


@cache
def _images() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images, labels


def table() -> pd.DataFrame:
    """Return the manifest: one row an image, which is its own speaker."""
    images, labels = _images()
    hashes = [hashlib.sha256(row.astype("u1").tobytes()).hexdigest()[:24] for row in images]
    return pd.DataFrame({
        "path": [f"digits/{i:04d}" for i in range(len(images))], "speaker": hashes, "gender": "",
        "label": [*map(str, labels)], "seconds": 0.0, "corpus": "digits", "hash": hashes,
        "split": "",
    })


def load(manifest: pd.DataFrame) -> list[Float[np.ndarray, " 64"]]:
    """Return images as rows of 64 pixels, zero mean and unit variance each.

    Args:
        manifest: rows of `table`

    """
    images, _ = _images()
    pixels = images[[int(path.rsplit("/", 1)[1]) for path in manifest["path"]]]
    pixels = (pixels - pixels.mean(1, keepdims=True)) / pixels.std(1, keepdims=True)
    return list(pixels.astype(np.float32))


CORPUS = described("digits", read=None, table=table, load=load)
