"""Plans and jobs: what is planned, what is made by whom, and what a kill leaves."""

import contextlib
import dataclasses
import functools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import nbformat
import pandas as pd
import pytest
import tiny_study
import torch
import yaml

from speechunlearn import corpora
from speechunlearn.chapters import answers, context, figures, grid, pages, workflow
from speechunlearn.chapters.grid import Grid, Recorder
from speechunlearn.chapters.workflow import Plan
from speechunlearn.errors import CorpusError, NotMade, ParameterError, SpeechUnlearnError
from speechunlearn.files import alone
from speechunlearn.lab import experiments, leaderboard, profiles, results, scaling, study, tuning
from speechunlearn.lab.forget_sets import clips, speakers
from speechunlearn.lab.results import KEY, Results

SSD = {"methods": tiny_study.profile().methods | {"ssd": {"selection": 3.0}}}


@pytest.fixture
def fast(monkeypatch):
    """Read each corpus once."""
    monkeypatch.setattr(corpora, "read_manifest", lambda *given: _manifest(*given).copy())


_manifest = functools.cache(corpora.read_manifest)


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def planner(root, cache, **values):
    """A study that plans: the same, with a store that makes nothing."""
    return study.Study(
        tiny_study.profile(**values), "demos", root, cache=Recorder(Plan(str(cache)))
    )


def asked(of):
    """A grid with several draws of a set, a kept statistic, and requests one after another."""
    for n in (1, 2):
        yield of.evaluate("adv", clips(n, 0), 0, tau=0.3)
    yield of.evaluate("adv_ela", clips(1, 0), 0, tau=0.3, sets="anew")
    yield of.evaluate("original", clips(2, 0), 0)
    yield of.evaluate("retrain", clips(1, 0), 0)
    yield of.evaluate("ssd", clips(2, 0), 0)
    yield of.evaluate("ran_lab", speakers(min(of.train_manifest["speaker"])), 0)


def made(cache):
    return {
        f"{record.parent.parent.name}/{record.parent.name}"
        for record in Path(cache).glob("*/*/artefact.json")
    }


def test_a_plan_has_the_keys_of_what_is_then_made(demos_root, tmp_path):
    planned = planner(demos_root, tmp_path / "cache", **SSD)
    assert all(evaluation.record == {} for evaluation in asked(planned))
    with pytest.raises(NotMade, match="validation: original model, seed 0: not made"):
        planned.original(0)
    planned.cache.finish()
    plan = planned.cache.plan
    assert not (tmp_path / "cache").exists()
    for job in plan.jobs.values():
        assert set(job["needs"]) <= set(plan.jobs)
    plan = Plan.read(plan.write(tmp_path))
    # each job alone, after what it needs
    waiting = dict(plan.jobs)
    while waiting:
        name = next(n for n, job in waiting.items() if not set(job["needs"]) & set(waiting))
        workflow.make(plan, name)
        del waiting[name]
    assert made(tmp_path / "cache") == set(plan.jobs)
    assert plan.missing() == []
    # nothing is left for the study itself to make, and a set serves two draws
    found = list(asked(tiny_study.study(demos_root, tmp_path / "cache", **SSD)))
    assert made(tmp_path / "cache") == set(plan.jobs)
    assert sum(name.startswith("adversarial/") for name in plan.jobs) == 1
    # one that plans reads what is there
    again = list(asked(planner(demos_root, tmp_path / "cache", **SSD)))
    assert [evaluation.record for evaluation in again] == [
        evaluation.record for evaluation in found
    ]


def test_results_of_planned_cells_wait_until_all_are_written_down(demos_root, tmp_path):
    planned = planner(demos_root, tmp_path / "cache")
    with pytest.raises(NotMade):
        Results.of(
            planned.evaluate(m, clips(1, 0), 0).as_variant("x") for m in ("original", "retrain")
        )
    assert sum(name.startswith("evaluations/") for name in planned.cache.plan.jobs) == 2


def test_requests_one_after_another_wait_for_those_before(demos_root, tmp_path):
    planned = planner(demos_root, tmp_path / "cache")
    steps = [speakers("f_01"), speakers("m_02")]
    names = []
    planned.hashes = lambda forget_set: sorted(map(str, forget_set.names))  # type: ignore[method-assign]
    plan = planned.cache.plan
    for k in (1, 2):
        planned.evaluate("ran_lab", steps[:k], 0)
        names.append([n for n in plan.jobs if n.startswith("evaluations/")][-1])
    assert names[0] in plan.jobs[names[1]]["needs"]


