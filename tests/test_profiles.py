"""Profiles: the three that are carried, and anyone's own."""

import dataclasses

import pytest

from speechunlearn import methods, schema
from speechunlearn.chapters import context
from speechunlearn.errors import ParameterError
from speechunlearn.lab import profiles
from speechunlearn.models.training import Recipe


def test_values_are_those_that_the_committed_runs_were_made_with():
    smoke, cpu, paper = map(profiles.get, profiles.NAMES)
    assert (smoke.corpus, cpu.corpus, paper.corpus) == ("embedded", "ravdess", "demos")
    assert smoke.runs == ((0, 0), (1, 1)) and smoke.reproducible and not cpu.reproducible
    assert smoke.recipe["encoder"]["conv_dim"] == (64, 48, 48)
    assert smoke.methods["adv_ela"] == {
        "epochs": 6, "learning_rate": 1e-3, "copies": 2, "steps": 4, "fisher_per": "batch",
    }
    assert cpu.recipe["speeds"] == (0.85, 0.925, 1.0, 1.075, 1.15)
    assert cpu.recipe["encoder"]["mask_time_length"] == 5
    assert cpu.splits == {"train": 2 / 3, "validation": 1 / 6, "test": 1 / 6}
    assert cpu.methods["ran_lab"] == {"epochs": 15, "learning_rate": 3e-4}
    assert cpu.methods["l2ul"] == {"epochs": 2, "learning_rate": 5e-5, "copies": 2, "steps": 20}
    assert paper.methods == {} and paper.max_seconds == 6.0 and paper.scaling == cpu.scaling
    words, voices, images = map(cpu.for_task, ("keyword", "speaker", "image"))
    assert words.encoders["speech_commands_12"] == "nano-arabic" and words.top_db == 30.0
    assert voices.recipe == words.recipe | {
        "epochs": 16, "clean_epochs": 3, "speeds": (1.0,), "encoder": voices.recipe["encoder"],
    }
    assert voices.top_db is None and voices.methods["perturbed"]["speeds"][0] == 0.88
    assert images.methods["delete"]["learning_rate"] == 9e-5
    assert images.methods["scrub"] == words.methods["scrub"]
    assert paper.for_task("image").methods == images.methods
    assert smoke.for_task("image").recipe == images.recipe | {
        "epochs": 24, "learning_rate": 6e-3, "batch_size": 64,
    }


@pytest.mark.parametrize("name", profiles.NAMES)
def test_every_task_of_a_profile_has_a_recipe_and_methods_that_exist(name):
    for task in ("emotion", *profiles.get(name).tasks):
        profile = profiles.get(name).for_task(task)
        schema.checked(Recipe, profile.recipe, "recipe")
        for method, values in profile.methods.items():
            schema.checked(methods.get(method).parameters, values, method)
        for method in (*profile.compared, *profile.sequence_methods, *profile.ranked):
            methods.get(method)


@pytest.fixture
def own(tmp_path):
    def write(text, name="mine"):
        file = tmp_path / f"{name}.yaml"
        file.write_text(text)
        return str(file)

    return write


def test_a_file_is_like_a_profile_but_for_what_it_sets(own):
    cpu = profiles.get("cpu")
    mine = profiles.get(own("like: cpu\ncorpus: csv\nruns: [[3, 4]]\nn_values: 7\ntop_db: 20\n"))
    given = {"corpus": "csv", "runs": ((3, 4),), "n_values": (7,), "top_db": 20.0}
    assert mine == dataclasses.replace(cpu, name=mine.name, **given)
    deeper = profiles.get(own(
        "like: cpu\nmethods:\n  like: cpu.methods\n  adv: {like: cpu.methods.adv, copies: 9}\n"
    ))
    assert deeper.methods == cpu.methods | {"adv": cpu.methods["adv"] | {"copies": 9}}
    assert type(profiles.get(own("like: cpu\nranked_size: 1e-1")).ranked_size) is float


