"""What a request is done by where it does not say: made from leaderboards and trials."""

import pytest
from conftest import REPOSITORY

from speechunlearn import methods
from speechunlearn.lab import leaderboard, tuning
from speechunlearn.tool import defaults


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "data")
    import make_defaults

    return make_defaults


def test_the_file_is_what_leaderboards_and_trials_say(script):
    assert script.FILE.read_text() == script.text()


def test_the_default_is_the_leaderboards(script):
    for given in ({"forget"}, {"forget", "retain"}):
        choice = defaults.choose(given)
        assert choice.method == "perturbed" and choice.values == {}
        assert "found on the clips themselves" in choice.why
        assert defaults.choose(given, given={"weight"}).values == {}


def test_few_clips_get_the_steps_they_need_and_what_is_named_stays():
    given = methods.parameters("neggrad", epochs=3, batch_size=16)
    assert defaults.budgeted("neggrad", given, (), 8).epochs == defaults.STEPS
    assert defaults.budgeted("neggrad", given, (), 33).epochs == -(-defaults.STEPS // 3)
    assert defaults.budgeted("neggrad", given, (), 10**6).epochs == 3
    assert defaults.budgeted("neggrad", given, {"epochs"}, 8) == given
    for method in ("adv", "perturbed", "scrub"):  # passes over copies; targets; more than forget
        own = methods.parameters(method)
        assert defaults.budgeted(method, own, (), 8) == own


def test_the_least_gap_by_the_retrained_wins_among_what_can_be_fed(script, monkeypatch, tmp_path):
    monkeypatch.setattr(leaderboard, "FOLDER", tmp_path)
    # delete: 2 and 3 times the retrained gap; neggrad: 4 and 2; scrub 1 and 1; sisa trains anew
    for corpus, rows in {
        "a": {"retrain": 0.1, "delete": 0.2, "neggrad": 0.4, "scrub": 0.1, "sisa": 0.01},
        "b": {"retrain": 0.01, "delete": 0.03, "neggrad": 0.02, "scrub": 0.01, "sisa": 0.001},
    }.items():
        lines = [f"{name},average_gap,{gap}" for name, gap in rows.items()]
        (tmp_path / f"cpu-{corpus}").mkdir()
        (tmp_path / f"cpu-{corpus}" / "scores.csv").write_text(
            "\n".join(["method,score,value", *lines]) + "\n"
        )
    best = script.made()["best"]
    assert best["forget"] == {"method": "delete", "among": 2}
    assert best["forget and retain"] == {"method": "scrub", "among": 3}


def test_the_strength_is_the_mean_of_those_tuned(script, monkeypatch, tmp_path):
    monkeypatch.setattr(tuning, "FOLDER", tmp_path)
    for corpus, rate in (("a", 1e-4), ("b", 1e-6)):
        (tmp_path / f"cpu-{corpus}.csv").write_text(
            "method,overrides,chosen\n"
            f'delete,"{{""learning_rate"": {rate}}}",True\n'
            'delete,"{""learning_rate"": 1.0}",False\n'
        )
    found = script.hyperparameters()
    assert found["delete"]["tuned"] and not found["adv"]["tuned"]
    assert found["delete"]["values"]["learning_rate"] == pytest.approx(1e-5)
    assert set(found).isdisjoint({"retrain", "sisa", "eu_k", "scrub_r"})
