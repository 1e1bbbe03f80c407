"""What a checkpoint, a CSV or a label can't do to who runs a deletion request."""

import json
import pickle
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from conftest import write_clip
from safetensors.torch import load_file

from speechunlearn import corpora, tool
from speechunlearn.errors import CorpusError, ModelError, ParameterError
from speechunlearn.tool import checkpoints, inputs, reports

SCRIPT = "<script>alert(1)</script>"
IMAGE = '"><img src=x onerror=alert(1)>'
LINK = "[x](javascript:alert(1))"
FENCE = "```\n# A heading\n| a | b |\n<!-- "


@pytest.fixture
def model_folder(tmp_path):
    folder = tmp_path / "model"
    tiny.wav2vec2(3).save(folder, {})
    return folder


def read(file: Path, **options: Any) -> inputs.ClipSet:
    return inputs.read(
        "forget", file, ["a", "b"], sampling_rate=16000, normalise=True, **options
    )


def settings(folder: Path, name: str = "config.json", **values: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


# --- nothing in a checkpoint is executed ---


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize("plain", [True, False])
def test_a_pickle_is_not_executed(model_folder, tmp_path, plain):
    marker = tmp_path / "executed"
    state = load_file(model_folder / "model.safetensors")
    (model_folder / "model.safetensors").unlink()
    path = model_folder / "pytorch_model.bin"
    if plain:
        path.write_bytes(pickle.dumps(state | {"more": Touch(marker)}))
    else:
        torch.save(state | {"more": Touch(marker)}, path)
    with pytest.raises(ModelError, match="cannot be loaded"):
        checkpoints.load(model_folder)
    assert not marker.exists()
    if not plain:  # the same file does run where that is let
        torch.load(path, weights_only=False)
        assert marker.exists()


def test_weights_only_are_read_from_a_pickle(model_folder):
    before = checkpoints.load(model_folder)
    torch.save(load_file(model_folder / "model.safetensors"), model_folder / "pytorch_model.bin")
    (model_folder / "model.safetensors").unlink()
    assert tiny.equal(tiny.weights(before), tiny.weights(checkpoints.load(model_folder)))


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("config.json", {"AutoConfig": "evil_module.Config", "AutoModelForAudioClassification":
                         "evil_module.Model"}),
        ("preprocessor_config.json", {"AutoFeatureExtractor": "evil_module.Extractor"}),
    ],
)
def test_a_module_of_a_checkpoint_is_not_imported(model_folder, tmp_path, name, asked):
    marker = tmp_path / "imported"
    (model_folder / "evil_module.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    settings(model_folder, name, auto_map=asked)
    with pytest.raises(ModelError, match=rf"{name} asks for code of its own \(auto_map\)"):
        checkpoints.load(model_folder)
    assert not marker.exists()
    assert not any("evil_module" in module for module in sys.modules)


def test_other_files_of_a_checkpoint_name_no_code(model_folder, tmp_path):
    """transformers would read these in place of the files that are checked."""
    marker = tmp_path / "imported"
    (model_folder / "evil_module.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    own = json.loads((model_folder / "config.json").read_text())
    hidden = own | {"auto_map": {"AutoConfig": "evil_module.Config"}, "id2label": {"0": "x"}}
    (model_folder / "config.4.0.0.json").write_text(json.dumps(hidden))
    settings(model_folder, configuration_files=["config.4.0.0.json"])
    assert checkpoints.load(model_folder).labels == ("class 0", "class 1", "class 2")
    (model_folder / "processor_config.json").write_text(
        json.dumps({"feature_extractor": {"auto_map": {"AutoFeatureExtractor": "evil_module.E"}}})
    )
    with pytest.raises(ModelError, match="processor_config.json asks for code of its own"):
        checkpoints.load(model_folder)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"attn_implementation": "owner/kernel"}, "asks for the kernel 'owner/kernel'"),
        ({"_attn_implementation": "owner/kernel"}, "asks for the kernel 'owner/kernel'"),
        ({"quantization_config": {"quant_method": "awq"}}, "asks for a quantised model"),
        ({"transformers_weights": "other.safetensors"}, "asks for other weights"),
        ({"to_dict": 1}, "has 'to_dict', which is no setting"),
        ({"num_labels": 10**9, "id2label": None}, "num_labels is 1000000000, not"),
        ({"hidden_size": 10**9}, "has hidden_size 1000000000, but no weight"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers 1000000000, more than there are"),
        ({"num_adapter_layers": 10**9, "add_adapter": True}, "num_adapter_layers 1000000000"),
        ({"intermediate_size": 10**9}, "weights, but there are"),
        ({"conv_stride": [1, 1]}, "more than 1000 frames a second"),
    ],
)
def test_settings_that_ask_for_too_much(model_folder, values, reason):
    """For code from a hub, for other files, or for memory."""
    settings(model_folder, **values)
    with pytest.raises(ModelError, match=reason) as error:
        checkpoints.load(model_folder)
    assert str(model_folder) in str(error.value)


