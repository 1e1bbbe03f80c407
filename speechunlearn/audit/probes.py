"""Probes: what a reader that is trained anew finds in a representation.

That a head does not use an attribute does not say that it is gone. A probe is trained on the
representation to tell the attribute (Alain and Bengio 2016), and tested on speakers that it was not
trained on: an attribute of the speaker would otherwise be told by the voice. What a weak probe does
not find a stronger one may (Elazar and Goldberg 2018): a score of chance is of this probe.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from speechunlearn.errors import require

#: by growing strength; the strongest, an encoder that is trained itself, needs a model
KINDS = ("linear", "mlp")
#: of the MLP, at most: a budget, as far as it has not converged before
STEPS = 200

Pooled = Float[np.ndarray, "_clips width"]
Codes = Int[np.ndarray, " _clips"]


def _reader(kind: str, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    require(kind in KINDS, f"probe: {kind!r} is not one of {', '.join(KINDS)}")
    readers = {
        "linear": LogisticRegression(class_weight="balanced", max_iter=2000),
        "mlp": MLPClassifier((64,), solver="lbfgs", alpha=1.0, max_iter=STEPS, random_state=seed),
    }
    return make_pipeline(StandardScaler(), readers[kind])


def probe(
    kind: str, trained_on: Pooled, codes: Codes, tested_on: Pooled, *, seed: int = 0
) -> Codes:
    """Train a probe on some clips, and return what it says of others.

    Args:
        kind: ``linear`` (logistic regression) or ``mlp`` (one hidden layer of 64)
        trained_on: representation
        codes: value of each
        tested_on: representation of clips of other speakers
        seed: of the MLP's weights

    Raises:
        ParameterError: an unknown kind

    Examples:
        >>> line = np.array([[0.0], [1.0], [10.0], [11.0]])
        >>> probe("linear", line, np.array([0, 0, 1, 1]), np.array([[2.0], [8.0]]))
        array([0, 1])

    """
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        return _reader(kind, seed).fit(trained_on, codes).predict(tested_on)


def across_speakers(
    kind: str, pooled: Pooled, codes: Codes, speakers: Shaped[np.ndarray, " clips"], *,
    folds: int = 4, seed: int = 0,
) -> Codes:
    """Return what probes say of clips whose speakers they were not trained on.

    Speakers are cut into folds with as equal shares of each value as there can be: a fold that
    takes a value's only speaker would leave a majority which is always wrong there.

    Args:
        kind: as in `probe`
        pooled: representation
        codes: value of each clip
        speakers: speaker of each clip
        folds: as many as the value of the fewest speakers has of them, at most
        seed: of the folds and of the MLP's weights

    Raises:
        ParameterError: a value of fewer speakers than folds

    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    fewest = min(len({*np.asarray(speakers)[codes == code]}) for code in np.unique(codes))
    require(fewest >= folds, f"folds: {folds}, but a value has {fewest} speakers only")
    parts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        return cross_val_predict(_reader(kind, seed), pooled, codes, groups=speakers, cv=parts)
