"""How costs grow: the points, the fits, and what is said of them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny

from speechunlearn.errors import ParameterError
from speechunlearn.lab import profiles, scaling
from speechunlearn.lab.scaling import Bench, Sizes

CENTRE = Sizes(n=3, copies=2, steps=2, seconds=0.05, width=1.0, retained=6)
METHODS = ("ran_lab", "perturbed", "adv_ela", "finetune", "retrain")


def of_axes(axes) -> scaling.Scaling:
    return scaling.Scaling(axes, CENTRE, METHODS, repeats=2, epochs=2, batch_size=8, budget=0.2)


@pytest.fixture
def bench() -> Bench:
    return Bench(tiny.wav2vec2(), tiny.clips(40), epochs=2, batch_size=8)


def test_a_point_is_what_its_sizes_say(bench):
    request = bench.unlearning_data(replace(CENTRE, n=5, retained=7, seconds=0.1))
    assert (len(request.forget), len(request.retain)) == (5, 7)
    assert set(request.forget.lengths + request.retain.lengths) == {1600}
    assert not set(request.forget.hashes) & set(request.retain.hashes)
    own = bench.parameters("adv_ela", replace(CENTRE, copies=4, steps=3))
    assert (own.copies, own.steps, own.epochs, own.batch_size) == (4, 3, 2, 8)
    more = bench.unlearning_data(replace(CENTRE, n=30, retained=60))  # of 40 clips
    assert (len(more.forget), len(more.retain)) == (30, 60)
    assert len({*more.forget.hashes, *more.retain.hashes}) == 90
    assert more.retain.waveforms_z[10].equal(more.forget.waveforms_z[0])
    with pytest.raises(ParameterError, match="0 samples"):
        bench.unlearning_data(replace(CENTRE, seconds=1e-9))


def test_clips_are_cut_or_repeated():
    clips = tiny.clips(3)
    for samples in (100, 2000):
        for wave, own in zip(
            scaling.of_length(clips, samples).waveforms_z, clips.waveforms_z, strict=True
        ):
            assert len(wave) == samples and wave[:100].equal(own[:100])


def test_a_wider_model_has_the_same_layers_and_more_weights():
    model = tiny.wav2vec2()
    wide = scaling.widened(model, 2.0)
    assert wide.n_parameters > 2 * model.n_parameters
    assert len(list(wide.parameters())) == len(list(model.parameters()))
    assert wide.labels == model.labels
    assert scaling.widened(model, 1.0).n_parameters == model.n_parameters


def test_passes_grow_as_the_methods_say(bench):
    axes = {"n": (2, 4), "copies": (1, 2), "steps": (1, 3), "retained": (4, 8), "width": (1.0, 2.0)}
    table = scaling.measured(bench, of_axes(axes).points(), repeats=2)
    assert (table["seconds"] > 0).all() and (table["memory_mb"] >= 0).all()
    found = scaling.slopes(table, "forward_backward").set_index(["axis", "method"])
    # two copies of each clip, and a batch of 8 concatenated clips whatever the number of clips
    growth = {"ran_lab": 1.0, "perturbed": np.log2((3 * 4 + 8) / (3 * 2 + 8)), "adv_ela": 1.0}
    for method, slope in growth.items():
        assert found.loc[("n", method), "slope"] == pytest.approx(slope)
        assert found.loc[("retained", method), "verdict"] == "no growth found"
    for method in ("finetune", "retrain"):
        assert found.loc[("retained", method), "slope"] == pytest.approx(1)
        assert found.loc[("retained", method), "verdict"] == "grows"
        assert found.loc[("n", method), "verdict"] == "no growth found"
    assert found.loc[("steps", "adv_ela"), "verdict"] == "grows"
    assert set(table.loc[table["axis"] == "copies", "method"]) == {"adv_ela"}
    assert set(table.loc[table["axis"] == "width", "size"]) == {
        bench.of_width(width).n_parameters for width in (1.0, 2.0)
    }


def made_up(slope: float, noise: float, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    size = np.repeat([4, 8, 16, 32], 5)
    seconds = 0.1 * size**slope * np.exp(noise * rng.standard_normal(len(size)))
    return pd.DataFrame({"axis": "n", "method": "ran_lab", "size": size, "seconds": seconds})


@pytest.mark.parametrize(
    ("slope", "verdict"), [(1.0, "grows"), (0.5, "grows"), (-1.0, "shrinks")]
)
def test_a_slope_is_found_again(slope, verdict):
    found = scaling.slopes(made_up(slope, 0.1)).iloc[0]
    assert found["low"] < slope < found["high"] and found["verdict"] == verdict
    assert scaling.slopes(made_up(slope, 0.0)).iloc[0]["slope"] == pytest.approx(slope)


def test_intervals_hold_the_slope_as_often_as_they_say():
    tables = [scaling.slopes(made_up(0.0, 0.3, seed)).iloc[0] for seed in range(300)]
    inside = np.mean([row["low"] < 0 < row["high"] for row in tables])
    assert 0.91 < inside < 0.985
    assert np.mean([row["verdict"] == "no growth found" for row in tables]) == inside


def test_what_was_not_seen_has_no_slope():
    table = made_up(1.0, 0.1).assign(memory_mb=0.0)
    found = scaling.slopes(table, "memory_mb").iloc[0]
    assert np.isnan(found["slope"]) and found["verdict"] == "not measured"


@pytest.mark.parametrize("name", profiles.NAMES)
def test_every_profile_says_what_is_measured(name):
    sizes = scaling.Scaling.of(profiles.get(name))
    assert set(sizes.axes) == set(scaling.AXES)
    wanted = sizes.points()
    for axis, values in sizes.axes.items():
        assert getattr(sizes.centre, axis) in values
        assert {m for a, m, _ in wanted if a == axis} >= {"adv_ela"}
    assert list(scaling.Scaling.of(profiles.get(name), ["n"]).axes) == ["n"]
    with pytest.raises(ParameterError, match="axes: \\['m'\\] are not among n, copies"):
        scaling.Scaling.of(profiles.get(name), ["m"])


@pytest.mark.parametrize(
    ("axes", "message"),
    [({"m": (1, 2)}, "'m' is not one of n, copies"), ({"n": (2, 2)}, "not two positive sizes"),
     ({"n": (0, 2)}, "not two positive sizes")],
)
def test_axes_that_are_none_are_refused(axes, message):
    with pytest.raises(ParameterError, match=message):
        of_axes(axes).points()


def test_predictions_stand_beside_runs(bench, capsys):
    table = scaling.predictions(
        bench, [("adv_ela", CENTRE), ("retrain", CENTRE)], repeats=1, budget=0.2
    )
    assert table["passes agree"].all()
    assert np.allclose(table["ratio"], table["predicted"] / table["real"])
    assert len(table) == 2
    with pytest.raises(ParameterError, match="repeats: 0"):
        scaling.measured(bench, [], repeats=0)
