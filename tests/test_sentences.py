"""What README, the first page and the chapters say of results is what the committed data say."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from speechunlearn import methods
from speechunlearn.errors import ParameterError
from speechunlearn.lab import experiments, sentences
from speechunlearn.lab import results as protocol

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book"))
import landing  # noqa: E402

README = (ROOT / "README.md").read_text()
INTRO = (ROOT / "book" / "intro.md").read_text()

#: what the first page shows of results, beside the leaderboards
INCLUDED = ["result-figure", "result", "sentences", "claims", "more"]


@pytest.fixture(scope="module")
def real() -> protocol.Results:
    found = protocol.committed("cpu", "ravdess")
    assert found is not None
    return found


@pytest.fixture(scope="module")
def shown(real) -> protocol.Results:
    return real.reported().select(setting="validation", forget_kind="clips")


@pytest.fixture(scope="module")
def numbers(shown) -> pd.DataFrame:
    return protocol.table_of_methods(
        shown, "validation", n_resamples=100, generator=np.random.default_rng(0)
    )


def readme_faults(text: str, generated: str) -> list[str]:
    """Return the lines of README's results that are not those computed, up to the leaderboards."""
    section = text.partition("\n## Results\n\n")[2].partition("\n## ")[0].splitlines()
    wanted = generated.splitlines()
    return [
        f"README says {said!r}, the data {told!r}"
        for said, told in zip(section, wanted, strict=False) if said != told
    ] + wanted[len(section):]


def intro_faults(text: str) -> list[str]:
    """Return the numbers and the judging words on the first page that stand outside of includes."""
    sections = text.split("\n## ")
    own = ("The result in one figure", "The paper's claims")
    shown = [section for section in sections if section.startswith(own)]
    assert len(shown) == 2
    bare = r"```.*?```|^:{3,}.*?$|^The .*?$"  # without includes, and the headings
    prose = "\n".join(re.sub(bare, "", part, flags=re.DOTALL | re.MULTILINE) for part in shown)
    judging = (
        r"\b(?:above|below|better|worse|holds?|fails?|undecided|closest|more than|less than)\b"
    )
    return re.findall(rf"\d[\d.]*|{judging}", prose)


def test_readme_has_the_numbers_and_words_that_the_data_give(generated):
    assert readme_faults(README, (generated / "results.md").read_text()) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.75 to 0.84", "0.75 to 0.85"),
        ("| Ran. Lab. | 0.02 / 0.34", "| Ran. Lab. | 0.02 / 0.35"),
        ("above Ran. Lab. at every N", "below Ran. Lab. at every N"),
        ("No claim of the paper is decided", "Most claims of the paper are decided"),
        ("M = 2, P = 10", "M = 20, P = 50"),
        ("8 weight updates", "195 weight updates"),
        ("is the model retrained without all\n100", "is the model retrained without all\n10"),
        ("four unseen speakers", "six unseen speakers"),
    ],
)
def test_a_changed_number_or_word_in_readme_is_found(generated, old, new):
    words = re.compile(re.escape(old).replace(r"\ ", r"\s+").replace("\\\n", r"\s+"))
    changed, count = words.subn(new, README, count=1)
    assert count == 1, old
    assert readme_faults(changed, (generated / "results.md").read_text())


def test_the_first_page_includes_what_is_made_and_says_no_result_of_its_own():
    included = re.findall(r"{include} \.\./generated/([\w-]+)\.md", INTRO)
    assert [name for name in included if name in INCLUDED] == INCLUDED
    assert intro_faults(INTRO) == []
    heading = "\n## The paper's claims"
    for planted in ("Its UAR is 0.75.", "Adv. is better than random labels.", "One claim holds."):
        assert intro_faults(INTRO.replace(heading, f"\n{planted}\n{heading}"))


def test_the_rule_of_a_verdict_is_worded_in_one_place(generated):
    assert (generated / "claims.md").read_text().startswith(experiments.RULE)
    rule = re.compile(r"\*?(holds|fails)\*? (if|where|when)", re.IGNORECASE)
    pages = [*ROOT.glob("*.md"), *ROOT.glob("book/**/*.md"), *ROOT.glob("notebooks/*.py")]
    assert [path.name for path in pages if rule.search(path.read_text())] == []
    assert "experiments.RULE" in (ROOT / "notebooks" / "05_table1.py").read_text()


def test_the_weight_updates_are_those_that_the_cells_counted(real):
    """Passes: M N P in the attack, then M N copies an epoch and a batch of the forget set a step.

    Where N is no more than a batch, each of these holds all N, so that the passes give the steps.
    """
    evaluations = real.evaluations
    evaluations = evaluations[(evaluations["method"] == "adv") & (evaluations["n_forget"] == 10)]
    assert len(evaluations) > 3
    for row in evaluations.to_dict("records"):
        own = json.loads(row["hyperparameters"])
        copies = 10 * own["copies"]
        steps = (row["forward_backward"] - copies * (own["steps"] + own["epochs"])) / 10
        assert steps == sentences.updates(own, 10)
    theirs = {"batch_size": sentences.PAPER_BATCH} | sentences.PAPER
    assert sentences.updates(theirs, 10) == 15 * 13


