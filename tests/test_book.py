"""The pages of the book agree with the registries, and are made without torch."""

import copy
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from speechunlearn import corpora, methods
from speechunlearn.audit import closeness, membership, scoring

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
    scores = scoring.scores(clips, 2)
    metrics = {metric for _, metric in scoring.with_distances(scores, scores)}
    own = {"distance" if name.endswith("_distance") else name for name in metrics}
    others = {"average_gap", "report_card", "cost", "statistics"}
    of_functions = set().union(*map(pages_of_functions, (closeness, membership)))
    assert own | others | of_functions == pages("metrics")
    assert "- glob: book/metrics/*\n" in (ROOT / "_toc.yml").read_text()
    for name in pages("metrics") - {"statistics"}:
        text = (BOOK / "metrics" / f"{name}.md").read_text()
        for heading in ("Formula", "Range", "What it cannot see", "In code"):
            assert f"\n## {heading}\n" in text, (name, heading)


def pages_of_functions(module) -> list[str]:
    """Return the page that names it, for each public function of a module: there is one."""
    public = [
        f"{{py:func}}`{module.__name__}.{name}`"
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and name[0] != "_"
    ]
    texts = {name: (BOOK / "metrics" / f"{name}.md").read_text() for name in pages("metrics")}
    naming = [[page for page, text in texts.items() if role in text] for role in public]
    assert public and {len(of_one) for of_one in naming} == {1}, (public, naming)
    return [page for (page,) in naming]


@pytest.mark.parametrize("module", [closeness, membership])
def test_the_list_of_metrics_leads_to_the_page_of_each_function(module):
    for page in pages_of_functions(module):
        assert f"(metric-{page})=" in (BOOK / "metrics" / f"{page}.md").read_text()
        assert f"<metric-{page}>" in (BOOK / "metrics.md").read_text()


def test_captions_and_alternative_texts_state_no_number():
    for name, text in yaml.safe_load((BOOK / "captions.yml").read_text()).items():
        assert set(text) == {"caption", "alt"}
        stated = re.findall(r"\d+", (text["caption"] + text["alt"]).replace("95 %", ""))
        assert not stated, name


def test_what_is_generated_needs_no_torch(generated):
    assert (generated / "result.svg").stat().st_size > 10_000
    assert (generated / "claims.md").read_text().count("{doc}") == 6
    assert (generated / "in_short.md").read_text() in (ROOT / "README.md").read_text()
    assert "lambda_adv" in (generated / "methods" / "adv.md").read_text()


def test_ratios_of_speed_are_taken_within_a_round(tmp_path):
    """Twice and three times as long as fast in its two rounds; the attack four times, twice."""
    head = ("corpus,encoder,n,copies,steps,epochs,mean_seconds,device,threads,machine,commit,lock,"
            "contender,round,seconds,attack_seconds,processor_seconds\n")
    about = "made up,nano,3,2,1,1,1.5,cpu,2,a machine,abc,def,"
    turns = ("fast,0,1,1,2", "fast,1,2,1,4", "torchattacks,0,2,4,2", "torchattacks,1,6,2,4")
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


def output(kind: str, data: str) -> dict:
    return {"output_type": "display_data", "data": {kind: data}, "metadata": {}}


def code(source: str, *outputs: dict) -> dict:
    return {
        "cell_type": "code", "source": source, "outputs": list(outputs), "execution_count": 1,
        "metadata": {}, "id": "a",
    }


def test_captions_lose_no_output_and_name_each_figure_once(tmp_path):
    """Figures between other outputs, two in a cell, and the same figure in two cells."""
    made = [
        code("print()", output("text/plain", "first")),
        code(
            "figures.by_method(shown)", output("text/markdown", "*before*"),
            output("image/png", "A"),
            output("text/html", "<p>between</p>"), output("text/plain", "and"),
            output("image/png", "B"), output("image/png", "C"), output("text/plain", "after"),
        ),
        code("figures.by_method(other)", output("image/png", "D")),
    ]
    path = tmp_path / "06_ablation.ipynb"
    path.write_text(json.dumps({"cells": made}))
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import generate\n"
        "generate.caption(generate.Path(sys.argv[2]))\n"
    )
    subprocess.run([sys.executable, "-c", script, str(BOOK), str(path)], check=True, cwd=ROOT)
    cells = json.loads(path.read_text())["cells"]
    outputs = [o for cell in cells for o in cell["outputs"]]
    assert outputs == [o for cell in made for o in cell["outputs"]]
    assert all(cell["source"] for cell in cells)  # one without is not rendered
    figures = [cell for cell in cells if "image/png" in cell["outputs"][0]["data"]]
    assert [len(cell["outputs"]) for cell in figures] == [1, 1, 1, 1]
    names = [cell["metadata"]["mystnb"]["figure"]["name"] for cell in figures]
    assert len(set(names)) == 4 and names[0] == "06_ablation-by-method"
    assert [cell["source"] for cell in cells if "tags" not in cell["metadata"]] == [
        cell["source"] for cell in made
    ]


