"""Protected recordings: what changes, what stays, what is refused."""

import json
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import write_clip

from speechunlearn import cli
from speechunlearn.corpora.base import content_hash, decode
from speechunlearn.dataset.protection import Key, KeyFileError, new_key, protect, read_key
from speechunlearn.errors import CorpusError, ParameterError, SpeechUnlearnError
from speechunlearn.tool import recordings
from speechunlearn.tool.output_folder import UNFINISHED, OutputError

KEY = Key(bytes(range(32)), patch_seconds=0.05, taps=8, blur=0.4)


def noise(length: int = 4000, channels: int = 0) -> np.ndarray:
    shape = (length, channels) if channels else (length,)
    return 0.1 * np.random.default_rng(length).standard_normal(shape)


def by_loops(patch: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """A second implementation: the full convolution, sample by sample, and its middle."""
    full = np.zeros(len(patch) + len(taps) - 1)
    for i, sample in enumerate(patch):
        for j, weight in enumerate(taps):
            full[i + j] += sample * weight
    start = (len(taps) - 1) // 2
    same = full[start : start + len(patch)]
    return same * np.abs(patch).max() / np.abs(same).max()


@pytest.mark.parametrize("taps", [2, 7, 8])
def test_a_patch_is_convolved_and_the_rest_is_equal_to_the_bit(taps):
    key = Key(bytes(32), patch_seconds=0.01, taps=taps)
    clip = noise()
    (after,) = protect([clip], ["yes"], key)
    place, weights = key.filter_of("yes")
    start = round(place * (4000 - 160))
    assert np.allclose(after[start : start + 160], by_loops(clip[start : start + 160], weights))
    assert (np.delete(after, range(start, start + 160))
            == np.delete(clip, range(start, start + 160))).all()  # fmt: skip


def test_a_filter_is_uniform_weights_and_one_of_one():
    weights = np.stack([KEY.filter_of(f"class {k}")[1] for k in range(400)])
    assert ((weights == 1).sum(1) == 1).all()
    others = weights[weights < 1].reshape(400, 7)
    assert others.min() >= 0 and others.max() < 0.4 and abs(others.mean() - 0.2) < 0.01
    assert set(weights.argmax(1)) == set(range(8))
    places = [KEY.filter_of(f"class {k}")[0] for k in range(400)]
    assert min(places) < 0.02 and max(places) > 0.98 and abs(np.mean(places) - 0.5) < 0.05


def test_all_follows_from_the_secret_and_the_class():
    clips, labels = [noise(), noise(3000)], ["a", "b"]
    first, again = protect(clips, labels, KEY), protect(clips[::-1], labels[::-1], KEY)[::-1]
    assert all((one == other).all() for one, other in zip(first, again, strict=True))
    other = Key(bytes(32), patch_seconds=0.05, taps=8, blur=0.4)
    assert KEY.filter_of("a")[0] != KEY.filter_of("b")[0] != other.filter_of("b")[0]
    assert KEY.filter_of("caf\u00e9")[0] == KEY.filter_of("cafe\u0301")[0]
    # of version 1, for ever: recordings that are added later must get the same patch
    place, weights = KEY.filter_of("a")
    pinned = [0.0967186102379502, 0.12762150419707627, 0.3727012925141087, 0.2819885342566179]
    assert np.allclose([place, *weights[:3]], pinned, rtol=0, atol=1e-15)


def test_channels_share_filter_and_scale():
    clip = noise(channels=2)
    clip[:, 1] = 0.5 * clip[:, 0]
    (after,) = protect([clip], ["a"], KEY)
    assert after.shape == clip.shape and np.allclose(after[:, 1], 0.5 * after[:, 0])


def test_without_a_patch_the_whole_clip_is_convolved_as_in_cuda():
    key = Key(bytes(32), patch_seconds=None, taps=5)
    clip = noise(200)
    (after,) = protect([clip], ["a"], key)
    assert np.allclose(after, by_loops(clip, key.filter_of("a")[1]))


def test_types_are_kept_inputs_too_and_silence_stays():
    clip = noise().astype(np.float32)
    before = clip.copy()
    (after,) = protect([clip], ["a"], KEY)
    assert after.dtype == np.float32 and (clip == before).all() and (after != clip).any()
    assert np.abs(after).max() <= np.abs(clip).max() + 1e-6
    assert (protect([np.zeros(4000)], ["a"], KEY)[0] == 0).all()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: protect([noise()], [], KEY), "labels: 0 for 1"),
        (lambda: protect([noise(), noise(700)], ["a", "a"], KEY), "clip 1: 0.04375 s is shorter"),
        (lambda: protect([noise()] * 2, ["a", "c"], Key(bytes(32), ("a", "b"))),
         "waveforms: clip 1: key: no class 'c'.* a, b"),
        (lambda: protect([noise()], ["a"], Key(bytes(32), (), 0.001)), "16 samples is shorter"),
        (lambda: Key(bytes(31)), "secret: 31 bytes"),
        (lambda: Key(bytes(32), taps=1), "taps: 1 is not"),
        (lambda: Key(bytes(32), blur=0.0), "blur: 0.0 is not positive"),
        (lambda: Key(bytes(32), patch_seconds=0.0), "patch_seconds: 0.0 is not positive"),
    ],
)
def test_what_cannot_be_protected_is_named(call, said):
    with pytest.raises(ParameterError, match=said):
        call()


