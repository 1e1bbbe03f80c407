"""What a deletion request will take, before it is made: ``speechunlearn cost``."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from speechunlearn import methods, provenance
from speechunlearn.errors import ParameterError, lack_is_told
from speechunlearn.methods import planner
from speechunlearn.methods.planner import Estimate
from speechunlearn.models.training import Recipe
from speechunlearn.tool import defaults, reports
from speechunlearn.tool.unlearning import check_seed, prepare

#: seconds that a calibration should take
BUDGET = 20.0


@dataclass(frozen=True)
class Forecast:
    """What a request will take on this machine.

    Args:
        method: its name
        parameters: its hyperparameters
        why: why these
        clips: how many are in each set, by its name
        seconds: their length together, in seconds, by the name of the set
        unlearning: what `speechunlearn.tool.forget` reports as its cost; to read the clips, and
            to judge the models, is not in it
        retraining: what training from the start on the retained clips takes; None without them
        retrain_epochs: of that training
        machine: what it was measured on
        fast: whether both are computed with ``fast``

    """

    method: str
    parameters: dict[str, Any]
    why: str
    clips: dict[str, int]
    seconds: dict[str, float]
    unlearning: Estimate
    retraining: Estimate | None
    retrain_epochs: int
    machine: str
    fast: bool

    @property
    def ratio(self) -> float | None:
        """Seconds of unlearning by those of retraining; None without retained clips."""
        if self.retraining is None:
            return None
        return self.unlearning.total.seconds / self.retraining.total.seconds

    def summary(self) -> str:
        """Return the plan in a few lines."""
        title = methods.get(self.method).title
        return reports.filled("cost.txt.j2", plan=self, title=title).rstrip("\n")


@lack_is_told()
def forecast(
    model: str | Path,
    forget: str | Path,
    *,
    retain: str | Path | None = None,
    method: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    retrain_epochs: int | None = None,
    seed: int = 0,
    root: str | Path | None = None,
    allow_outside: bool = False,
    fast: bool = False,
    budget: float = BUDGET,
) -> Forecast:
    """Predict what a request will take, from a short calibration on its own clips.

    Args:
        model: folder or hub id of a transformers audio-classification checkpoint
        forget: CSV of the clips to forget: path, label, optionally speaker
        retain: CSV of clips the model was trained on and is to keep
        method: name; None takes the leaderboard's
        parameters: hyperparameters of the method in place of the recommended ones
        retrain_epochs: of training from the start on the retained clips, which is predicted beside
            where these are given, with the other hyperparameters of
            `speechunlearn.models.training.Recipe`; None is its number, 20
        seed: of the run
        root: folder that paths in the CSVs are relative to and lie in; each CSV's own without it
        allow_outside: let paths lead out of the root
        fast: of a request with ``fast``, and of training computed likewise
        budget: seconds that the calibration should take. A large model takes longer: one batch
            of each phase is the least, and the search of two clips by methods that have one, see
            `speechunlearn.methods.planner`

    Returns:
        seconds with an interval, passes and peak memory, by part.
        Passes are exact, but for those of methods that search on some clips: they are estimated

    Raises:
        SpeechUnlearnError: anything in the request that can't be used; retraining without the
            retained clips

    """
    available = {"forget"} | ({"retain"} if retain is not None else set())
    choice = defaults.choose(available, method)
    hyperparameters = defaults.parameters(choice.method, choice.values | dict(parameters or {}))
    check_seed(seed)
    if not budget > 0:
        raise ParameterError(f"budget: {budget} is not positive")
    if retrain_epochs is not None and retrain_epochs < 1:
        raise ParameterError(f"retrain_epochs: {retrain_epochs} is not positive")
    if retrain_epochs is not None and retain is None:
        raise ParameterError("retrain_epochs: it needs the retain clips, which are not given")
    files = {"forget": forget, "retain": retain}
    prepared = prepare(model, files, root=root, allow_outside=allow_outside)
    parts = {name: part.clips for name, part in prepared.sets.items()}
    hyperparameters = defaults.budgeted(
        choice.method, hyperparameters, parameters or {}, len(parts["forget"])
    )
    recipe = Recipe(epochs=retrain_epochs or Recipe.epochs, fast=fast)
    data = prepared.data()
    share = budget if retain is None else budget / 2
    unlearning = planner.estimate(
        choice.method, prepared.model, data, hyperparameters, seed=seed, fast=fast, kept=True,
        budget=share,
    )
    retraining = None if retain is None else planner.estimate(
        "retrain", prepared.model, replace(data, recipe=recipe), methods.parameters("retrain"),
        seed=seed, kept=True, budget=share,
    )
    rate = prepared.model.frontend.sampling_rate
    return Forecast(
        choice.method, asdict(hyperparameters), choice.why,
        {name: len(clips) for name, clips in parts.items()},
        {name: sum(clips.lengths) / rate for name, clips in parts.items()},
        unlearning, retraining, recipe.epochs, provenance.describe(), fast,
    )
