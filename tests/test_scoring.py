"""What a model says of every clip: the table that all scores come from."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from scipy.stats import entropy
from tiny import classifier, clips

from speechunlearn.audit import predictions
from speechunlearn.errors import ParameterError
from speechunlearn.models import training


def scored():
    model, own = classifier(), clips(9)
    halves = {"forget": own.at(range(3)), "unseen": own.at(range(3, 9))}
    labels = list(model.labels)
    about = pd.DataFrame(
        {
            "hash": own.hashes, "speaker": own.speakers, "cluster": own.speakers,
            "label": [labels[int(i)] for i in own.labels], "seconds": 0.5,
        }
    )
    logits = training.answers(model, halves)
    hashes = {part: list(own.hashes) for part, own in halves.items()}
    return model, halves, logits, predictions.table(logits, hashes, about, labels)


def test_the_table_says_what_the_logits_say():
    model, parts, _, table = scored()
    assert list(table["split"]) == 3 * ["forget"] + 6 * ["unseen"]
    assert list(table["hash"]) == parts["forget"].hashes + parts["unseen"].hashes
    assert list(table["speaker"]) == parts["forget"].speakers + parts["unseen"].speakers
    assert list(table.index) == list(range(9))
    logits = np.concatenate([training.predict(model, p).double().numpy() for p in parts.values()])
    labels = np.concatenate([part.labels.numpy() for part in parts.values()])
    assert list(table["label"]) == list(labels)
    of_label = softmax(logits, axis=1)[np.arange(9), labels]
    np.testing.assert_allclose(table["confidence"], of_label, rtol=1e-9)
    np.testing.assert_allclose(table["loss"], -np.log(of_label), rtol=1e-9)
    np.testing.assert_array_equal(table["prediction"], logits.argmax(1))
    assert pd.api.types.is_integer_dtype(table["label"])


def test_entropies_are_those_of_the_probabilities():
    _, _, logits, table = scored()
    p = np.concatenate([softmax(part.astype(float), axis=1) for part in logits.values()])
    np.testing.assert_allclose(table["entropy"], entropy(p, axis=1), rtol=1e-9)


def test_the_forget_sets_logits_are_kept_to_half_precision_and_no_others():
    _, _, logits, table = scored()
    kept = predictions.forget_logits(table)
    np.testing.assert_array_equal(kept, logits["forget"].astype(np.float16))
    assert not np.array_equal(kept, logits["forget"])
    columns = [c for c in table if c.startswith(predictions.LOGIT)]
    assert table.loc[table["split"] == "unseen", columns].isna().all(axis=None)


def test_parts_come_in_the_order_asked_for():
    _, halves, logits, table = scored()
    hashes = {part: list(own.hashes) for part, own in halves.items()}
    backwards = dict(reversed(logits.items()))
    labels = [f"class {i}" for i in range(logits["forget"].shape[1])]
    about = table.rename(columns={"duration": "seconds"})
    about = about.assign(label=[labels[i] for i in about["label"]])
    wanted = ["hash", "speaker", "cluster", "label", "seconds"]
    again = predictions.table(backwards, hashes, about[wanted], labels)
    assert list(again["hash"]) == list(table["hash"])
    np.testing.assert_array_equal(again["loss"], table["loss"])


def test_tables_without_logits_are_refused():
    _, _, _, table = scored()
    columns = [c for c in table if c.startswith(predictions.LOGIT)]
    with pytest.raises(ParameterError, match="no logits"):
        predictions.forget_logits(table.drop(columns=columns))
    table.loc[0, columns[0]] = np.nan
    with pytest.raises(ParameterError, match="a clip of the forget set has no logits"):
        predictions.forget_logits(table)


def test_logits_keep_the_models_mode():
    model, halves, _, _ = scored()
    model.train()
    training.answers(model, halves)
    assert model.training
    assert isinstance(training.answers(model, halves)["forget"], np.ndarray)