def test_a_files_name_tells_its_values(own):
    one = profiles.get(own("like: smoke\ntrials: 3\nthreads: 1")).name
    assert one.startswith("mine-") and len(one) == len("mine-") + 8
    assert profiles.get(own("# why\nlike: smoke\nthreads: 1\ntrials: 3")).name == one
    assert profiles.get(own("like: smoke\nthreads: 1\ntrials: 4")).name != one
    assert profiles.get(own("like: cpu", "cpu")).name not in profiles.NAMES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("like: cpu\ntrails: 3", "mine.yaml has no 'trails'; it has name, corpus"),
        ("like: cpu\ntrials: '3'", "mine.yaml: trials is '3'; it should be a valid integer"),
        ("like: cpu\ntrials: 0", "mine.yaml: trials is 0; it should be greater than or equal to 1"),
        ("like: cpu\nreproducible: 1", "mine.yaml: reproducible is 1"),
        ("like: cpu\ntau_values: [0.1, x]", "mine.yaml: tau_values.1 is 'x'"),
        ("like: cpu\nruns: [0, 1]", "mine.yaml: runs.0 is 0"),
        ("like: cpu\nruns: []", "mine.yaml: runs is "),
        ("like: cpu\nsettings: [train]", "mine.yaml: settings.0 is 'train'"),
        ("like: cpu\nsplits: {train: x}", "mine.yaml: splits.train is 'x'"),
        ("like: cpu\nmethods: [adv]", "mine.yaml: methods is .'adv',."),
        ("like: cpu\ntasks: {image: {trials: x}}", "mine.yaml: tasks.image: trials is 'x'"),
        ("like: cpu\ntasks: {image: {tasks_: 1}}", "mine.yaml: tasks.image has no 'tasks_'"),
        ("like: cpu\nname: cpu", "mine.yaml: name is 'cpu'"),
        ("like: gpu", "mine.yaml: like is 'gpu'; it should be smoke, cpu, paper"),
        ("like: cpu.corpus", "mine.yaml: like is 'cpu.corpus'"),
        ("like: cpu\nsplits: {like: cpu.nowhere}", "mine.yaml: like is 'cpu.nowhere'"),
        ("like: cpu\n1: 2", "does not hold name: value"),
        ("like: cpu\nsplits: {1: 2}", r"mine.yaml: splits.1.\[key\] is 1"),
        ("like: cpu\ntrials: 3\ntrials: 4", "cannot read .*mine.yaml.*'trials' stands twice"),
        ("corpus: csv", "mine.yaml: encoder is missing"),
        ("- cpu", "mine.yaml' does not hold name: value"),
        ("{", "cannot read .*mine.yaml"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_the_key_and_the_value(own, text, message):
    with pytest.raises(ParameterError, match=f"(?s){message}"):
        profiles.get(own(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipe: {like: cpu.recipe, epochz: 3}", "recipe has no 'epochz'"),
        ("recipe: {like: cpu.recipe, epochs: '3'}", "recipe: epochs is '3'"),
        ("methods: {adv: {copies: 1.5}}", "method 'adv': copies is 1.5"),
        ("methods: {magic: {copies: 1}}", "method: 'magic'"),
    ],
)
def test_recipe_and_methods_are_checked_before_a_clip_is_read(own, text, message):
    with pytest.raises(ParameterError, match=message):
        context.start(own(f"like: smoke\n{text}"))


def test_no_file_and_no_profile(tmp_path):
    with pytest.raises(ParameterError, match="cannot read .*nowhere.yaml"):
        profiles.get(str(tmp_path / "nowhere.yaml"))
    with pytest.raises(ParameterError, match="profile: 'huge' is not one of smoke, cpu, paper"):
        profiles.get("huge")


def test_a_run_keeps_the_file_beside_its_results(own, tmp_path):
    file = own("like: smoke\n# why\nthreads: 1\nencoder: nano\n")
    run = context.start(file, results=str(tmp_path / "out"), task="keyword", runs=[[1, 1]])
    assert (tmp_path / "out" / f"{run.profile.name}.yaml").read_text().endswith("encoder: nano\n")
    # another task's study has the file's own values, and not those of this one
    images = run.of_task("image", "digits").study().profile
    assert images.name == run.profile.name and images.runs == ((1, 1),)
    assert images.recipe == profiles.get("smoke").for_task("image").recipe