@pytest.fixture()
def complete(monkeypatch):
    monkeypatch.syspath_prepend(str(BOOK))
    import complete

    return complete


NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "source": "not an ![image](made.png)"},
        code(
            "f()", {"output_type": "stream", "name": "stdout", "text": ["of two\n", "lines\n"]},
            output("text/markdown", "**63 %** of [them](https://example.org)"),
            output("text/html", "<table><tr><td>0.45 [0.40, 0.50]</td></tr></table>"),
            output("text/html", "<audio controls></audio>"),
            output("image/png", "iVBOR"), output("text/plain", "63"),
        ),
    ]
}
PAGE = """<p>prose, of two lines</p><img src="logo.svg"><div class="cell"><div class="cell_output">
<pre>of two
lines</pre><p><strong>63 %</strong> of <a href="https://example.org">them</a></p>
<div><table><tr><td>0.45 [0.40,&nbsp;0.50]</td></tr></table></div><audio controls></audio></div>
</div><div class="cell"><div class="cell_output"><figure><img src="a.png"></figure><pre>63</pre>
</div></div>"""


def test_a_page_with_all_that_its_notebook_made_is_complete(complete):
    assert complete.losses(NOTEBOOK, PAGE) == []


@pytest.mark.parametrize(
    ("fault", "instead", "said"),
    [
        ('<img src="a.png">', "", "images: 1 made, 0 shown"),
        ('<img src="a.png">', '<img src="a.png">' * 2, "images: 1 made, 2 shown"),
        ("<audio controls></audio>", "", "audio players: 1 made, 0 shown"),
        ("<table><tr><td>0.45 [0.40,&nbsp;0.50]</td></tr></table>", "0.45 [0.40, 0.50]",
         "tables: 1 made, 0 shown"),
        ("0.50]", "0.51]", "text made 1 times, shown 0 times: '0 45 0 40 0 50'"),
        ("of two\nlines", "", "text made 1 times, shown 0 times: 'of two lines'"),
        (">them<", "><", "text made 1 times, shown 0 times: '63 of them'"),
    ],
)
def test_whatever_a_page_lacks_is_said(complete, fault, instead, said):
    assert fault in PAGE
    assert complete.losses(NOTEBOOK, PAGE.replace(fault, instead)) == [said]


def test_a_missing_page_is_said(complete, tmp_path):
    (tmp_path / "06_ablation.ipynb").write_text(json.dumps(NOTEBOOK))
    assert complete.check([tmp_path / "06_ablation.ipynb"], tmp_path) == [
        "06_ablation.ipynb: no page 06_ablation.html"
    ]


SUM = '<munderover><mo movablelimits="true">∑</mo><mi>i</mi><mi>n</mi></munderover>'
Y_HAT = '<mover accent="true"><mi>y</mi><mo stretchy="false">ˆ</mo></mover>'