def test_changed_code_gives_other_jobs(demos_root, tmp_path, monkeypatch):
    def names():
        planned = planner(demos_root, tmp_path / "cache")
        planned.evaluate("ran_lab", clips(1, 0), 0)
        return set(planned.cache.plan.jobs)

    before = names()
    assert names() == before
    monkeypatch.setattr(study, "code_hash", lambda *modules: "changed")
    assert not names() & before


def test_a_job_whose_key_has_changed_is_an_error(demos_root, tmp_path, monkeypatch):
    planned = planner(demos_root, tmp_path / "cache")
    planned.ask("models", without=None, seed=0)
    (name,) = planned.cache.plan.jobs
    monkeypatch.setattr(study, "code_hash", lambda *modules: "changed")
    with pytest.raises(SpeechUnlearnError, match="code or data has changed"):
        workflow.make(planned.cache.plan, name)


def test_markers_follow_the_cache(tmp_path):
    plan = Plan(str(tmp_path / "cache"), jobs={"models/a": {}, "models/b": {}})
    (tmp_path / "cache" / "models" / "a").mkdir(parents=True)
    (tmp_path / "cache" / "models" / "a" / "artefact.json").touch()
    stale = tmp_path / "done" / "models" / "b"
    stale.parent.mkdir(parents=True)
    stale.touch()
    workflow._set_markers(plan, tmp_path)
    assert [file.name for file in stale.parent.iterdir()] == ["a"]
    assert plan.missing() == ["models/b"]


#: what tables and figures are made by, of committed results among others: they ask for no job
SHOWING = (answers, figures, pages, leaderboard, scaling)


def recorded(notebook, values, store, monkeypatch):
    """Execute a notebook's own cells on a store that plans; tables of no results fail."""
    for module in SHOWING:
        monkeypatch.setattr(module.__name__, MagicMock())
    monkeypatch.setattr(results, "committed", MagicMock())
    monkeypatch.setattr(study.Study, "unlearned", MagicMock())  # is asked for by no job
    ask = study.Study.ask
    for name, kind in (("original", "models"), ("retrained", "models")):
        def asked_for(of, seed, without=None, kind=kind):
            ask(of, kind, seed=seed, without=without)
            return MagicMock()
        monkeypatch.setattr(study.Study, name, asked_for)
    cells = [c for c in nbformat.read(notebook, as_version=4).cells if c.cell_type == "code"]
    space = values | {"display": MagicMock()}
    for i, cell in enumerate(cells[1:]):  # after the parameters
        try:
            exec(cell.source, space)
        except Exception:
            assert i > 0, notebook
        if i == 0:
            space["run"] = dataclasses.replace(space["run"], store=store)