def test_an_adapter_brings_no_other_model(model_folder):
    (model_folder / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/name"}')
    with pytest.raises(ModelError, match="is an adapter of 'owner/name'.* merge it"):
        checkpoints.load(model_folder)


def test_weights_lie_in_the_folder(model_folder, tmp_path):
    (model_folder / "model.safetensors").rename(tmp_path / "other.safetensors")
    index = model_folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"classifier.bias": "../other.safetensors"}}))
    with pytest.raises(ModelError, match=r"names '\.\./other\.safetensors', no file"):
        checkpoints.load(model_folder)


def test_a_private_file_is_no_model_card(model_folder, tmp_path):
    """The card is copied to the unlearned model, which may be published."""
    (tmp_path / "private").write_text("secret")
    (model_folder / "README.md").symlink_to(tmp_path / "private")
    assert reports.card_of(str(model_folder)) is None
    (model_folder / "README.md").unlink()
    (model_folder / "README.md").write_text("# A card")
    assert reports.card_of(str(model_folder)) == "# A card"


# --- paths ---


@pytest.fixture
def listed(tmp_path):
    """A CSV of a clip inside, and what lists another one."""
    write_clip(tmp_path / "inside" / "0.wav", seed=0)
    write_clip(tmp_path / "inside" / "1.wav", seed=1)
    write_clip(tmp_path / "outside.wav", seed=2)
    file = tmp_path / "inside" / "clips.csv"

    def lists(path: object) -> Path:
        file.write_text(f"path,label,speaker\n0.wav,a,x\n1.wav,a,y\n{path},a,y\n")
        return file

    return lists


@pytest.mark.parametrize("how", ["..", "absolute", "link", "linked folder"])
def test_paths_stay_in_the_root(listed, tmp_path, how):
    (tmp_path / "inside" / "link.wav").symlink_to(tmp_path / "outside.wav")
    (tmp_path / "inside" / "up").symlink_to(tmp_path)
    path = {
        "..": "../outside.wav", "absolute": tmp_path / "outside.wav", "link": "link.wav",
        "linked folder": "up/outside.wav",
    }[how]
    file = listed(path)
    with pytest.raises(CorpusError, match=r"row 4\) leads out of .*; allow_outside permits it"):
        read(file)
    assert len(read(file, allow_outside=True).clips) == 3
    # a corpus of one's own may name any clip, but only as what it is
    if how == "absolute":
        assert len(corpora.read_manifest("csv", file)) == 3
    else:
        with pytest.raises(CorpusError, match=r"row 4\) leads out of .*; an absolute path may"):
            corpora.read_manifest("csv", file)


def test_a_root_holds_the_paths(listed, tmp_path):
    file = listed("1.wav")
    file.write_text("path,label\ninside/0.wav,a\noutside.wav,b\n")
    assert len(read(file, root=tmp_path).clips) == 2
    file.write_text("path,label\n../inside/0.wav,a\n")
    with pytest.raises(CorpusError, match="leads out of"):
        read(file, root=tmp_path / "inside" / "..")
    assert len(read(file, root=tmp_path / "inside").clips) == 1


@pytest.mark.parametrize("name", ["a\nb.csv", "a\x1b[2J.csv", "a\x00.csv", "a\udcff.csv"])
def test_names_that_no_report_can_show(name):
    with pytest.raises(ParameterError, match="forget: .* holds control characters"):
        read(Path(name))