def test_the_papers_values_are_the_defaults_of_its_methods():
    for name in ("adv", "adv_ela"):
        own = methods.parameters(name)
        assert {key: getattr(own, key) for key in sentences.PAPER} == sentences.PAPER
        assert own.batch_size == sentences.PAPER_BATCH


def test_the_caption_says_what_the_cells_were_run_with(shown, numbers):
    text = landing.caption(shown.evaluations, numbers, 4, 1 / 7)
    for part in (
        "Adv. and Adv. + Ela.: M = 2, P = 10, epochs: 4, learning rate 0.0003, 8 weight updates",
        "Ran. Lab.: epochs: 15, learning rate 0.0003", "Fisher information per batch",
        "M = 20, P = 50, epochs: 15, learning rate 0.00003, which makes 195 weight updates",
        "Retrained at N = 10, 30 and 50 is the model retrained without all 100",
    ):
        assert part in text
    # other cells are told otherwise
    changed = shown.evaluations.assign(
        hyperparameters=shown.evaluations["hyperparameters"]
        .str.replace('"copies": 2', '"copies": 3').str.replace('"batch",', '"clip",')
    )
    text = sentences.settings(changed)
    assert "M = 3, P = 10" in text and "Fisher information per clip" in text
    assert "8 weight updates at N = 10;" in text  # 30 copies are two batches as well
    without = shown.evaluations.assign(
        hyperparameters=shown.evaluations["hyperparameters"].str.replace(
            '"steps": 10', '"strides": 10'
        )
    )
    with pytest.raises(ParameterError, match="'adv' does not say 'steps'"):
        sentences.settings(without)


def test_each_size_with_a_retrained_model_of_its_own_has_no_stand_in(shown):
    own = shown.evaluations.assign(seconds=range(len(shown.evaluations)))
    assert sentences.stand_ins(own) == ""


def test_what_is_not_run_as_the_papers_is_named(shown):
    text = sentences.unlike_the_paper(shown.evaluations, ["adv", "ran_lab", "retrain", "scrub"])
    assert text == (
        "Ran. Lab.: learning rate 0.0003 (the paper: 0.00003); Adv.: M = 2 (the paper: 20), "
        "P = 10 (the paper: 50), epochs: 4 (the paper: 15), learning rate 0.0003 (the paper: "
        "0.00003)"
    )
    as_theirs = json.dumps({"batch_size": 16, "importance": "none"} | sentences.PAPER)
    assert sentences.unlike_the_paper(shown.evaluations.assign(hyperparameters=as_theirs)) == ""


@pytest.mark.parametrize("method", ["adv", "adv_ela"])
@pytest.mark.parametrize("split", ["forget", "unseen"])
def test_words_follow_the_numbers(shown, numbers, method, split):
    """Each comparison of the sentences, with the values turned about: the word turns, too."""
    position = ["ran_lab", "adv", "adv_ela"].index(method) + 1
    before = sentences.of_methods(shown.evaluations, numbers, 1 / 7)[position]
    name = {"forget": "the retrained model", "unseen": "Ran. Lab."}[split]
    word, other = ("below", "above") if split == "forget" else ("above", "below")
    assert f"{word} {name} at every N" in before
    own = (numbers["method"] == method) & (numbers["split"] == split)
    turned = numbers.assign(
        value=numbers["value"].where(~own, 1.0 if other == "above" else 0.0)
    )
    after = sentences.of_methods(shown.evaluations, turned, 1 / 7)[position]
    assert f"{other} {name} at every N" in after
    one = own & (numbers["n_forget"] == 30)
    mixed = numbers.assign(value=numbers["value"].where(~one, 1.0 if other == "above" else 0.0))
    after = sentences.of_methods(shown.evaluations, mixed, 1 / 7)[position]
    assert re.search(rf"{other} \S.*? at N = 30", after) and "N = 10, 50 and 100" in after


def test_what_is_decided_follows_the_verdicts(shown):
    verdicts = pd.DataFrame({"verdict": ["not tested here"] * 3})
    assert landing.of_claims(shown.evaluations, verdicts, 4).startswith(
        "No claim of the paper is"
    )
    verdicts.loc[0, "verdict"] = "holds"
    text = landing.of_claims(shown.evaluations, verdicts, 4)
    assert "Of 3 tests of the paper's claims, holds: 1, fails: 0" in text
    assert "one corpus, one small encoder, four unseen speakers and three runs" in text


def test_no_claim_is_decided_by_the_committed_run(shown):
    table = experiments.claims(
        shown, "validation", chance=1 / 7, n_resamples=100, generator=np.random.default_rng(0)
    )
    assert set(table["verdict"]) == {"not tested here"}
    assert set(table["difference"]) == {"above 0", "below 0", "undecided"}