def test_no_clip_is_touched_before_all_were_checked(monkeypatch):
    monkeypatch.setattr(np, "convolve", lambda *_: pytest.fail("a clip was filtered"))
    for second, label in ((noise(700), "a"), (noise(), "c")):
        with pytest.raises(ParameterError, match="clip 1"):
            protect([noise(), second], ["a", label], Key(bytes(32), ("a", "b")))


# Keys --------------------------------------------------------------------------------------------


def test_a_key_is_read_as_it_was_made_and_is_its_owners_alone(tmp_path):
    file = tmp_path / "my.key"
    key = new_key(file, ["b", "a", "b"], taps=9, patch_seconds=None)
    assert read_key(file) == key and key.classes == ("a", "b") and key.taps == 9
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    assert key.secret.hex() not in repr(key) + key.name
    before = file.read_bytes()
    with pytest.raises(ParameterError, match="there already"):
        new_key(file)
    assert file.read_bytes() == before
    with pytest.raises(ParameterError, match="width: unknown; known: blur"):
        new_key(tmp_path / "b.key", width=3)
    assert new_key(tmp_path / "c.key").secret != key.secret


GOOD = {"version": 1, "secret": "ab" * 32}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("no JSON " + "ab" * 32, "is not JSON"),
        ("[1]", "no JSON object"),
        ({"secret": "ab" * 32}, "not of version 1"),
        (GOOD | {"version": 2}, "not of version 1"),
        ({"version": 1}, "0 bytes"),
        (GOOD | {"secret": "ab" * 31}, "31 bytes, at least 32"),
        (GOOD | {"secret": "zz" * 32}, "not hexadecimal"),
        (GOOD | {"secret": 7}, "secret is not hexadecimal"),
        (GOOD | {"taps": 2.5}, "taps is of the wrong type"),
        (GOOD | {"taps": True}, "taps is of the wrong type"),
        (GOOD | {"blur": "ab" * 32}, "blur is of the wrong type"),
        (GOOD | {"blur": -1}, "blur: -1.0 is not positive"),
        (json.dumps(GOOD)[:-1] + ', "blur": Infinity}', "blur is not finite"),
        (GOOD | {"classes": "yes"}, "classes is no list of names"),
        (GOOD | {"classes": [""]}, "classes is no list of names"),
        (GOOD | {"tap": 3}, "the key has no 'tap'"),
    ],
)
def test_a_bad_key_is_refused_and_not_cited(tmp_path, content, said):
    file = tmp_path / "my.key"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(KeyFileError, match=said) as raised:
        read_key(file)
    assert "my.key" in str(raised.value) and "ab" * 31 not in str(raised.value)
    with pytest.raises(KeyFileError, match="cannot be read"):
        read_key(tmp_path / "other.key")


# Files -------------------------------------------------------------------------------------------


def listed(folder: Path, *rows: str, header: str = "path,label,speaker") -> Path:
    file = folder / "clips.csv"
    file.write_text("\n".join([header, *rows]) + "\n")
    return file


@pytest.fixture
def clips(tmp_path) -> Path:
    for seed, name in enumerate(("one.wav", "two.flac", "below/three.wav")):
        write_clip(tmp_path / name, seed=seed)
    return listed(tmp_path, "one.wav,yes,anna", "two.flac,no,anna", "below/three.wav,no,ben")


def exact(file: Path, subtype: str) -> np.ndarray:
    kind = "int32" if subtype.startswith("PCM") else "float64"
    return soundfile.read(file, dtype=kind, always_2d=True)[0]