@pytest.mark.parametrize("character", ["\n", "\x1b", "\x85"])
def test_cells_that_no_report_can_show(listed, character):
    with pytest.raises(CorpusError, match="a control character in column 'path', row 4"):
        read(listed(f'"x{character}y.wav"'))


# --- reports ---


class Seen(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text += data

    def handle_comment(self, data):
        self.tags.add("comment")


PLAIN = {
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "div", "table", "tr", "th",
    "td", "code", "b", "ul", "li", "details", "summary", "span",
}  # fmt: skip


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A request whose every name is hostile, done: its folder, its audit's, and its names."""
    folder = tmp_path_factory.mktemp("hostile")
    labels = (SCRIPT, IMAGE, LINK + "{{ 7 * 7 }}")
    model = folder / "<script>alert(1)<" / "script>" / LINK
    own = tiny.wav2vec2(3)
    own.labels = labels
    own.save(model, {})
    (model / "README.md").write_text("---\nlicense: mit\n---\n# The card\n")
    files = {}
    names = {
        "forget": f"{IMAGE}.csv",
        "unseen": f"{LINK} `*_x_*` <b> # | ~~y~~ \\.csv",
    }
    for number, (name, file) in enumerate(names.items()):
        rows = ["path,label"]
        for i in range(4):
            clip = f"{i} {IMAGE}.wav".replace('"', "'")
            write_clip(folder / name / clip, seed=10 * number + i)
            label = labels[i % 3].replace('"', '""')
            rows.append(f'"{clip}","{label}"')
        files[name] = folder / name / file
        files[name].write_text("\n".join(rows) + "\n")
    done = tool.forget(model, out=folder / "out", parameters={"epochs": 1}, **files)
    judged = tool.audit(model, out=folder / "audit", original=done.out, **files)
    return done.out, judged.out, {"model": str(model), "labels": labels} | names


@pytest.mark.parametrize("which", [0, 1])
def test_a_page_holds_no_more_than_it_should(hostile, which):
    names = hostile[2]
    page = Seen((hostile[which] / "report.html").read_text(encoding="utf-8"))
    assert page.tags <= PLAIN
    assert page.attributes <= {"lang", "charset", "name", "content", "class", "colspan", "open"}
    # the names are there, as text
    recording = f"0 {IMAGE}.wav".replace('"', "'")
    for name in (names["model"], names["forget"], recording, *names["labels"][: 3 * which]):
        assert name in page.text, name


def test_a_card_holds_no_more_than_it_should(hostile):
    out, _, names = hostile
    card = (out / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense: mit\n---\n# The card\n\n## Unlearning\n")
    own = card.partition("## Unlearning")[2]
    assert not Seen(own).tags and not any(line.startswith("#") for line in own.splitlines())
    assert not any(label in own for label in names["labels"]) and names["model"] not in own
    assert not any(names[name] in own or reports._text(names[name]) in own
                   for name in ("forget", "unseen"))


@pytest.mark.parametrize("which", [0, 1])
def test_a_report_is_strict_json(hostile, which):
    def no(constant: str) -> None:
        raise AssertionError(constant)

    text = (hostile[which] / "report.json").read_text(encoding="utf-8")
    report = json.loads(text, parse_constant=no)
    assert report["model"]["labels"] == list(hostile[2]["labels"])
    if which == 0:
        record = hostile[which].with_name(f"{hostile[which].name}.record.json")
        report |= json.loads(record.read_text(encoding="utf-8"), parse_constant=no)
    assert [clip["label"] for clip in report["forgotten"][:3]] == list(hostile[2]["labels"])


def test_text_of_a_card_is_plain():
    for text in (FENCE, "a\n\n## b", "* a", "<img src=x>", "&lt;", "![x](y)", "a\\`b`"):
        shown = reports._text(text)
        assert "\n" not in shown and "<" not in shown
        bare = shown.replace("\\\\", "")
        for mark in "`*[]#|!":
            assert bare.count(mark) == bare.count("\\" + mark), (text, shown)