def test_a_comparison_without_power_is_told_from_one_with_it():
    table = pd.DataFrame(
        {"one": [0.1, 0.1], "other": [0.15, 0.05], "low": [-0.3, -0.2], "high": [0.2, 0.22]}
    )
    said = sentences.of_power(table)
    assert "0.21 to 0.25" in said and "0.10 to 0.15" in said and "in 2 of 2 rows" in said
    assert said.endswith("**The comparison had no power.**")
    sharp = table.assign(low=[-0.3, -0.01], high=[0.2, 0.09])
    assert "in 1 of 2 rows" in sentences.of_power(sharp)
    assert "no power" not in sentences.of_power(sharp)


def test_the_first_page_compares_no_images(generated):
    assert "image" not in INTRO and "image" not in (generated / "more.md").read_text()


@pytest.mark.parametrize("corpus", ["arabic_speech_commands", "speech_commands_10"])
def test_the_committed_comparison_with_images_had_no_power(corpus):
    """As chapter 07 says below its table."""
    table = protocol.further_from_retraining(
        protocol.committed("cpu", corpus), protocol.committed("cpu", "digits")
    )
    assert "no power" in sentences.of_power(table)
    assert set(table["further"]) == {"undecided"}


def test_chapter_four_says_what_its_table_holds(real):
    """And so do the pages on the paper and on elastic weights."""
    uar = experiments.variants(real).loc[10]["forget UAR"]
    before, retrained = uar.pop("before unlearning"), uar.pop("retrained")
    held = ["importance: 1 - Fisher", "importance: MAS", "importance: 1 - MAS",
            "Fisher of single clips"]
    assert set(uar[held]) == {before} and (uar.drop(held) < before).all()
    theirs = uar.index.str.contains("M = 20, P = 50", regex=False)
    assert theirs.sum() == 2 and uar[theirs].max() < uar[~theirs].min() < retrained


def test_chapter_six_says_what_its_table_holds(real):
    shape = experiments.shape_over_tau(real).set_index("method")
    smallest = real.select(forget_id="development", method=["adv"]).evaluations["tau"].min()
    assert (shape.loc["Adv.", "best tau"] == smallest).all()
    inside = shape.loc["Adv. + Ela.", "rises, then falls"]
    assert 2 * inside.sum() > len(inside) > inside.sum()
    assert (shape["smallest tau"] >= 0.4).all()


def test_only_the_papers_own_methods_speak_of_the_paper(generated):
    for name in methods.METHODS:
        page = (ROOT / "book" / "methods" / f"{name}.md").read_text()
        facts = (generated / "methods" / f"{name}.md").read_text()
        if name not in (*sentences.OF_THE_PAPER, "perturbed"):
            assert "the paper" not in " ".join((page + facts).lower().split()), name
        assert "fine-tunes with 16" not in facts


@pytest.mark.parametrize(
    "name",
    ["l2ul", "delete", "boundary_shrink", "boundary_expand", "salun", "amun", "amun_r", "jit",
     "l1_sparse", "neggrad_plus"],
)
def test_a_page_says_where_its_descent_is_not_the_authors(name):
    page = (ROOT / "book" / "methods" / f"{name}.md").read_text()
    section = page.partition("## Otherwise than in the authors' code\n")[2].partition("\n## ")[0]
    assert "The descent is Adam" in section and "SGD" in section


def test_ten_clips_of_seven_classes_rarely_hold_all_of_them():
    """The probability on the page on the paper: surjections of ten clips onto seven classes."""
    counts = np.zeros(8)
    counts[0] = 1.0  # probability of each number of classes seen so far
    for _ in range(10):
        seen = np.arange(8) / 7
        counts = counts * seen + np.concatenate([[0], (counts * (1 - seen))[:-1]])
    stated = float(re.search(r"with probability (\.\d+)", (ROOT / "book/paper.md").read_text())[1])
    assert counts[7] == pytest.approx(stated, abs=5e-4)


def test_readme_says_of_a_request_what_chapter_eleven_shows():
    notebook = json.loads((ROOT / "notebooks" / "11_request.ipynb").read_text())
    printed = "".join(
        "".join(output.get("text", output.get("data", {}).get("text/plain", "")))
        for cell in notebook["cells"] for output in cell.get("outputs", [])
    )
    readme = " ".join((ROOT / "README.md").read_text().split())
    changed, before, after, retrained, outside, scores = re.search(
        r"of chapter 11's 16 clips (\d+) change their answers \(forget UAR ([\d.]+) to ([\d.]+), "
        r"retrained models ([\d.]+)\).*for (\d+) of (\d+) scores", readme
    ).groups()
    assert f"of 16 predictions {changed} changed" in printed
    assert f"UAR, forget (16 clips): before {before}, after {after}" in printed
    assert f"; {outside} of {scores} scores lie outside" in printed
    assert re.search(rf"UAR, forget set +\d\.\d\d +{retrained} ", printed)
    assert "says *distinguishable from retraining*" in readme
    assert "verdict: distinguishable from retraining:" in printed
