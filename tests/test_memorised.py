"""A tiny classifier that knows its clips by heart: relearning and the attacks find it out."""

import copy

import numpy as np
import pytest
import tiny
import torch

from speechunlearn.audit.closeness import anamnesis, relearn_time
from speechunlearn.audit.membership import Scores, auc, features, regression_attack, svc_attack
from speechunlearn.audit.metrics import accuracy
from speechunlearn.dataset.clips import Clips
from speechunlearn.errors import ParameterError
from speechunlearn.lab.relearning import relearn
from speechunlearn.methods.base import Descent, descend
from speechunlearn.methods.losses import true_label_loss
from speechunlearn.models.loop import Work
from speechunlearn.models.training import Recipe, predict, train


def random_labels(n, seed):
    """Clips whose labels say nothing, so that only heart can know them."""
    clips = tiny.clips(n, seed=seed)
    return clips.relabelled(
        torch.randint(3, (n,), generator=torch.Generator().manual_seed(seed))
    )


FORGET, RETAIN, UNSEEN = (random_labels(n, seed) for n, seed in ((8, 1), (8, 2), (40, 3)))
RECIPE = Recipe(epochs=80, learning_rate=0.03, batch_size=16)
AGAIN = Descent(epochs=3, learning_rate=0.01, batch_size=4)


def trained(clips):
    model = tiny.classifier(dropout=0.0)
    train(model, clips, RECIPE, seed=0)
    return model


@pytest.fixture(scope="module")
def original():
    return trained(
        Clips(
            FORGET.waveforms_z + RETAIN.waveforms_z,
            torch.cat([FORGET.labels, RETAIN.labels]),
            FORGET.hashes + RETAIN.hashes,
            FORGET.speakers + RETAIN.speakers,
        )
    )


@pytest.fixture(scope="module")
def retrained():
    return trained(RETAIN)


def read(model, clips):
    return features(predict(model, clips).numpy(), clips.labels.numpy())


def test_the_attacks_find_the_forget_set_and_not_in_the_retrained_model(original, retrained):
    areas = {}
    for name, model in (("original", original), ("retrained", retrained)):
        forget, retain, unseen = (read(model, clips) for clips in (FORGET, RETAIN, UNSEEN))
        threshold = Scores(-forget["loss"].to_numpy(), -unseen["loss"].to_numpy())
        areas[name, "loss"] = auc(threshold)
        losses = (np.log(table["loss"] + 1e-6) for table in (forget, unseen))
        areas[name, "regression"] = auc(regression_attack(*losses, n_folds=4))
        for feature in ("confidence", "modified_entropy", "correct"):
            known = (table[feature] for table in (retain, unseen[:20], forget, unseen[20:]))
            scores = svc_attack(*known)
            areas[name, feature] = auc(scores)
            if name == "original":
                assert (scores.members > 0).mean() >= 0.75, feature
    for (name, attack), area in areas.items():
        if name == "original":
            assert area > 0.75, (attack, area)
            assert area > areas["retrained", attack] + 0.15, (attack, area)


def test_what_was_learned_by_heart_comes_back_at_once(original, retrained):
    curves = [relearn(model, FORGET, AGAIN, seed=5) for model in (original, retrained)]
    assert relearn_time(curves[0], 1.0) == 0
    assert relearn_time(curves[1], 1.0) > 0
    assert anamnesis(curves[0], curves[1], 1.0).value == 0.0
    again = relearn(retrained, FORGET, AGAIN, seed=5)
    assert again == curves[1]
    # within reach of both, so that neither curve ends too early
    assert anamnesis(again, curves[1], max(again), alpha=0.0).value == 1.0


def test_a_relearning_curve_starts_at_the_model_and_leaves_it_alone(retrained):
    before = tiny.weights(retrained)
    predicted = predict(retrained, FORGET).argmax(1).numpy()
    curve = relearn(retrained, FORGET, AGAIN, seed=0)
    assert len(curve) == AGAIN.epochs * 2 + 1
    assert curve[0] == accuracy(FORGET.labels.numpy(), predicted, 3)
    assert tiny.equal(tiny.weights(retrained), before)


def test_scoring_does_not_disturb_the_draws_of_dropout():
    model = tiny.classifier(dropout=0.3, seed=1)
    model.train()
    fast = Descent(epochs=3, learning_rate=0.1, batch_size=4)
    curve = relearn(model, FORGET, fast, seed=2)
    assert len(curve) == 1 + 3 * 2 and len(set(curve)) > 1
    learnt = copy.deepcopy(model)
    descend(
        learnt, FORGET, lambda m, batch: true_label_loss(m, FORGET, batch.positions), fast,
        Work(seed=2),
    )
    predicted = predict(learnt, FORGET).argmax(1).numpy()
    assert curve[-1] == accuracy(FORGET.labels.numpy(), predicted, 3)
    assert model.training


def test_relearning_refuses():
    model = tiny.classifier()
    with pytest.raises(ParameterError, match="forget: the forget set is empty"):
        relearn(model, FORGET.at([]), AGAIN, seed=0)