@pytest.mark.parametrize(
    ("suffix", "subtype", "rate", "channels"),
    [
        ("wav", "PCM_U8", 8000, 1), ("wav", "PCM_16", 16000, 1), ("wav", "PCM_24", 44100, 2),
        ("wav", "PCM_32", 48000, 1), ("wav", "FLOAT", 22050, 2), ("wav", "DOUBLE", 16000, 1),
        ("flac", "PCM_S8", 16000, 1), ("flac", "PCM_16", 44100, 2), ("flac", "PCM_24", 96000, 1),
        ("aiff", "PCM_16", 16000, 3),
    ],
)
def test_a_file_keeps_all_but_its_patch(tmp_path, suffix, subtype, rate, channels):
    file = tmp_path / f"a.{suffix}"
    write_clip(file, 0, 0.3, rate, channels, subtype)
    plain = exact(file, subtype)
    with soundfile.SoundFile(file, "w", rate, channels, subtype) as opened:
        opened.title, opened.artist, opened.comment = "a title", "Anna", "of the 3rd"
        opened.write(plain)
    before = exact(file, subtype)
    record = recordings.protect_files(listed(tmp_path, f"a.{suffix},yes"), KEY, tmp_path / "out")
    written = tmp_path / "out" / f"a.{suffix}"
    was, is_now = soundfile.info(file), soundfile.info(written)
    for name in ("format", "subtype", "samplerate", "channels", "frames"):
        assert getattr(was, name) == getattr(is_now, name)
    with soundfile.SoundFile(written) as opened:
        assert opened.copy_metadata() == {
            "title": "a title", "artist": "Anna", "comment": "of the 3rd"
        }
    after, patch = exact(written, subtype), KEY.patch("yes", len(before), rate)
    outside = np.r_[: patch.start, patch.stop : len(before)]
    assert (after[outside] == before[outside]).all() and (after[patch] != before[patch]).any()
    scale = 2.0**31 if subtype.startswith("PCM") else 1.0
    weights = KEY.filter_of("yes")[1]
    full = np.stack([np.convolve(c, weights, "same") for c in (before[patch] / scale).T], axis=1)
    full *= np.abs(before[patch] / scale).max() / np.abs(full).max()
    steps = {"PCM_U8": 2**-8, "PCM_S8": 2**-8, "PCM_16": 2**-16, "PCM_24": 2**-24}
    step = steps.get(subtype, 2**-24)  # half of one
    assert np.abs(after[patch] / scale - full).max() <= step * 1.001
    assert record["source"].item() == content_hash(decode(file)[0])
    assert record["protected"].item() == content_hash(decode(written)[0])


def test_the_same_call_writes_the_same_and_the_key_is_nowhere(clips, tmp_path):
    for out in ("a", "b"):
        recordings.protect_files(clips, KEY, tmp_path / out)
    files = [
        {path.relative_to(tmp_path / out).as_posix(): path.read_bytes()
         for path in (tmp_path / out).rglob("*") if path.is_file()} for out in ("a", "b")
    ]  # fmt: skip
    assert files[0] == files[1]
    assert set(files[0]) == {"one.wav", "two.flac", "below/three.wav", recordings.RECORD}
    for content in files[0].values():
        assert KEY.secret not in content and KEY.secret.hex().encode() not in content
    record = pd.read_csv(tmp_path / "a" / recordings.RECORD)
    assert list(record["speaker"]) == ["anna", "anna", "ben"] and set(record["key"]) == {KEY.name}


