"""What of a chapter is folded on its page."""

import json
import runpy
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
arrange = runpy.run_path(str(ROOT / "book" / "folded.py"))["arrange"]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_page_has_what_its_notebook_made_and_no_start(path, tmp_path):
    staged = Path(shutil.copy(path, tmp_path))
    arrange(staged)
    before, after = (json.loads(file.read_text())["cells"] for file in (path, staged))
    outputs = [[output for cell in cells for output in cell.get("outputs", ())]
               for cells in (before, after)]  # fmt: skip
    assert outputs[0] == outputs[1]
    sources = ["".join(cell["source"]) for cell in after]
    assert not any("context.start(" in source for source in sources)
    tagged = [(cell["metadata"].get("tags", []), s) for cell, s in zip(after, sources, strict=True)]
    for tags, _ in tagged:
        if "component" in tags or "agrees" in tags:
            assert not {"hide-input", "hide-cell", "remove-input"} & {*tags}
        if "answer" in tags:
            assert "remove-input" in tags
    places = [i for i, (tags, _) in enumerate(tagged) if "parameters" in tags]
    runs = [i for i, source in enumerate(sources) if source.startswith("## Run it yourself\n")]
    assert places == [i + 1 for i in runs]
    assert len(runs) == (path.stem[:2] not in ("11", "12"))


def test_what_papermill_was_given_is_on_no_page(tmp_path):
    content = json.loads(CHAPTERS[0].read_text())
    position = next(
        i for i, cell in enumerate(content["cells"])
        if "parameters" in cell["metadata"].get("tags", [])
    )
    given = {
        "cell_type": "code", "execution_count": None, "outputs": [], "source": 'root = "/a/place"',
        "metadata": {"tags": ["injected-parameters"]}, "id": "given",
    }
    content["cells"].insert(position + 1, given)
    staged = tmp_path / "run.ipynb"
    staged.write_text(json.dumps(content))
    arrange(staged)
    assert "/a/place" not in staged.read_text()
