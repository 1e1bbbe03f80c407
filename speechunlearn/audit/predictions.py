"""What a model says of every clip: one table, whatever is asked of it afterwards."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from speechunlearn.audit.membership import features
from speechunlearn.errors import require

#: the logits of the forget set are kept in columns of this name and the number of their class
LOGIT = "logit_"


def table(
    logits: Mapping[str, Float[np.ndarray, "_clips classes"]], hashes: Mapping[str, Sequence[str]],
    about: pd.DataFrame, labels: Sequence[str],
) -> pd.DataFrame:
    """Return what a model says of every clip of every part.

    Args:
        logits: of each part
        hashes: part -> contents of its clips, in the order of the logits
        about: manifest, a row for each of these contents
        labels: class names, in the order of the logits

    Returns:
        columns split, hash, speaker, label, prediction, loss (cross-entropy of the true label, in
        nats), confidence (softmax probability of the true label), unit (what the task keeps
        apart), duration (seconds), entropy and modified_entropy (nats, see
        `speechunlearn.audit.membership.features`); and the logits of the forget set in half
        precision, a column a class, NaN for other clips

    """
    number = {label: i for i, label in enumerate(labels)}
    known = about.set_index("hash")
    tables, logits_of = [], [f"{LOGIT}{k}" for k in range(len(labels))]
    for part, contents in hashes.items():
        clips, double = known.loc[list(contents)], logits[part].astype(float)
        truth = clips["label"].map(number).to_numpy()
        kept = logits[part].astype(np.float16) if part == "forget" else np.nan
        about_clips = pd.DataFrame({
            "split": part, "hash": clips.index, "speaker": clips["speaker"].to_numpy(),
            "label": truth, "prediction": double.argmax(1),
            "cluster": clips["cluster"].astype(str).to_numpy(),
            "duration": clips["seconds"].to_numpy(float),
        })
        of_forget = pd.DataFrame(kept, range(len(truth)), logits_of, dtype="float32")
        by_clip = features(double, truth).drop(columns="correct")
        tables.append(about_clips.join([by_clip, of_forget]))
    return pd.concat(tables, ignore_index=True)


def forget_logits(predictions: pd.DataFrame) -> Float[np.ndarray, "clips classes"]:
    """Return the logits of the forget set.

    Args:
        predictions: of `table`

    Raises:
        ParameterError: a table without them

    """
    columns = [column for column in predictions if str(column).startswith(LOGIT)]
    require(columns, "predictions hold no logits: they were written before these were kept")
    columns.sort(key=lambda column: int(column.removeprefix(LOGIT)))
    forget = predictions.loc[predictions["split"] == "forget", columns].to_numpy(float)
    whole = not np.isnan(forget).any()
    require(whole, "predictions: a clip of the forget set has no logits")
    return forget
