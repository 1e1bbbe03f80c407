"""Other people's recordings: how their names are spelt, what phones make, what is no audio."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from checkpoint import LABELS
from conftest import write_clip

from speechunlearn import cli, corpora
from speechunlearn.corpora.base import BadClip, decode
from speechunlearn.errors import SpeechUnlearnError
from speechunlearn.tool import inputs


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("listed", ["NFC", "NFD"])
def test_names_are_found_in_the_other_unicode_form(
    on_disk: str, listed: str, tmp_path: Path
) -> None:
    stored = unicodedata.normalize(on_disk, "perch\u00e9/caff\u00e8.wav")
    write_clip(tmp_path / stored, seed=0)
    file = tmp_path / "clips.csv"
    row = unicodedata.normalize(listed, "perch\u00e9/caff\u00e8.wav,felicit\u00e0,No\u00e9")
    file.write_text(f"path,label,speaker\n{row}\n", encoding="utf-8")
    labels = [unicodedata.normalize(on_disk, "felicit\u00e0"), "other"]
    part = inputs.read("forget", file, labels, sampling_rate=16000, normalise=True)
    assert part.about["label"].tolist() == labels[:1]  # as the model has it
    assert part.about["speaker"].tolist() == ["No\u00e9"]


def test_of_two_files_alike_none_is_taken(tmp_path: Path) -> None:
    for seed, form in enumerate(("e\u0323\u0301", "e\u0301\u0323")):
        write_clip(tmp_path / f"{form}.wav", seed=seed)
    (tmp_path / "clips.csv").write_text("path,label\n\u1eb9\u0301.wav,low\n", encoding="utf-8")
    with pytest.raises(SpeechUnlearnError, match="no such file"):
        inputs.read("forget", tmp_path / "clips.csv", LABELS, sampling_rate=16000, normalise=True)


def test_a_corpus_of_ones_own_has_each_label_once(tmp_path: Path) -> None:
    rows = ["path,label,speaker"]
    for seed, form in enumerate(("NFC", "NFD", "NFC", "NFD")):
        write_clip(tmp_path / f"{seed}.wav", seed=seed)
        label = unicodedata.normalize(form, "felicit\u00e0")
        rows.append(f"{seed}.wav,{label},s{seed % 2}")
    (tmp_path / "clips.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    manifest = corpora.read_manifest("csv", tmp_path / "clips.csv")
    assert set(manifest["label"]) == {"felicit\u00e0"}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a b.m4a", b"\0\0\0\x1cftypM4A " + bytes(400), "ffmpeg -i 'a b.m4a' 'a b.wav'"),
        ("a.webm", bytes.fromhex("1a45dfa39f428681") + bytes(400), "ffmpeg -i a.webm a.wav"),
        ("a.wav", b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\n", "git lfs pull"),
        ("a.wav", b"\n<!DOCTYPE html><html>404</html>", "text, not audio; it begins '<!DOCTYPE"),
        ("a.wav", "non trovato: è".encode(), "text, not audio"),
        ("a.wav", b"", "empty"),
    ],
)
def test_what_is_no_audio_is_said_with_what_to_do(
    name: str, content: bytes, said: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadClip) as refused:
        decode(tmp_path / name)
    assert said in refused.value.reason


def _streamed(path: Path) -> None:
    """A WAV as a pipe gets it: its sizes were not known when they were written."""
    content = bytearray(path.read_bytes())
    for place in (4, content.index(b"data") + 4):
        content[place : place + 4] = b"\xff" * 4
    path.write_bytes(bytes(content))


def _never_finished(path: Path) -> None:
    """A WAV whose recorder ended before it could write how long it is."""
    content = bytearray(path.read_bytes())
    for place in (4, content.index(b"data") + 4):
        content[place : place + 4] = bytes(4)
    path.write_bytes(bytes(content))


def _followed(path: Path) -> None:
    """A WAV with something behind its samples."""
    path.write_bytes(path.read_bytes() + b"LIST\x08\0\0\0INFOabcd")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        # half of the bytes, of which 44 are the header
        ({"format": "WAV", "subtype": "PCM_16"},
         "promises 32000 bytes, of which 15978 are there"),
        ({"format": "WAV", "subtype": "FLOAT"}, "promises 64000 bytes, of which 3"),
        ({"format": "WAV", "subtype": "GSM610"}, "promises 3250 bytes, of which 1"),
        ({"format": "RF64", "subtype": "PCM_16"}, "promises 32096 bytes, of which 16044"),
        ({"format": "W64", "subtype": "PCM_16"}, "promises 32104 bytes, of which 16052"),
        ({"format": "AIFF", "subtype": "PCM_16"}, "promises 32008 bytes, of which 15981"),
        ({"format": "AU", "subtype": "PCM_16"}, "promises 32000 bytes, of which 15988"),
        ({"format": "FLAC"}, "the 16000 samples that its header promises cannot be read"),
        ({"format": "OGG", "subtype": "VORBIS"}, "cut short"),
        ({"format": "OGG", "subtype": "OPUS"}, "unreadable"),
    ],
)
def test_what_was_cut_short_is_refused_with_both_lengths(
    kind: dict[str, str], said: str, tmp_path: Path
) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(16000)
    path = tmp_path / "a.wav"
    soundfile.write(path, noise, 16000, **kind)
    decode(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadClip, match=said) as refused:
        decode(path)
    assert refused.value.path == str(path)


def test_a_header_without_its_samples_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.sin(np.arange(16000)), 16000, subtype="PCM_16")
    path.write_bytes(path.read_bytes()[:44])
    with pytest.raises(BadClip, match="promises 32000 bytes, of which 0 are there"):
        decode(path)


@pytest.mark.parametrize(
    ("kind", "changed", "near"),
    [
        ({"format": "WAV", "subtype": "PCM_U8"}, None, 0.01),
        ({"format": "WAV", "subtype": "ULAW"}, None, 0.02),
        ({"format": "WAV", "subtype": "GSM610"}, None, 0.2),
        ({"format": "WAV", "subtype": "PCM_16"}, _streamed, 1e-4),
        ({"format": "WAV", "subtype": "PCM_16"}, _never_finished, 1e-4),
        ({"format": "WAV", "subtype": "PCM_16"}, _followed, 1e-4),
        ({"format": "FLAC"}, None, 1e-4),
        ({"format": "MP3"}, None, 0.05),  # whatever its name
        ({"format": "OGG", "subtype": "OPUS"}, None, 0.1),
    ],
)
def test_what_libsndfile_reads_is_read(
    kind: dict[str, str], changed: Callable[[Path], None] | None, near: float, tmp_path: Path
) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 400 * np.arange(16000) / 16000)
    soundfile.write(tmp_path / "a.wav", tone, 16000, **kind)
    if changed is not None:
        changed(tmp_path / "a.wav")
    waveform, seconds = decode(tmp_path / "a.wav")
    assert 1 <= seconds < 1.2
    assert abs(waveform[2000:14000].std() - 0.5 / np.sqrt(2)) < near * 0.5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "1", "-p", "profile=cpu"), "-p profile=...: give --profile instead"),
        (("run", "1", "-p", "skip_bad=true"), "give --skip-bad instead"),
        (("run", "1", "-p", "results=x"), "give --out instead"),
        (("run", "1", "-p", "seeds=1", "-p", "seeds=2"), "-p 'seeds' is given twice"),
        (("forget", "-p", "epochs=" + "[" * 3000 + "]" * 3000), "epochs is '[[[["),
        (("forget", "-p", "epochs=[[1]]"), "epochs is ((1,),); it should be a valid integer"),
        (("forget", "-p", "epochs={1: 2}"), "epochs is {1: 2}; it should be a valid integer"),
        (("forget", "-p", "epochs=True"), "epochs is True; it should be a valid integer"),
        (("forget", "-p", "learning_rate=1e400"), "learning_rate: inf is not finite"),
        (("forget", "-p", "batch_size=1" + "0" * 18), "batch_size: it is beyond 1,000,000,000"),
        (("forget", "-p", "speeds=1e-7"), "speeds: 1e-07 is not from 0.1 to 10.0"),
        (("forget", "-p", "mode=[]"), "mode is (); it should be a valid string"),
    ],
)
def test_an_option_is_not_overridden_silently(
    arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], tmp_path: Path,
) -> None:
    more = ("--model", "m", "--forget", "c.csv") if arguments[0] == "forget" else ()
    monkeypatch.setattr(
        "sys.argv", ["speechunlearn", *arguments, *more, "--out", str(tmp_path / "out")]
    )
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2 and said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
