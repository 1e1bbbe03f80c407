"""Per-clip tables of models that differ in one thing: how much of the forget set they remember."""

import numpy as np
import pandas as pd
from scipy.special import log_softmax

from speechunlearn.audit.membership import features
from speechunlearn.audit.predictions import LOGIT
from speechunlearn.lab.study import Evaluation

SIZES = {"forget": 60, "retain": 60, "unseen": 120}
N_LABELS = 3


def answers(
    seed: int, forget: float = 0.0, noise: float = 0.7, forget_id: int = 0, unseen: float = 0.0
) -> pd.DataFrame:
    """Table of a model that knows retained clips, and the forget set as much as it is told.

    Args:
        seed: of the model
        forget: how much the true class's logit is raised on the forget set; 0 is a retrained
            model, 3 knows these clips as the retained, -3 was pushed too far
        noise: by how much models differ
        forget_id: which clips
        unseen: as ``forget``, on unseen clips

    """
    of_clips, of_model = (np.random.default_rng([k, s]) for k, s in ((0, forget_id), (1, seed)))
    tables = []
    for split, n in SIZES.items():
        label = of_clips.integers(N_LABELS, size=n)
        difficulty = of_clips.normal(size=(n, N_LABELS))
        duration = of_clips.uniform(0.5, 2, size=n)
        logits = difficulty + noise * of_model.normal(size=(n, N_LABELS))
        raised = {"forget": forget, "retain": 3.0, "unseen": unseen}[split]
        logits[np.arange(n), label] += 1.5 + raised
        loss = -log_softmax(logits, axis=1)[np.arange(n), label]
        hints = features(logits, label)
        speakers = [f"{'u' if split == 'unseen' else 't'}{i % 12}" for i in range(n)]
        tables.append(
            pd.DataFrame(
                {
                    "split": split, "hash": [f"{forget_id}-{split}-{i:03d}" for i in range(n)],
                    "speaker": speakers, "cluster": speakers, "label": label,
                    "prediction": logits.argmax(1), "loss": loss, "confidence": np.exp(-loss),
                    "duration": duration, "entropy": hints["entropy"],
                    "modified_entropy": hints["modified_entropy"],
                }
                | {
                    f"{LOGIT}{k}": logits[:, k] if split == "forget" else np.nan
                    for k in range(N_LABELS)
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def evaluation(method: str, table: pd.DataFrame, **values: object) -> Evaluation:
    """A model of a made-up study, with such a table."""
    record = {
        "profile": "cpu", "task": "keyword", "corpus": "digits", "corpus_hash": "-",
        "setting": "validation", "encoder": "nano", "method": method, "n_forget": SIZES["forget"],
        "tau": None, "seed": 0, "forget_id": "0", "variant": "", "hyperparameters": "{}",
        "forget_kind": "clips", "n_classes": N_LABELS, "needs": "", "seconds": 2.0,
        "forward_backward": 10, "peak_memory_mb": 100.0, "commit": "-", "lock": "-",
        "machine": "made up",
    }
    return Evaluation(record | values, table)