@pytest.mark.parametrize(
    ("tex", "drawn"),
    [
        (r"\hat y_e", f"<msub>{Y_HAT}<mi>e</mi></msub>"),
        (r"\hat{y}_{e}", f"<msub>{Y_HAT}<mi>e</mi></msub>"),
        (r"\hat y_e^2", f"<msubsup>{Y_HAT}<mi>e</mi><mn>2</mn></msubsup>"),
        (r"\hat y^2_e", f"<msubsup>{Y_HAT}<mi>e</mi><mn>2</mn></msubsup>"),
        (r"\hat y", Y_HAT),
        (r"\overline{y}_e", '<msub><mover accent="false"><mi>y</mi><mo accent="true">_</mo></mover>'
         "<mi>e</mi></msub>"),
        (r"\sum_{\hat y_e} x", '<munder><mo movablelimits="true">∑</mo>'
         f"<msub>{Y_HAT}<mi>e</mi></msub></munder><mi>x</mi>"),
        # what is a limit stays one
        (r"\sum_i^n", SUM),
        (r"\sum^n_i", SUM),
        (r"\frac12 x", "<mfrac><mn>1</mn><mn>2</mn></mfrac><mi>x</mi>"),
        (r"y_e^2 < 1", "<msubsup><mi>y</mi><mi>e</mi><mn>2</mn></msubsup><mo>&lt;</mo><mn>1</mn>"),
    ],
)
def test_a_formula_is_drawn_as_latex_reads_it(monkeypatch, tex, drawn):
    monkeypatch.syspath_prepend(str(BOOK))
    import offline

    found = re.sub(r">\s+<", "><", offline.mathml(tex, True))
    space = "http://www.w3.org/1998/Math/MathML"
    assert found == f'<math xmlns="{space}" display="block">{drawn}</math>'


def test_no_line_of_a_table_ends_within_an_interval(tmp_path):
    path = tmp_path / "chapter.ipynb"
    table = "<td>-0.12 [-0.20, 0.05]</td><td>[a, b]</td>"
    path.write_text(json.dumps({"cells": [code("f()", output("text/html", table))]}))
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import generate\n"
        "generate.keep_intervals(generate.Path(sys.argv[2]))\n"
    )
    subprocess.run([sys.executable, "-c", script, str(BOOK), str(path)], check=True, cwd=ROOT)
    found = json.loads(path.read_text())["cells"][0]["outputs"][0]["data"]["text/html"]
    assert found == table.replace("0.20, 0.05", "0.20,&nbsp;0.05")


CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
ADDRESS = "https://example.org/speech"


def test_buttons_and_links_wait_for_the_address_of_the_repository(monkeypatch):
    monkeypatch.syspath_prepend(str(BOOK))
    import build

    without = build.configure(CONFIG, {"a": "1"}, "Version 7")
    assert "launch_buttons" not in without and "repository" not in without
    assert not without["html"]["use_repository_button"]
    assert not without["html"]["use_issues_button"]
    public = copy.deepcopy(CONFIG)
    public["repository"]["url"] = ADDRESS
    having = build.configure(public, {"a": "1"}, "Version 7")
    assert having["launch_buttons"] == CONFIG["launch_buttons"]
    assert having["repository"]["url"] == ADDRESS and having["html"]["use_repository_button"]
    for content in (without, having):
        assert content["parse"]["myst_substitutions"] == {"a": "1"}
        assert content["html"]["extra_footer"].startswith("<p>Version 7</p>")
    assert "myst_substitutions" not in CONFIG["parse"]  # a copy was changed


def test_a_page_tells_what_it_is_about(monkeypatch):
    monkeypatch.syspath_prepend(str(BOOK))
    import findable

    cited = {"citation_author": "A & B"}
    text = findable.tags('A "title"', "about <it>", "", "book/intro", cited)
    assert '<meta name="description" content="about &lt;it&gt;">' in text
    assert 'property="og:title" content="A &quot;title&quot;"' in text
    assert "og:image" not in text and "og:url" not in text
    assert '<meta name="citation_title" content="A &quot;title&quot;">' in text
    assert '<meta name="citation_author" content="A &amp; B">' in text
    text = findable.tags("T", "about", f"{ADDRESS}/", "book/intro", cited)
    assert f'property="og:image" content="{ADDRESS}/_static/social.png"' in text
    assert f'property="og:url" content="{ADDRESS}/book/intro.html"' in text
    assert findable.description(None) == findable.DESCRIPTION
    assert findable.plain("<em>A</em> &amp; B") == "A & B"


def test_each_page_says_how_to_cite_it(monkeypatch):
    monkeypatch.syspath_prepend(str(BOOK))
    import findable

    context = {"title": "UAR", "theme_extra_footer": CONFIG["html"]["extra_footer"],
               "pathto": lambda page: f"../../{page}.html"}
    config = SimpleNamespace(html_title="The book", author="We", copyright="2026", html_baseurl="")
    findable.add(SimpleNamespace(config=config), "book/metrics/uar", "", context, None)
    assert '<a href="../../book/references.html">How to cite</a>' in context["theme_extra_footer"]
    for name, value in (("title", "UAR"), ("inbook_title", "The book"), ("author", "We")):
        assert f'<meta name="citation_{name}" content="{value}">' in context["metatags"]