@pytest.mark.parametrize("chapter", [path.stem for path in context.chapters()])
def test_a_chapters_plan_has_what_its_notebook_asks_for(
    chapter, tmp_path, monkeypatch, fast
):
    path, home = context.find_chapters(chapter)[0], Path.cwd()
    values = context.parameters_of(path) | {"cache": str(tmp_path)}
    if chapter.startswith("04"):
        values |= {"other_copies": 3, "other_steps": 2}
    if chapter[:2] in ("05", "09", "10"):  # tau and hyperparameters depend on scores
        first = grid.of_chapters({path: values}, Plan(str(tmp_path)))
        assert first.later == [chapter] and first.chapters == {} and len(first.jobs) > 3
        taus = {(m, n): 0.1 for m in experiments.ADVERSARIAL for n in (5, 10)}
        monkeypatch.setattr(experiments, "chosen_taus", lambda results: taus)
        monkeypatch.setattr(Results, "of", lambda evaluations: MagicMock(made=list(evaluations)))
        ranked = context.start("smoke", task="keyword").ranked()
        chosen = pd.DataFrame({"method": ranked, "overrides": "{}", "chosen": True})
        monkeypatch.setattr(tuning, "frozen", lambda *names: chosen)
    planned = grid.of_chapters({path: values}, Plan(str(tmp_path)))
    assert list(planned.chapters) == [chapter]
    assert set(planned.chapters[chapter]["needs"]) == set(planned.jobs)
    store = Recorder(Plan(str(tmp_path)))
    recorded(path, values, store, monkeypatch)
    monkeypatch.chdir(home)  # chapter 11 works in a folder of its own
    store.finish()
    assert set(store.plan.jobs) == set(planned.jobs)
    no_jobs = ("01_corpus", "12_cost", "13_unlearnable_audio", "15_other_models")
    assert (chapter in no_jobs) == (not planned.jobs)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n": 1}, "grid has no 'n'; it has profile, task, corpora"),
        ({"n_values": "x"}, "n_values.0 is 'x'; it should be a valid integer"),
        ({"seeds": [True]}, "seeds.0 is True; it should be a valid integer"),
        ({"skip_bad": 1}, "skip_bad is 1; it should be a valid boolean"),
        ({"tau_values": ["a"]}, "tau_values.0 is 'a'; it should be a valid number"),
        ({"methods": "magic"}, "method: 'magic' is not one of"),
        ({"settings": "train"}, "settings.0 is 'train'; it should be 'validation' or 'test'"),
        ({"forget_ids": "dev"}, "forget_ids.0.* is 'dev'; it should be"),
        ({"seeds": []}, "seeds is .*at least 1 item"),
        ({"roots": {"demos": "x"}}, "roots has 'demos', which corpora has not"),
        ({"roots": "x"}, "roots is 'x'; it should be a valid dictionary"),
    ],
)
def test_a_wrong_grid_is_refused(values, message):
    with pytest.raises(ParameterError, match=message):
        Grid.of(values)


def test_a_grid_is_the_product_of_its_lists(tmp_path, fast, monkeypatch):
    monkeypatch.setenv("SPEECHUNLEARN_CACHE", str(tmp_path))
    file = tmp_path / "grid.yaml"
    file.write_text("corpora: digits\ntask: image\nmethods: [ran_lab, adv]\nseeds: [0, 1]\n")
    chosen = Grid.of({"forget_ids": [0, 1], "n_values": [3, 5], "tau_values": [0.1, 1]}, file)
    plan = grid.of_grid(chosen)
    evaluations = [job for name, job in plan.jobs.items() if name.startswith("evaluations/")]
    assert len(evaluations) == 2 * 2 * 2 * (1 + 2)
    # the profile's largest forget set, whose set would serve both sizes, is not in this grid
    assert sum(name.startswith("adversarial/") for name in plan.jobs) == 2 * 2 * 2 * 2
    assert sum(name.startswith("models/") for name in plan.jobs) == 2
    assert list(Plan.read(plan.write(tmp_path)).jobs) == list(plan.jobs)
    for wrong, message in (("{", "cannot read"), ("[1]", "does not hold name: value")):
        file.write_text(wrong)
        with pytest.raises(ParameterError, match=message):
            Grid.of({}, file)
    with pytest.raises((CorpusError, ParameterError), match="unknown corpus 'iemocap'"):
        list(Grid.of({"corpora": "iemocap"}).runs())
    with pytest.raises(ParameterError, match="'ravdess' needs --root"):
        list(Grid.of({"corpora": "ravdess"}).runs())


def test_a_study_is_made_again_from_its_description(tmp_path):
    for name in profiles.NAMES:
        first = study.Study(profiles.get(name), root=tmp_path, skip_bad=True)
        again = study.described(json.loads(json.dumps(first.description)))
        assert again.profile == first.profile and again.description == first.description
        assert again.root == tmp_path and again.skip_bad


def test_an_unknown_executor_is_refused(tmp_path):
    assert workflow.executor("slurm").name == "slurm"
    with pytest.raises(ParameterError, match="'nowhere' holds no config.yaml, and is none of kub"):
        workflow.execute(Plan(str(tmp_path)), tmp_path, profile_dir="nowhere")


def test_the_executors_differ_in_options_alone():
    from snakemake.cli import get_argument_parser

    options = get_argument_parser()._option_string_actions
    # known to Snakemake only where the plugin is installed
    ours: dict[str, set[str]] = {
        "local": set(), "slurm": {"slurm-init-seconds-before-status-checks"},
        "kubernetes": {"kubernetes-namespace", "kubernetes-persistent-volumes"},
    }
    rules = {"model", "adversarial", "statistic", "evaluation"}
    common = yaml.safe_load((workflow.EXECUTORS / "local" / "config.yaml").read_text())
    for name, plugin in ours.items():
        profile = yaml.safe_load((workflow.EXECUTORS / name / "config.yaml").read_text())
        assert profile["executor"] == name
        assert {key for key in profile if f"--{key}" not in options} <= plugin
        assert set(profile.get("set-threads", {})) <= rules
        # what shares a job of a cluster has its threads one after another
        assert max(profile.get("set-threads", {}).values(), default=1) <= profile.get("cores", 2)
        assert profile | {"executor": "local"} == profile | common
    text = workflow.SNAKEFILE.read_text()
    assert all(f"rule {rule}:" in text for rule in rules)