def test_work_that_was_stopped_goes_on(clips, tmp_path, monkeypatch):
    write, written = recordings._write, []

    def stops(source: Path, *more: object) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(source.name)
        write(source, *more)

    out = tmp_path / "out"
    monkeypatch.setattr(recordings, "_write", stops)
    with pytest.raises(KeyboardInterrupt):
        recordings.protect_files(clips, KEY, out)
    assert sorted(p.name for p in out.rglob("*.*") if p.is_file()) == ["one.wav", "two.flac"] or (
        not (out / recordings.RECORD).exists()
    )
    other = Key(bytes(32), patch_seconds=0.05, taps=8)
    with pytest.raises(OutputError, match="not empty"):
        recordings.protect_files(clips, other, out)
    written.clear()
    monkeypatch.setattr(recordings, "_write", lambda *a: written.append(a[0].name) or write(*a))
    recordings.protect_files(clips, KEY, out)
    assert written == ["three.wav"] and not (out / UNFINISHED).exists()
    recordings.protect_files(clips, KEY, tmp_path / "fresh")
    for name in ("one.wav", "two.flac", "below/three.wav", recordings.RECORD):
        assert (out / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()


def test_protected_clips_are_known_by_their_record(clips, tmp_path):
    out = tmp_path / "out"
    recordings.protect_files(clips, KEY, out)
    listed(out, "below/three.wav,no")
    other = Key(bytes(32), patch_seconds=0.05)
    with pytest.raises(CorpusError, match=r"three.wav' \(row 2\): it is protected already.*out"):
        recordings.protect_files(out / "clips.csv", other, tmp_path / "twice")
    assert not (tmp_path / "twice").exists()
    # a fresh recording in the same folder is none of those in the record
    shutil.copy(tmp_path / "two.flac", out / "fresh.flac")
    listed(out, "fresh.flac,no")
    recordings.protect_files(out / "clips.csv", other, tmp_path / "twice")
    with pytest.raises(OutputError, match="not empty: it holds 'protected-clips.csv'"):
        recordings.protect_files(clips, KEY, out)


def test_silence_in_the_patch_is_told(tmp_path):
    clip = noise()
    clip[KEY.patch("yes", 4000, 16_000)] = 0
    soundfile.write(tmp_path / "a.wav", clip, 16_000)
    said: list[str] = []
    recordings.protect_files(
        listed(tmp_path, "a.wav,yes"), KEY, tmp_path / "out", on_progress=said.append
    )
    assert len(said) == 1 and "1 of 1 clips are as they were" in said[0] and "a.wav" in said[0]


@pytest.mark.parametrize(
    ("header", "row", "said"),
    [
        ("path,speaker", "one.wav,anna", "column.*label missing"),
        ("path,label", "gone.wav,no", r"gone.wav' \(row 3\): no such file"),
        ("path,label", "text.wav,no", r"text.wav' \(row 3\): unreadable audio"),
        ("path,label", "short.wav,no", r"short.wav' \(row 3\): 0.2 s is shorter than the patch"),
        ("path,label", "lossy.ogg,no", r"lossy.ogg' \(row 3\): VORBIS is lossy"),
        ("path,label", "two.wav,maybe", r"two.wav' \(row 3\): key: no class 'maybe'"),
        ("path,label", "one.wav,no", r"one.wav' \(row 3\): there is an earlier row"),
        ("path,label", "../one.wav,no", "leads out of"),
    ],
)
def test_what_is_wrong_is_named_before_any_work(tmp_path, header, row, said):
    folder = tmp_path / "in"
    for seed, name in enumerate(("one.wav", "two.wav")):
        write_clip(folder / name, seed=seed, seconds=0.5)
    write_clip(folder / "short.wav", seed=3, seconds=0.2)
    (folder / "text.wav").write_text("no audio")
    soundfile.write(folder / "lossy.ogg", noise(16_000), 16_000)
    file = listed(folder, "one.wav,yes", row, header=header)
    key = Key(bytes(32), ("yes", "no"), patch_seconds=0.3)
    with pytest.raises(SpeechUnlearnError, match=said):
        recordings.protect_files(file, key, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def call(monkeypatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["speechunlearn", "protect", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_the_command_makes_a_key_and_uses_it_again(clips, tmp_path, monkeypatch, capsys):
    key, out = tmp_path / "my.key", tmp_path / "out"
    options = ("--clips", clips, "--key", key, "--out", out)
    assert call(monkeypatch, *options) == 2
    assert "my.key" in capsys.readouterr().err and not out.exists()
    new = ("--new-key", "-p", "patch_seconds=0.05", "-p", "taps=9")
    assert call(monkeypatch, *options, *new) == 0
    assert "3 clips protected" in capsys.readouterr().err
    assert read_key(key).classes == ("no", "yes") and read_key(key).taps == 9
    shutil.rmtree(out)
    assert call(monkeypatch, *options, "-p", "taps=9") == 2
    assert "of a new key alone" in capsys.readouterr().err
    inside = ("--clips", clips, "--key", out / "my.key", "--out", out, "--new-key")
    assert call(monkeypatch, *inside) == 2
    assert "lies in the folder to publish" in capsys.readouterr().err and not out.exists()
    assert call(monkeypatch, *options) == 0
    assert (out / recordings.RECORD).is_file()


def test_a_key_for_what_was_refused_is_not_kept(clips, tmp_path, monkeypatch):
    options = ("--clips", clips, "--key", tmp_path / "my.key", "--out", tmp_path / "out")
    long = ("--new-key", "-p", "patch_seconds=100")
    assert call(monkeypatch, *options, *long) == 2
    assert not (tmp_path / "my.key").exists() and not (tmp_path / "out").exists()
    assert call(monkeypatch, *options, "--new-key", "-p", "patch_seconds=0.05") == 0
    assert (tmp_path / "my.key").is_file()
