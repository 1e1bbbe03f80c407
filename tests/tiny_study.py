"""A study small enough for a test: seconds from the first clip to the last score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from speechunlearn.cache import Cache
from speechunlearn.lab.profiles import Profile
from speechunlearn.lab.study import Study

ENCODER = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_kernel": (64, 8),
    "conv_stride": (32, 8),
    "conv_dim": (8, 8),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 4,
    "classifier_proj_size": 16,
}

_DESCENT = {"epochs": 2, "learning_rate": 1e-3, "batch_size": 4}


def profile(**values: Any) -> Profile:
    """Return a profile whose every size is the smallest that makes sense."""
    defaults: dict[str, Any] = {
        "name": "smoke",
        "corpus": "demos",
        "encoder": "nano",
        "recipe": {"epochs": 2, "learning_rate": 1e-3, "batch_size": 8, "encoder": ENCODER},
        "runs": ((0, 0), (1, 1)),
        "n_values": (1, 2),
        "tau_values": (0.1, 0.3),
        "methods": {
            "ran_lab": _DESCENT,
            "remain": _DESCENT,
            "remain_superloss": _DESCENT,
            "adv": _DESCENT | {"copies": 2, "steps": 2},
            "adv_ela": _DESCENT | {"copies": 2, "steps": 2},
        },
        "retain_sample": 5,
        "threads": 1,
    }
    return Profile(**(defaults | values))


def study(root: Path, cache: Path, **values: Any) -> Study:
    """Return the tiny study of a corpus of `demos_root`."""
    setting = values.pop("setting", "validation")
    return Study(profile(**values), "demos", root, setting=setting, cache=Cache(cache))
