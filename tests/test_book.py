"""The pages of the book agree with the registries, and are made without torch."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from speechunlearn import audit, closeness, corpora, membership, methods

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"


def pages(folder: str) -> set[str]:
    return {path.stem for path in (BOOK / folder).glob("*.md")}


@pytest.mark.parametrize(
    "folder, names", [("corpora", list(corpora.known())), ("methods", list(methods.METHODS))]
)
def test_each_registered_name_has_a_page_with_its_facts(folder, names):
    # one that has no page of its own gets what is generated alone
    assert pages(folder) <= set(names)
    assert f"- glob: book/{folder}/*\n" in (ROOT / "_toc.yml").read_text()
    for name in pages(folder):
        text = (BOOK / folder / f"{name}.md").read_text()
        assert f"generated/{folder}/{name}.md" in text
        assert f"({'corpus' if folder == 'corpora' else 'method'}-{name})=" in text


@pytest.mark.parametrize("name", list(methods.METHODS))
def test_a_method_page_has_rule_source_and_file(name):
    page = BOOK / "methods" / f"{name}.md"
    if page.is_file():
        text = page.read_text()
        assert "\n## Rule\n" in text and f"generated/methods/{name}-file.md" in text
    source = (ROOT / "speechunlearn" / "methods" / f"{name}.py").read_text()
    assert "\nSource: " in source  # the page's facts take it from there


def test_each_metric_has_a_page_with_formula_range_and_blind_spot():
    clips = pd.DataFrame(
        {
            "split": ["forget", "unseen"], "hash": ["a", "b"], "label": [0, 1],
            "prediction": [0, 1], "loss": [0.1, 0.2],
        }
    )
    metrics = set(audit.evaluate(clips, clips, n_labels=2)["metric"])
    own = {"distance" if name.endswith("_distance") else name for name in metrics}
    others = {
        "average_gap", "verdict", "report_card", "cost", "statistics",
        *closeness.METRICS, *membership.ATTACKS,
    }
    assert own | others == pages("metrics")
    assert "- glob: book/metrics/*\n" in (ROOT / "_toc.yml").read_text()
    for name in pages("metrics") - {"statistics"}:
        text = (BOOK / "metrics" / f"{name}.md").read_text()
        for heading in ("Formula", "Range", "What it cannot see", "In code"):
            assert f"\n## {heading}\n" in text, (name, heading)


@pytest.mark.parametrize(
    ("module", "registry"), [(closeness, closeness.METRICS), (membership, membership.ATTACKS)]
)
def test_each_public_function_is_registered_and_named_on_its_page(module, registry):
    public = {
        value
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and name[0] != "_"
    }
    registered = [function for functions in registry.values() for function in functions]
    assert public == set(registered) and len(public) == len(registered)
    for page, functions in registry.items():
        text = (BOOK / "metrics" / f"{page}.md").read_text()
        assert f"(metric-{page})=" in text
        assert f"<metric-{page}>" in (BOOK / "metrics.md").read_text()
        for function in functions:
            name = f"{module.__name__}.{function.__name__}"
            assert f"{{py:func}}`{name}`" in text, (page, name)


def test_captions_and_alternative_texts_state_no_number():
    for name, text in yaml.safe_load((BOOK / "captions.yml").read_text()).items():
        assert set(text) == {"caption", "alt"}
        stated = re.findall(r"\d+", (text["caption"] + text["alt"]).replace("95 %", ""))
        assert not stated, name


def test_what_is_generated_needs_no_torch(tmp_path):
    """A torch that cannot be imported is first on the path, as where none is installed."""
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')\n")
    script = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "import generate, torchless\n"
        "from pathlib import Path\n"
        "target = Path(sys.argv[1]) / 'generated'\n"
        "(target / 'methods').mkdir(parents=True)\n"
        "generate.method_pages(target)\n"
        "numbers = generate.landing_page(target)\n"
        "torchless.check()\n"
        "assert numbers['sizes']\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(BOOK)], check=True, cwd=ROOT
    )
    assert (tmp_path / "generated" / "result.svg").stat().st_size > 10_000
    assert (tmp_path / "generated" / "claims.md").read_text().count("{doc}") == 6
    for name in ("result.md", "leaderboards.md"):
        assert (tmp_path / "generated" / name).read_text() in (ROOT / "README.md").read_text()
    assert "lambda_adv" in (tmp_path / "generated" / "methods" / "adv.md").read_text()


def test_ratios_of_speed_are_taken_within_a_round(tmp_path):
    """Twice and three times as long as quick in its two rounds; the attack four times, twice."""
    head = ("corpus,encoder,n,copies,steps,epochs,mean_seconds,device,threads,machine,commit,lock,"
            "contender,round,seconds,attack_seconds,processor_seconds\n")
    about = "made up,nano,3,2,1,1,1.5,cpu,2,a machine,abc,def,"
    turns = ("quick,0,1,1,2", "quick,1,2,1,4", "torchattacks,0,2,4,2", "torchattacks,1,6,2,4")
    (tmp_path / "turns.csv").write_text(head + "".join(f"{about}{turn}\n" for turn in turns))
    script = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "import generate\n"
        "generate.SPEED = Path(sys.argv[1]) / 'turns.csv'\n"
        "generate.speed_page(Path(sys.argv[1]) / 'speed.md')\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(BOOK)], check=True, cwd=ROOT
    )
    said = (tmp_path / "speed.md").read_text()
    row = next(line for line in said.splitlines() if "torchattacks" in line).split(" | ")
    assert row[1:] == [
        "4", "2.50 (2.00 to 3.00)", "3.00 (2.00 to 4.00)", "1.00 (1.00 to 1.00) |"
    ]
    assert "3 clips of made up, 1.5 s on average, $M$ = 2, $P$ = 1, epochs: 1" in said
    assert "a machine; commit abc" in said


def test_a_torch_that_was_loaded_fails_the_build():
    script = (
        "import sys, types; sys.path.insert(0, sys.argv[1])\n"
        "import torchless\n"
        "torchless.install(); torchless.check()\n"
        "sys.modules['torchaudio'] = types.ModuleType('torchaudio')\n"
        "torchless.check()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(BOOK)], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "RuntimeError: the book is rendered without torchaudio" in done.stderr
