"""Erasing an attribute: the closed form, the fold, the reversal, the probes, the probing."""

import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from speechunlearn.audit import probes
from speechunlearn.errors import ModelError, ParameterError
from speechunlearn.lab import probing
from speechunlearn.lab.relearning import attribute_reader
from speechunlearn.methods import erasure
from speechunlearn.models.training import Recipe, predict

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def cloud() -> tuple[np.ndarray, np.ndarray]:
    """Ninety points of three values in eight dimensions, the last of which is the first again."""
    generator = np.random.default_rng(0)
    codes = np.arange(90) % 3
    points = generator.normal(size=(90, 7)) @ generator.normal(size=(7, 7))
    points[:, 2] += 3 * codes
    points[:, 5] -= (codes == 1) * 2
    return np.c_[points, points[:, 0]], codes


@pytest.fixture(scope="module")
def clips():
    return tiny.clips(24)


@pytest.fixture(scope="module")
def codes(clips):
    return np.array([int(speaker[-1]) % 2 for speaker in clips.speakers])


def test_after_leace_values_have_equal_means_and_a_linear_reader_finds_nothing(cloud):
    points, codes = cloud
    projection, offset = erasure.leace(points, codes)
    erased = points @ projection.T + offset
    means = np.array([erased[codes == code].mean(axis=0) for code in range(3)])
    assert np.ptp(means, axis=0).max() < 1e-10
    # least squares explains none of the one-hot values beyond their mean
    one_hot = np.eye(3)[codes] - np.eye(3)[codes].mean(axis=0)
    weights = np.linalg.lstsq(erased - erased.mean(axis=0), one_hot, rcond=1e-8)[0]
    assert abs((erased - erased.mean(axis=0)) @ weights).max() < 1e-8
    assert np.allclose(projection @ projection, projection)
    assert np.linalg.matrix_rank(projection) == 8 - 2  # three values span two directions


def test_leace_is_the_oblique_projection_along_the_cross_covariance(cloud):
    """A second implementation, without whitening: x - S (S' C+ S)+ S' C+ (x - mean)."""
    points, codes = cloud
    mean = points.mean(axis=0)
    covariance = (points - mean).T @ (points - mean) / len(points)
    cross = (points - mean).T @ (np.eye(3)[codes] - 1 / 3) / len(points)
    inverse = np.linalg.pinv(covariance, rcond=1e-10)
    inner = np.linalg.pinv(cross.T @ inverse @ cross, rcond=1e-10)
    expected = points - (points - mean) @ (cross @ inner @ cross.T @ inverse).T
    projection, offset = erasure.leace(points, codes)
    assert np.allclose(points @ projection.T + offset, expected)


def test_the_projection_is_folded_without_a_rest(clips, codes):
    model = tiny.wav2vec2()
    before = copy.deepcopy(model.state_dict())
    pooled = erasure.representation(model, clips)
    projection, offset = erasure.leace(pooled, codes)
    erased = erasure.project(model, clips, codes)
    head = torch.nn.Sequential(model.network.projector, model.network.classifier).double()
    with torch.no_grad():
        expected = head(torch.from_numpy(pooled @ projection.T + offset))
    model.float()
    assert torch.allclose(predict(erased, clips).double(), expected, atol=1e-5)
    assert np.allclose(erasure.representation(erased, clips), pooled)  # the encoder is as it was
    projected = erasure.representation(erased, clips, projected=True)
    means = [projected[codes == code].mean(axis=0) for code in (0, 1)]
    assert np.allclose(*means, atol=1e-6)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())


def test_a_representation_is_what_the_head_makes_logits_of(clips):
    model = tiny.wav2vec2().train()
    pooled = torch.from_numpy(erasure.representation(model, clips)).float()
    projected = torch.from_numpy(erasure.representation(model, clips, projected=True)).float()
    assert model.training
    logits = predict(model, clips)
    with torch.no_grad():
        assert torch.allclose(model.network.projector(pooled), projected, atol=1e-5)
        assert torch.allclose(model.network.classifier(projected), logits, atol=1e-5)


def test_a_network_with_another_head_is_refused(clips):
    with (
        pytest.raises(ModelError, match="Network has no linear layer 'projector'"),
        erasure.headless(tiny.classifier()),
    ):
        pass


def test_a_reversed_gradient_by_hand():
    values = torch.tensor([1.0, 2.0], requires_grad=True)
    given = erasure.reverse_gradient(values, 0.5)
    assert torch.equal(given, values)
    (given * torch.tensor([3.0, 5.0])).sum().backward()
    assert values.grad.tolist() == [-1.5, -2.5]


