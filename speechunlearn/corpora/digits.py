"""scikit-learn's handwritten digits: the images of the control run, not speech.

They come with the package, so there is nothing to read from a folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from speechunlearn.corpora.base import COLUMNS, Corpus

if TYPE_CHECKING:
    from speechunlearn.clips import Clips


@cache
def _images() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images, labels


def table() -> pd.DataFrame:
    """Return the manifest: one row an image, which is its own speaker."""
    images, labels = _images()
    hashes = [hashlib.sha256(row.astype("u1").tobytes()).hexdigest()[:24] for row in images]
    rows = pd.DataFrame(
        {
            "path": [f"digits/{i:04d}" for i in range(len(images))],
            "speaker": hashes, "gender": "", "label": [str(label) for label in labels],
            "seconds": 0.0, "corpus": "digits", "hash": hashes, "split": "",
        }
    )  # fmt: skip
    return rows[list(COLUMNS)]


def load(manifest: pd.DataFrame, labels: Sequence[str]) -> Clips:
    """Return images as rows of 64 pixels, zero mean and unit variance each.

    Args:
        manifest: rows of `table`
        labels: class names

    """
    import torch

    from speechunlearn.clips import Clips  # which reads this package for its audio

    images, _ = _images()
    pixels = images[[int(path.rsplit("/", 1)[1]) for path in manifest["path"]]]
    pixels = (pixels - pixels.mean(1, keepdims=True)) / pixels.std(1, keepdims=True)
    index = {label: position for position, label in enumerate(labels)}
    return Clips(
        list(torch.from_numpy(pixels).float()),
        torch.tensor([index[label] for label in manifest["label"]], dtype=torch.long),
        list(manifest["hash"]),
        list(manifest["speaker"]),
    )


CORPUS = Corpus(
    name="digits",
    title="scikit-learn's handwritten digits (images, for comparison)",
    licence="CC BY 4.0 (UCI ML hand-written digits)",
    how_to_get="part of scikit-learn",
    task="image",
    read=None,
    labels=tuple(str(digit) for digit in range(10)),
    table=table,
    load=load,
)