SLURM = """#!/bin/sh
case "$(basename "$0")" in
  sacct) {sacct} ;;
  scontrol) echo "MinJobAge               = {age} sec" ;;
  squeue) printf 'PENDING Resources\\nRUNNING None\\nPENDING Resources\\n' ;;
esac
"""
DISABLED = "echo 'Slurm accounting storage is disabled' >&2; exit 1"


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A Slurm that answers as it is told."""

    def make(sacct: str, age: int = 300) -> Path:
        for name in ("sbatch", "sacct", "scontrol", "squeue"):
            command = tmp_path / "bin" / name
            command.parent.mkdir(exist_ok=True)
            command.write_text(SLURM.format(sacct=sacct, age=age))
            command.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
        return workflow.executor("slurm")

    return make


def test_slurm_is_asked_by_the_command_that_answers(slurm, tmp_path):
    assert workflow.slurm_options(slurm("exit 0")) == []
    told = ["--slurm-status-command", "squeue", "--slurm-no-account"]
    assert workflow.slurm_options(slurm(DISABLED)) == told
    assert workflow.slurm_options(workflow.executor("local")) == []
    own = tmp_path / "own"
    own.mkdir()
    (own / "config.yaml").write_text("executor: slurm\nslurm-status-command: sacct\n")
    assert workflow.slurm_options(own) == []


def test_a_slurm_that_cannot_be_waited_for_is_refused_before_a_job_begins(
    slurm, tmp_path, monkeypatch
):
    planned = Plan(str(tmp_path), jobs={"models/1": {}})
    slurm(DISABLED, age=10)
    with pytest.raises(ParameterError, match="keeps no accounts .*is disabled.* MinJobAge=120"):
        workflow.execute(planned, tmp_path / "out", profile_dir="slurm")
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.setattr(workflow.shutil, "which", lambda name: None)
    with pytest.raises(ParameterError, match="is for Slurm: no sbatch is here"):
        workflow.execute(planned, tmp_path / "out", profile_dir="slurm")


def test_what_waits_in_a_slurm_is_told_when_it_changes(slurm, tmp_path, monkeypatch):
    slurm("exit 0")
    monkeypatch.setattr(workflow, "_QUEUE_SECONDS", 0.0)
    log = tmp_path / "snakemake.log"
    log.write_text("Building DAG\n")
    said = workflow.queued(log)
    assert next(said) == []
    log.write_text("SLURM run ID: 58991fe4\n")
    assert next(said) == ["  Slurm: 2 pending resources, 1 running"]
    assert next(said) == []


#: what a dry run needs of the executor, which is a package of its own
SLURM_PLUGIN = """
from dataclasses import dataclass, field
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor as Executor
from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase
common_settings = CommonSettings(
    non_local_exec=True, implies_no_shared_fs=False, job_deploy_sources=False
)
@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    init_seconds_before_status_checks: int = field(default=40, metadata={"help": "seconds"})
"""


def test_cells_share_jobs_of_a_cluster_with_what_they_alone_need(tmp_path):
    def job(*needs):
        return {"study": "", "call": {}, "needs": list(needs), "title": ""}

    jobs = {f"models/m{i}": job() for i in range(2)}
    jobs |= {f"adversarial/a{i}": job(f"models/m{i}") for i in range(2)}
    jobs |= {f"evaluations/a{i}b{k}": job(f"adversarial/a{i}") for i in range(2) for k in range(3)}
    jobs |= {f"evaluations/e{i}": job(f"models/m{i % 2}") for i in range(20)}
    # of requests one after another, the second attacks what the first has left
    jobs |= {
        "evaluations/s0": job("models/m0"), "adversarial/s": job("evaluations/s0"),
        "evaluations/s1": job("evaluations/s0", "adversarial/s"),
    }
    plan = Plan(str(tmp_path / "cache"), jobs=jobs).write(tmp_path)
    plugin = tmp_path / "snakemake_executor_plugin_slurm" / "__init__.py"
    plugin.parent.mkdir()
    plugin.write_text(SLURM_PLUGIN)
    said = subprocess.run(
        [sys.executable, "-m", "snakemake", "--snakefile", workflow.SNAKEFILE, "--dry-run",
         "--profile", workflow.executor("slurm"), "--jobs", "9", "--config", f"plan={plan.name}"],
        cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert said.returncode == 0, said.stderr
    # what is indented below such a line shares its job
    groups = [
        set(re.findall(r"output: done/(\S+)", below)) for below in re.findall(
            r"Group job cells .*\n((?:\n|[ ].*\n)+)", said.stdout + said.stderr
        )
    ]
    assert set().union(*groups) == {name for name in jobs if not name.startswith("models/")}
    assert len(groups) == 3 and sum(map(len, groups)) == len(jobs) - 2  # 23 parts, ten at most
    for parts in ("a0", "a1", "s"):
        part = {name for name in jobs if name.partition("/")[2].startswith(parts)}
        assert sum(part <= group for group in groups) == 1


START = """
import sys
from pathlib import Path
from speechunlearn.chapters import workflow
plan, out = sys.argv[1:]
workflow.execute(workflow.Plan.read(plan), Path(out), jobs=2)
"""


def test_a_killed_run_goes_on_and_gives_the_rows_of_one_process(demos_root, tmp_path):
    planned = planner(demos_root, tmp_path / "cache")
    for method in ("ran_lab", "original"):
        planned.evaluate(method, clips(1, 0), 0)
    plan = planned.cache.plan
    (model,) = [name for name in plan.jobs if name.startswith("models/")]
    record = tmp_path / "cache" / model / "artefact.json"
    run = subprocess.Popen(
        [sys.executable, "-c", START, str(plan.write(tmp_path)), str(tmp_path / "out")],
        start_new_session=True,
    )
    deadline = time.time() + 300
    while not record.exists():
        assert run.poll() is None and time.time() < deadline
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    first = record.stat().st_mtime_ns
    left = plan.missing()
    assert len(left) == 2
    said: list[str] = []
    workflow.execute(plan, tmp_path / "out", jobs=2, on_progress=said.append)
    assert plan.missing() == [] and record.stat().st_mtime_ns == first
    assert sorted(line for line in said if line.endswith(" done")) == sorted(
        f"  {plan.jobs[name]['title']} done" for name in left
    )
    log = (tmp_path / "out" / workflow.FOLDER / "snakemake.log").read_text()
    assert "rule evaluation:" in log and "rule model:" not in log

    torch.set_num_threads(1)  # as the jobs do
    def rows(cache):
        one = tiny_study.study(demos_root, cache)
        evaluations = [one.evaluate(method, clips(1, 0), 0) for method in ("ran_lab", "original")]
        return Results.of(evaluations).rows()[[*KEY, "split", "metric", "value"]]

    pd.testing.assert_frame_equal(rows(tmp_path / "cache"), rows(tmp_path / "alone"))


def _no_slurm() -> str:
    if not find_spec("snakemake_executor_plugin_slurm"):
        return "snakemake-executor-plugin-slurm is not installed"
    with contextlib.suppress(OSError):
        return "" if subprocess.run(["sinfo"], capture_output=True).returncode == 0 else "no sinfo"
    return "Slurm is not installed"


def _of_root(*command: str) -> None:
    """Do what only the owner of a Slurm may."""
    subprocess.run([*([] if os.geteuid() == 0 else ["sudo", "-n"]), *command], check=True)


@pytest.mark.skipif(bool(_no_slurm()), reason=_no_slurm())
def test_a_real_slurm_gives_what_this_machine_gives(demos_root, tmp_path):
    """Jobs are cancelled, the controller is begun anew, the node is drained for a while."""
    node = f"nodename={os.uname().nodename.partition('.')[0]}"
    planned = planner(demos_root, tmp_path / "cache")
    for method in ("ran_lab", "original"):
        planned.evaluate(method, clips(1, 0), 0)
    profile = tmp_path / "profile"
    profile.mkdir()
    config = yaml.safe_load((workflow.EXECUTORS / "slurm" / "config.yaml").read_text())
    config["default-resources"] |= {"mem_mb": 2000}
    config["set-threads"] = dict.fromkeys(config["set-threads"], 1)
    (profile / "config.yaml").write_text(yaml.safe_dump(config))
    said: list[str] = []

    def tell(line: str) -> None:
        if "epoch" in line and not any("epoch" in earlier for earlier in said):
            subprocess.run(["scancel", "--state", "RUNNING", "--me"], check=True)
            _of_root("scontrol", "shutdown", "slurmctld")
            _of_root("slurmctld")
        if line.endswith(" done") and not any(earlier.endswith(" done") for earlier in said):
            _of_root("scontrol", "update", node, "state=drain", "reason=test")
            again = ("scontrol", "update", node, "state=resume")
            threading.Timer(15, _of_root, again).start()
        if line.endswith(" done") and sum(earlier.endswith(" done") for earlier in said) == 1:
            # the first of two cells, which share a job
            subprocess.run(["scancel", "--state", "RUNNING", "--me"], check=True)
        said.append(line)

    plan = planned.cache.plan
    workflow.execute(plan, tmp_path / "out", jobs=2, profile_dir=profile, on_progress=tell)
    assert plan.missing() == []
    # what was finished was not done again
    assert sorted(line.strip() for line in said if line.endswith(" done")) == sorted(
        f"{job['title']} done" for job in plan.jobs.values()
    )
    assert any(line.startswith("  Slurm: ") for line in said)
    assert "Group job cells" in (tmp_path / "out" / workflow.FOLDER / "snakemake.log").read_text()
    torch.set_num_threads(1)
    found = [
        tiny_study.study(demos_root, cache).evaluate("ran_lab", clips(1, 0), 0).predictions
        for cache in (tmp_path / "cache", tmp_path / "alone")
    ]
    pd.testing.assert_frame_equal(*found)
    # a job that cannot be done names its cell and its log
    planned = planner(demos_root, tmp_path / "cache")
    planned.ask("models", without=None, seed=1)
    (job,) = (planned.cache.plan.jobs[name] for name in planned.cache.plan.missing())
    job["call"]["seed"] = -1
    config["retries"] = 0
    (profile / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(SpeechUnlearnError, match=r"original model, seed 1: .*snakemake.log'"):
        workflow.execute(planned.cache.plan, tmp_path / "out", profile_dir=profile)


def test_two_runs_do_not_share_a_folder(tmp_path):
    with (
        alone(tmp_path / workflow.FOLDER), pytest.raises(ParameterError, match="another run works"),
        ThreadPoolExecutor(1) as another,
    ):
        another.submit(workflow.execute, Plan(str(tmp_path)), tmp_path).result()
    workflow.execute(Plan(str(tmp_path)), tmp_path)


def test_a_cancelled_job_is_named_by_its_cell(tmp_path, monkeypatch):
    job = {"title": "a cell", "needs": [], "study": "", "call": {}}
    plan = workflow.Plan(str(tmp_path / "cache"), jobs={"models/1f": job, "models/2f": job})
    said = "Error in rule model:\n    jobid: 3\n    output: done/models/1f\n    log: x\n"
    monkeypatch.setattr(
        workflow.subprocess, "Popen",
        lambda command, stdout, **more: stdout.write(said) and subprocess_that_failed(),
    )
    with pytest.raises(SpeechUnlearnError, match="^a cell: Snakemake ended with status 1: see "):
        workflow.execute(plan, tmp_path / "out")


def subprocess_that_failed():
    return SimpleNamespace(wait=lambda seconds=None: 1, send_signal=lambda signal: None)


def test_a_failed_job_says_why_and_leaves_no_marker(demos_root, tmp_path):
    planned = planner(demos_root, tmp_path / "cache")
    planned.ask("models", without=None, seed=0)
    (name,) = planned.cache.plan.jobs
    planned.cache.plan.jobs[name]["call"]["seed"] = -1
    plan, marker = planned.cache.plan.write(tmp_path), tmp_path / "done" / name
    before = os.getcwd()
    try:
        assert workflow.main([str(plan), name, str(marker)]) == 1
    finally:
        os.chdir(before)
    said = (tmp_path / "errors" / f"{name}.txt").read_text()
    assert said.startswith("emotion, demos, validation: original model, seed 0: ValueError: ")
    assert not marker.exists()