def test_reversal_trains_on_the_task_and_leaves_the_original_alone(clips, codes):
    model = tiny.wav2vec2()
    before = copy.deepcopy(model.state_dict())
    reversal = erasure.Reversal(epochs=2, learning_rate=3e-3, batch_size=8)
    changed = erasure.reverse(model, clips, codes, reversal, seed=0)
    assert set(changed.state_dict()) == set(before) and not changed.training
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    plain = erasure.reverse(model, clips, codes, replace(reversal, weight=0.0), seed=0)
    moved = [
        not torch.equal(weight, other)
        for weight, other in zip(changed.parameters(), plain.parameters(), strict=True)
    ]
    assert any(moved)  # the weight reaches the encoder
    right = [
        (predict(m, clips).argmax(1) == clips.labels).float().mean()
        for m in (model, erasure.reverse(
            model, clips, codes, replace(reversal, epochs=40, weight=0.0), seed=0))
    ]
    assert right[1] > max(0.8, right[0])  # and the head that was left out is trained


def test_an_encoder_is_trained_to_tell_an_attribute(clips):
    model = tiny.wav2vec2(n_classes=4)
    reader = attribute_reader(
        model, clips, ("a", "b", "c"), Recipe(epochs=30, learning_rate=5e-3), seed=0
    )
    assert reader.labels == ("a", "b", "c") and model.network.classifier.out_features == 4
    assert (predict(reader, clips).argmax(1) == clips.labels).float().mean() > 0.8


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda table: table.drop(columns="gender"), "no column 'gender'; there are path, age"),
        (lambda table: table.assign(gender="male"), "'gender': 1 value 'male'"),
        (lambda table: table.assign(gender=["male", " ", None]), "2 of 3 .* first is 'b.wav'"),
    ],
)
def test_an_attribute_that_is_none_is_refused(change, said):
    table = pd.DataFrame({"path": ["a.wav", "b.wav", "c.wav"], "age": [30, 40, 30],
                          "gender": ["male", "female", "male"]})  # fmt: skip
    codes, names = erasure.attribute(table, "gender")
    assert codes.tolist() == [1, 0, 1] and names == ["female", "male"]
    assert erasure.attribute(table, "age")[1] == ["30", "40"]
    with pytest.raises(ParameterError, match=said):
        erasure.attribute(change(table), "gender")


@pytest.mark.parametrize(
    "codes, said",
    [
        ([0, 1] * 11, "codes: 22 for 24 clips"),
        ([1] * 24, "one value only"),
        (pd.factorize(np.array(["a", "b", None] * 8, dtype=object))[0], "clip 2 has no value"),
    ],
)
def test_values_that_tell_nothing_apart_are_refused_before_the_model_is_asked(clips, codes, said):
    model = tiny.classifier()  # has no head that could be left out: to ask it is another error
    with pytest.raises(ParameterError, match=said):
        erasure.project(model, clips, np.array(codes))
    with pytest.raises(ParameterError, match=said):
        erasure.reverse(model, clips, codes, erasure.Reversal(), seed=0)
    if len(codes) == len(clips):
        with pytest.raises(ParameterError, match=said):
            erasure.leace(np.eye(24), np.array(codes))


@pytest.mark.parametrize("kind", probes.KINDS)
def test_a_probe_that_knows_voices_alone_tells_no_other_speaker(kind):
    """Each speaker is a place of its own: a probe is right in those it knows, in others not."""
    speakers = np.repeat(np.arange(24), 5)
    pooled = np.random.default_rng(0).normal(size=(24, 40))[speakers]
    codes = speakers % 2
    assert (probes.probe(kind, pooled, codes, pooled) == codes).all()
    assert (probes.across_speakers(kind, pooled, codes, speakers) == codes).mean() < 0.7
    with_it = np.c_[pooled[:, :4], codes]
    assert (probes.across_speakers(kind, with_it, codes, speakers) == codes).mean() > 0.9


def test_a_probe_of_no_kind_or_too_few_speakers_is_refused():
    with pytest.raises(ParameterError, match="'svm' is not one of linear, mlp"):
        probes.probe("svm", np.eye(2), np.arange(2), np.eye(2))
    with pytest.raises(ParameterError, match="folds: 4, but a value has 1 speakers only"):
        probes.across_speakers("linear", np.eye(3), np.array([0, 1, 0]), np.array(list("aba")))


def test_counts_become_the_uar_of_the_clips_they_count():
    truth, said = list("aabbb") + list("ab"), list("abbab") + list("bb")
    about = {"run": 0, "target": "task", "level": "logits", "probe": "", "trained_on": ""}
    rows = probing.counts(
        ["1"] * 5 + ["2"] * 2, truth, said, model="original", **about
    ) + probing.counts(["1"] * 5 + ["2"] * 2, truth, truth, model="leace", **about)
    table = probing.summary(pd.DataFrame(rows)).set_index("model")
    assert table.loc["original", "uar"] == pytest.approx((1 / 3 + 3 / 4) / 2)
    assert table.loc["leace", "uar"] == 1 and table.loc["leace", "clips"] == 7
    assert table.loc["leace", "difference"] == pytest.approx(1 - (1 / 3 + 3 / 4) / 2)
    shown = probing.readable(table.reset_index(), "task")
    assert list(shown.columns) == ["Original", "LEACE", "n"] and shown["n"].tolist() == ["7 in 1"]