def test_what_is_folded_is_open_on_paper_and_no_link_leads_to_a_file(monkeypatch):
    monkeypatch.syspath_prepend(str(BOOK))
    import pdf

    page = pdf.one_page('<head></head><details class="a"><summary>b</summary></details>')
    assert '<details open class="a">' in page and "</details>" in page
    assert page.index("@media print") < page.index("</head>")
    page = pdf.one_page(
        '<link href="a.css"><a class="b" href="book/intro.html#c">d</a><a href="_images/e">f</a>'
    )
    assert page == '<link href="a.css"><a class="b" href="#c">d</a><a>f</a>'


def test_a_long_module_goes_on_on_a_second_page():
    script = (
        "import ast, sys; sys.path.insert(0, sys.argv[1])\n"
        "import generate\n"
        "body = '\\n'.join(f'def {n}():\\n' + '    x = 1\\n' * k for n, k in "
        "[('a', 200), ('_b', 900), ('c', 100), ('d', 100), ('e', 400), ('f', 1)])\n"
        "print([[node.name for node in part] for part in generate.split(ast.parse(body))])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(BOOK)], check=True, cwd=ROOT, capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "[['a', 'c'], ['d'], ['e'], ['f']]"


def test_each_promise_names_a_test_that_is_there():
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", (BOOK / "promises.md").read_text())
    assert len(named) > 20
    for file, name in named:
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(), f"{file}::{name}"


POOL = ROOT / "data/pools/cpu-ravdess-nano-pretrained"


@pytest.fixture
def pooled(monkeypatch):
    monkeypatch.syspath_prepend(str(BOOK))
    import pooled

    return pooled


def test_what_methods_come_to_on_a_pool_is_its_table(generated):
    rows = pd.read_csv(POOL / "judged.csv")
    text = (generated / "pools.md").read_text()
    lines = text.partition(":name: cpu-ravdess-nano-pretrained-distances")[2].splitlines()
    lines = [line for line in lines[: lines.index("::::")] if line.startswith("| ")][2:]
    order = rows.sort_values("both")
    assert [line.split(" | ")[1].split()[0] for line in lines] == [
        f"{value + 1e-9:.2f}" for value in order["forgetting"]
    ]
    assert f"n = {rows['requests'].iloc[0]} requests" in text
    for name in ("front", "curves"):
        assert (generated / f"cpu-ravdess-nano-pretrained-{name}.svg").is_file()


def some_pool(folder, methods, scored, useless=()):
    """Write the tables of a pool whose methods are all what DELETE was."""
    folder.mkdir()
    (folder / "design.json").write_bytes((POOL / "design.json").read_bytes())
    rows = pd.read_csv(POOL / "judged.csv", index_col="method")
    rows = rows.loc[["original", "references", *(["delete"] * len(methods))]]
    rows.index = pd.Index(["original", "references", *methods], name="method")
    rows["useful"] = [None, None, *(name not in useless for name in methods)]
    rows.to_csv(folder / "judged.csv")
    curves = pd.read_csv(POOL / "curves.csv")
    curve = curves[curves["method"] == "delete"]
    curves = pd.concat([curves[:2], *(curve.assign(method=name) for name in methods)])
    curves.to_csv(folder / "curves.csv", index=False)
    counts = [name for name, count in scored.items() for _ in range(count)]
    pd.DataFrame({"method": counts}).to_csv(folder / "scored.csv", index=False)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_pool_of_any_number_of_methods_is_shown(pooled, tmp_path, monkeypatch, count):
    monkeypatch.setattr(pooled, "POOLS", tmp_path)
    methods = ["delete", "ssd", "ran_lab", "neggrad", "jit"][:count]
    whole = dict.fromkeys(methods, 144)
    some_pool(tmp_path / "one", methods, whole | {"adv": 7}, useless=["ssd"])
    some_pool(tmp_path / "other", methods, whole | {"adv": 7})
    names = [*methods, "adv", "scrub", "retrain", "sisa"]
    pooled.pages(tmp_path / "pools.md", names)
    one, other = (tmp_path / "pools.md").read_text().split("\n## RAVDESS", 1)
    for part in (one, other):
        for name in methods:
            assert f"<method-{name}>" in part
        assert "**Not run:** SCRUB. **Begun" in part and "<method-adv>`, 7 of 144 requests" in part
    table = one.partition("::::{table}")[2].partition("**Not tuned to anything useful.**")
    assert ("<method-ssd>" in table[2]) == ("ssd" in methods) == bool(table[1])
    assert "<method-ssd>" not in table[0] and "Not tuned" not in other
    (front,) = pooled.front_of(pooled.Judged.read(tmp_path / "one"))[:1] or [None]
    assert front == (methods[0] if methods else None)


def test_methods_on_some_of_the_sets_have_tables_of_their_own(pooled, tmp_path, monkeypatch):
    monkeypatch.setattr(pooled, "POOLS", tmp_path)
    some_pool(tmp_path / "one", ["delete"], {"delete": 144, "adv": 64})
    few = pd.read_csv(tmp_path / "one" / "judged.csv", index_col="method")
    few = pd.concat([few, few.loc[["delete"]].rename({"delete": "adv"})]).assign(requests=64)
    few.to_csv(tmp_path / "one" / "judged-few.csv")
    pooled.pages(tmp_path / "pools.md", ["delete", "adv"])
    whole, _, some = (tmp_path / "pools.md").read_text().partition("**On some of the sets.**")
    assert "<method-adv>" not in whole and "n = 64 of these requests" in some
    assert some.count("<method-adv>") == some.count("<method-delete>") == 2
    assert "**Not run:** none." in some and "Begun" not in some


def test_tables_of_other_rows_than_are_there_are_refused(pooled, tmp_path):
    some_pool(tmp_path / "one", ["delete"], {"delete": 144, "jit": 144})
    with pytest.raises(ValueError, match=r"judged\.csv is not of \['jit'\]: run 'python -m bench"):
        pooled.Judged.read(tmp_path / "one")
    (tmp_path / "one" / "judged.csv").unlink()
    with pytest.raises(ValueError, match=r"has no judged\.csv: run 'python -m benchmarks\.judged"):
        pooled.Judged.read(tmp_path / "one")


def test_names_of_points_that_are_close_do_not_lie_on_each_other(pooled):
    from matplotlib.text import Text

    figure, axis = pooled.figures.panels(6.4, 4.8)
    points = {f"Method {k}": (1 + 0.02 * k, 1 + 0.01 * k) for k in range(6)}
    axis.set(xlim=(0.5, 2), ylim=(0.5, 2))
    pooled.name_points(axis, points)
    figure.canvas.draw()
    boxes = [Text.get_window_extent(text) for text in axis.texts]
    assert sorted(text.get_text() for text in axis.texts) == sorted(points)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


#: what each picture's caption says of its worked number, computed by hand
BY_HAND = {
    "accuracy": "4 of 5 clips are recognised (orange): 0.8.",
    "activation_distance": "√(0.3² + 0.4² + 0.1²) = 0.51",
    "anamnesis": "1 / 4 = 0.25",
    "average_gap": "(0.5 + 0.25 + 0 + 0) / 4 = 0.1875",
    "cost": "15 × 100 = 1,500, 30 epochs of retraining 30 × (831 − 100) = 21,930",
    "distance": "|0 − 0.875| = 0.875",
    "gum": "3 / (1/1 + 1/0.75 + 1/1) = 0.9.",
    "interclass_confusion": "2 of their 4 clips are taken for the other",
    "loss_distribution": "0.5 apart at most ($D$), and the area between them is 2 nats",
    "mean_loss": "(0.5 + 2) / 2 = 1.25",
    "mia_auc": "lower loss in 6, an equal one in 1: 6.5 / 8 = 0.8125",
    # log 2; .5 log 2 + .5 log 4; .5 log 2 - .5 log .75
    "mia_features": "loss 0.69, entropy 1.04, modified entropy 0.49",
    "mia_likelihood_ratio": "log 9.5 = 2.25",  # (3 - 0)^2 / (2 * 2), both variances 2
    "mia_matched": "Members are 1.25 s shorter",  # (3 - 1 + 2.5 - 2) / 2
    "mia_performance": "The area is 0.8125, the equal error rate 0.25, and 0.5 of the members",
    "mia_regression": "an AUC of 1.",
    "mia_svc": "a share of 0.5.",
    "report_card": "0.5 ± 2 √((1 + 1/2) × 0.0025), 0.378 to 0.622",
    "statistics": "UAR 0.95. Its 95 % interval is 0.85 to 1",  # 17 and 20 of 20, binomial with .95
    "tow": "0.5 × 1 × 0.75 = 0.375",
    "uar": "(0.5 + 0.75) / 2 = 0.625",
    "zrf": "1 − JS is 0.689 where the model is certain",  # 1 - (log2(4/3) + .5 log2(2/3) + .5) / 2
}


@pytest.mark.parametrize("page", sorted(BY_HAND))
def test_a_metric_has_picture_worked_number_and_value_on_real_speech(generated, page):
    text = (generated / "metrics" / f"{page}.md").read_text()
    worked, _, on_speech = text.partition("## On real speech")
    assert BY_HAND[page] in worked and (">>> " in worked) == (page != "cost")
    for part, file in ((worked, f"{page}-idea.svg"), (on_speech, f"{page}.svg")):
        picture = generated / "metrics" / file
        assert f"generated/metrics/{file}\n" in part and picture.stat().st_size < 60_000
        assert len(re.findall(':alt: "[^"$`]{60,}"\n', part)) == 1
    assert "Original" in on_speech
    table = (generated / "metrics" / "overview.md").read_text()
    assert (f"<metric-{page}>" in table) == (page != "statistics")
    assert " cannot see\n" in (BOOK / "metrics" / f"{page}.md").read_text()


def test_values_on_real_speech_are_those_of_committed_tables(generated):
    ranking = pd.read_csv(ROOT / "data/leaderboard/cpu-ravdess/ranking.csv", index_col="method")
    assert ranking["forward_backward"][["ran_lab", "retrain"]].tolist() == [1_500, 21_930]
    methods_shown = ["original", "perturbed", "amun", "retrain"]
    table = (generated / "metrics" / "overview.md").read_text()
    for page, column in (("uar", "forget_uar"), ("mia_auc", "mia_loss"), ("average_gap", "gap")):
        cells = " | ".join(f"{ranking[column][method] + 1e-9:.2f}" for method in methods_shown)
        assert f"<metric-{page}>` | {cells} |" in table
    rows = pd.read_csv(ROOT / "data/benchmarks/relearning.csv")
    steps = rows.assign(curve=[
        next(i for i, share in enumerate(map(float, curve.split())) if share >= 0.95 * start - 1e-9)
        for curve, start in zip(
            rows["curve"],
            rows["run"].map(rows[rows["model"] == "original"].set_index("run")["curve"])
            .str.split().str[0].astype(float), strict=True,
        )
    ]).pivot(index="run", columns="model", values="curve")
    index = steps.div(steps["retrain"], axis=0).mean()
    text = (generated / "metrics" / "anamnesis.md").read_text()
    assert f"DELETE {index['delete']:.2f}" in text and f"Retrained {index['one more']:.2f}" in text
    sooner = steps[["delete", "ran_lab"]].max(axis=1) < steps[["retrain", "one more"]].min(axis=1)
    assert sooner.all()  # as the page says
    zrf = rows[rows["model"] == "original"]["zrf"].mean()
    assert f"Original {zrf:.2f}" in (generated / "metrics" / "zrf.md").read_text()


def test_the_status_lists_every_committed_table_its_time_and_its_command(generated):
    text, data = (generated / "status.md").read_text(), ROOT / "data"
    for file in data.rglob("*.csv"):
        place = file.relative_to(data)
        if place.parts[0] in ("benchmarks", "tuning", "pools", "leaderboard", "table1"):
            shown = place.parent if place.parts[0] == "leaderboard" else place
            assert f"`{shown.as_posix()}`" in text
    pool = data / "pools" / "cpu-ravdess-nano-pretrained"
    abouts = [json.loads(str(np.load(file)["about"])) for file in pool.glob("model-*.npz")]
    (row,) = [line for line in text.split("\n") if "`pools/cpu-ravdess-nano-pretrained`" in line]
    assert len(abouts) == 32 and " 32 " in row and "9cae9056f497" in row
    assert f"{sum(about['seconds'] for about in abouts) / 60:.1f} min" in row
    for name in re.findall(r"python -m benchmarks\.(\w+)", text):
        assert (ROOT / "benchmarks" / f"{name}.py").is_file()
