"""Every reader gives the same manifest, and every bad clip is named."""

import hashlib
import logging
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from speechunlearn import corpora
from speechunlearn.corpora import base, demos, ravdess
from speechunlearn.errors import CorpusError

REPOSITORY = Path(__file__).resolve().parents[1]
EMOTIONS = ("anger", "disgust", "fear", "guilt", "happiness", "sadness", "surprise")
# Reconstructed split of DEMoS: clips of each emotion, in the order above.
DEMOS_COUNTS = {
    "train": (492, 525, 380, 351, 447, 493, 336),
    "validation": (472, 556, 383, 366, 434, 486, 327),
    "test": (513, 597, 393, 412, 514, 551, 337),
}


def read(name: str, root: Path, **kwargs) -> pd.DataFrame:
    return corpora.read_manifest(name, root, **kwargs)


def silence(path: Path, value: float = 0.0) -> Path:
    soundfile.write(path, np.full(8000, value, dtype=np.float32), 16000)
    return path


# The registry and the cards


def test_the_package_imports_light():
    code = "import sys, speechunlearn, speechunlearn.corpora; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.split()
    assert "speechunlearn.corpora" in loaded
    assert not {"torch", "torchaudio", "transformers", "seaborn"} & set(loaded)


def test_an_unknown_corpus_names_the_known_ones():
    known = list(corpora.known())
    assert known == sorted(known) and {"demos", "embedded", "speech_commands_10"} <= set(known)
    with pytest.raises(CorpusError, match=f"'iemocap'; known: {', '.join(known)}$"):
        corpora.read_manifest("iemocap", "anywhere")


def test_a_corpus_without_a_default_folder_needs_a_root():
    with pytest.raises(CorpusError, match="'demos' needs a root; request access at https"):
        corpora.read_manifest("demos")


def test_every_reader_has_a_card():
    folder = REPOSITORY / "speechunlearn" / "corpora" / "cards"
    assert {path.stem for path in folder.glob("*.json")} == set(corpora.known())
    with pytest.raises(CorpusError, match="corpus 'iemocap' has no card"):
        corpora.card("iemocap")


@pytest.mark.parametrize("name", corpora.known())
def test_card_and_reader_agree(name):
    card, corpus = corpora.card(name), corpora.get(name)
    for field in ("name", "title", "licence", "how_to_get", "task"):
        assert card[field] == getattr(corpus, field)
    assert card["labels"] == (None if corpus.labels is None else list(corpus.labels))
    assert card["citation"] and card["languages"] and card["is_not"]


# DEMoS


def test_demos_reads_all_real_names(real_speech):
    names = pd.read_csv(real_speech("demos") / "files.csv", dtype=str)
    assert len(names) == 9697
    counts = {split: dict.fromkeys(EMOTIONS, 0) for split in DEMOS_COUNTS}
    for row in names.itertuples():
        clip = demos.parse(Path(row.file))
        if row.emotion == "neutral":
            assert clip is None
            continue
        assert clip.label == row.emotion
        assert (clip.speaker, clip.gender) == (f"{int(row.speaker):02d}", row.gender)
        counts[clip.split][clip.label] += 1
    expected = {s: dict(zip(EMOTIONS, n, strict=True)) for s, n in DEMOS_COUNTS.items()}
    assert counts == expected == corpora.get("demos").expected


def test_demos_claims_the_published_sizes():
    sizes = {s: sum(labels.values()) for s, labels in corpora.get("demos").expected.items()}
    assert sizes == {"train": 3024, "validation": 3024, "test": 3317}
    assert corpora.get("demos").labels == EMOTIONS == tuple(sorted(EMOTIONS))


def test_demos_split_file_and_reader_agree():
    table = pd.read_csv(REPOSITORY / "data" / "splits" / "demos.csv", dtype=str)
    assert list(table.columns) == ["speaker", "gender", "split"]
    assert sorted(table["speaker"].astype(int)) == [n for n in range(1, 70) if n != 35]
    assert (table["gender"] == "female").sum() == 23
    for row in table.itertuples():
        clip = demos.parse(Path(f"PR_{row.gender[0]}_{row.speaker}_tri00a.wav"))
        assert (clip.speaker, clip.gender, clip.split) == (row.speaker, row.gender, row.split)


def complete_demos() -> list[str]:
    """Names of a complete DEMoS, with the real counts; the speakers of a part take turns."""
    codes = {label: code for code, label in demos.EMOTIONS.items()}
    names = []
    for split, counts in DEMOS_COUNTS.items():
        voices = [
            f"{gender[0]}_{number:02d}"
            for gender, numbers in demos.SPEAKERS[split].items()
            for number in numbers
        ]
        for label, count in zip(EMOTIONS, counts, strict=True):
            for i in range(count):
                take, voice = divmod(i, len(voices))
                names.append(f"NP_{voices[voice]}_{codes[label]}{take:02d}b.wav")
    return names


def test_demos_counts_are_asserted_before_audio_is_read(tmp_path, monkeypatch):
    names = complete_demos()
    for name in names:
        (tmp_path / name).touch()

    def decode_name(path: Path) -> tuple[np.ndarray, float]:
        return np.frombuffer(path.stem.encode(), np.uint8).astype(np.float32) / 256, 1.0

    monkeypatch.setattr(base, "decode", decode_name)
    manifest = read("demos", tmp_path)
    assert manifest["split"].value_counts().to_dict() == {
        "train": 3024, "validation": 3024, "test": 3317,
    }  # fmt: skip

    def decode_nothing(path: Path) -> None:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(base, "decode", decode_nothing)
    assert demos.parse(Path(names[0])).label == "anger"
    (tmp_path / names[0]).unlink()
    with pytest.raises(
        CorpusError,
        match="train has 3023 clips, not 3024; train has 491 of anger, not 492$",
    ):
        read("demos", tmp_path, skip_bad=True)
    # The sum is right again, the emotions are not.
    (tmp_path / names[0].replace("rab00b", "pau99b")).touch()
    with pytest.raises(CorpusError, match=": train has 491 of anger, not 492; train has 381 of"):
        read("demos", tmp_path, skip_bad=True)


def test_a_subset_of_demos_is_read_with_a_warning(demos_root, caplog):
    manifest = read("demos", demos_root)
    assert "42 of 9365 clips, 6 of 68 speakers" in caplog.text
    assert tuple(manifest.columns) == base.COLUMNS
    assert len(manifest) == 42  # the neutral clip is left out
    assert manifest["path"].tolist() == sorted(manifest["path"])
    assert manifest.index.tolist() == list(range(42))
    assert all(Path(path).is_absolute() for path in manifest["path"])
    assert set(manifest["corpus"]) == {"demos"}
    assert manifest["label"].value_counts().to_dict() == dict.fromkeys(EMOTIONS, 6)
    splits = manifest.groupby("split")["speaker"].unique().map(sorted).to_dict()
    assert splits == {"train": ["01", "02"], "validation": ["18", "40"], "test": ["42", "49"]}
    row = manifest[manifest["path"].str.endswith("PR_m_42_dis01a.wav")].squeeze()
    assert (row.speaker, row.gender, row.label) == ("42", "male", "disgust")
    assert row.seconds == pytest.approx(0.3)
    assert manifest.attrs["skipped"] == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("holiday.wav", "does not follow"),
        ("XX_f_01_tri00a.wav", "does not follow"),
        ("PR_f_01_tri00d.wav", "does not follow"),
        ("PR_f_1_tri00a.wav", "does not follow"),
        ("PR_f_01_xyz00a.wav", "unknown emotion 'xyz'"),
        ("PR_m_35_tri00a.wav", "no speaker '35'"),
        ("PR_m_01_tri00a.wav", "speaker '01' is female, not male"),
    ],
)
def test_demos_refuses_other_names(name, reason):
    with pytest.raises(CorpusError, match=f"{name}: .*{reason}"):
        demos.parse(Path("DEMOS", name))


def test_the_embedded_corpus_is_never_called_demos(demos_root, caplog):
    manifest = read("embedded", demos_root)
    assert set(manifest["corpus"]) == {"embedded"}
    assert not caplog.records  # nothing is claimed of its counts
    pd.testing.assert_frame_equal(
        manifest.drop(columns="corpus"), read("demos", demos_root).drop(columns="corpus")
    )


def test_the_embedded_corpus_is_whole():
    manifest = corpora.read_manifest("embedded")
    assert manifest["speaker"].nunique() >= 20
    assert set(manifest["gender"]) == {"female", "male"}
    for split in base.SPLITS:
        assert set(manifest.loc[manifest["split"] == split, "label"]) == set(EMOTIONS)


# RAVDESS


def test_ravdess_reads_the_originals(ravdess_root):
    manifest = read("ravdess", ravdess_root)
    assert len(manifest) == 8
    assert manifest.groupby("speaker")["gender"].first().to_dict() == {
        "01": "male", "02": "female", "03": "male", "04": "female",
    }  # fmt: skip
    assert manifest["label"].tolist() == ["happy", "sad"] * 4
    assert set(manifest["split"]) == {""}
    assert manifest["seconds"].tolist() == pytest.approx([0.3] * 8)


@pytest.mark.parametrize(
    ("code", "label"),
    [("01", "neutral"), ("03", "happy"), ("04", "sad"), ("05", "angry"), ("06", "fearful"),
     ("07", "disgust"), ("08", "surprised")],
)  # fmt: skip
def test_ravdess_codes(code, label):
    clip = ravdess.parse(Path(f"03-01-{code}-01-02-01-24.flac"))
    assert clip == base.Clip(clip.path, "24", "female", label, "")


@pytest.mark.parametrize("name", ["03-01-02-01-01-01-01", "03-02-03-01-01-01-01"])
def test_ravdess_leaves_calm_and_song_out(name):
    assert ravdess.parse(Path(f"{name}.wav")) is None


@pytest.mark.parametrize(
    "name", ["03-01-03-01-01-01", "03-01-09-01-01-01-01", "03-01-03-01-01-01-25", "a-b-c-d-e-f-g"]
)
def test_ravdess_refuses_other_names(name):
    with pytest.raises(CorpusError, match=rf"{name}\.wav: .*does not follow"):
        ravdess.parse(Path(f"{name}.wav"))


def test_ravdess_of_real_speech(real_speech):
    folder = real_speech("ravdess")
    # Processor seconds of all threads: unlike wall time, they don't count what else is running.
    start = time.process_time()
    manifest = read("ravdess", folder)
    assert time.process_time() - start < 20
    assert len(manifest) == 1248
    labels = manifest["label"].value_counts().to_dict()
    assert labels == dict.fromkeys(ravdess.EMOTIONS.values(), 192) | {"neutral": 96}
    assert set(manifest["speaker"].value_counts()) == {52}
    duplicates = manifest[manifest["hash"].duplicated(keep=False)]
    assert [Path(path).stem for path in duplicates["path"]] == [
        "03-01-03-01-02-01-07",
        "03-01-03-01-02-02-07",
    ]


# CSV


def test_csv_paths_are_relative_to_the_csv(csv_file, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    manifest = read("csv", Path("mine/clips.csv"))
    assert manifest["path"].tolist() == [
        str(csv_file.parent / "clips" / f"{i}.wav") for i in range(6)
    ]
    assert manifest["label"].tolist() == ["no", "yes"] * 3
    assert manifest["speaker"].tolist() == [f"speaker {i // 2}" for i in range(6)]
    assert set(manifest["gender"]) == set(manifest["split"]) == {""}
    assert set(manifest["corpus"]) == {"csv"}


def test_a_manifest_is_a_csv_of_its_own(csv_file, tmp_path):
    manifest = read("csv", csv_file)
    manifest["split"] = ["train"] * 2 + ["validation"] * 2 + ["test"] * 2
    manifest["gender"] = ["female", "male"] * 3
    # Absolute paths in another order, further columns, and the byte order mark of spreadsheets.
    manifest[::-1].to_csv(tmp_path / "again.csv", index=False, encoding="utf-8-sig")
    pd.testing.assert_frame_equal(read("csv", tmp_path / "again.csv"), manifest)


def test_csv_cells_are_text(csv_file):
    text = csv_file.read_text().replace("speaker 0", "007").replace("yes", "NA")
    csv_file.write_text(text)
    manifest = read("csv", csv_file)
    assert manifest["speaker"][0] == "007"
    assert manifest["label"][1] == "NA"


@pytest.mark.parametrize("column", ["path", "label", "speaker"])
def test_csv_without_a_column(csv_file, column):
    csv_file.write_text(csv_file.read_text().replace(column, "other", 1))
    with pytest.raises(CorpusError, match=rf"clips\.csv: column\(s\) {column} missing"):
        read("csv", csv_file)


@pytest.mark.parametrize(
    ("evaluations", "column"), [(",no,s", "path"), ("a.wav, ,s", "label"), ("a.wav,no", "speaker")]
)
def test_csv_with_an_empty_cell(csv_file, evaluations, column):
    csv_file.write_text(csv_file.read_text() + evaluations + "\n")
    with pytest.raises(CorpusError, match=rf"clips\.csv: column '{column}' is empty in row 8"):
        read("csv", csv_file, skip_bad=True)


def with_column(file: Path, name: str, values: list[str]) -> None:
    table = pd.read_csv(file)
    table[name] = values
    table.to_csv(file, index=False)


def test_csv_with_an_unknown_split(csv_file):
    with_column(csv_file, "split", ["train"] * 3 + ["dev"] + ["test"] * 2)
    with pytest.raises(CorpusError, match=r"clips\.csv: unknown split 'dev' in row 5; known: tra"):
        read("csv", csv_file)


def test_csv_with_an_unknown_gender(csv_file):
    with_column(csv_file, "gender", ["female"] * 5 + ["x"])
    with pytest.raises(CorpusError, match=r"clips\.csv: unknown gender 'x' in row 7"):
        read("csv", csv_file)


def test_csv_with_a_split_in_some_rows_only(csv_file):
    with_column(csv_file, "split", ["train", "", "train", "train", "test", "test"])
    with pytest.raises(CorpusError, match=r"clips\.csv: column 'split' is empty in row 3"):
        read("csv", csv_file)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a readable CSV"), (b"path,label,speaker\n", "no rows"),
        (b"\xff\xfe\x00", "not a"),
        (b"path;label;speaker\na.wav;x;y\n", ".* missing.*parted by semicolons, and commas are"),
        (b"path\tlabel\tspeaker\na.wav\tx\ty\n", ".*parted by tabs"),
        (b"\npath,label,speaker\n", "column.* missing"),
        (b"path,label,speaker\na.wav,fr\xf6h,y\n", "line 2 is not UTF-8"),
    ],
)
def test_csv_that_holds_no_table(tmp_path, content, reason):
    file = tmp_path / "broken.csv"
    file.write_bytes(content)
    with pytest.raises(CorpusError, match=rf"broken\.csv: {reason}"):
        read("csv", file)


def test_csv_that_is_missing(tmp_path):
    with pytest.raises(CorpusError, match=r"nowhere\.csv: no such CSV file"):
        read("csv", tmp_path / "nowhere.csv")
    with pytest.raises(CorpusError, match=f"{tmp_path.name}: no such CSV file"):
        read("csv", tmp_path)


def test_csv_with_paths_of_another_system(csv_file):
    csv_file.write_text(csv_file.read_text().replace("clips/", "clips\\"))
    with pytest.raises(CorpusError, match="no such file: a path is written with /"):
        read("csv", csv_file)


def test_csv_names_a_missing_clip(csv_file):
    (csv_file.parent / "clips" / "3.wav").unlink()
    with pytest.raises(CorpusError, match=r"clips/3\.wav: no such file"):
        read("csv", csv_file)
    assert len(read("csv", csv_file, skip_bad=True)) == 5


def test_csv_split_that_shares_speakers_is_warned_of(csv_file, caplog):
    with_column(csv_file, "split", ["train", "test", "train", "train", "test", "test"])
    read("csv", csv_file)
    assert "not speaker-independent: speaker 'speaker 0' is in test and train" in caplog.text


def test_csv_split_never_has_a_content_on_two_sides(csv_file):
    clips = csv_file.parent / "clips"
    (clips / "0.wav").write_bytes((clips / "5.wav").read_bytes())
    with_column(csv_file, "split", ["test", "test", "validation", "validation", "train", "train"])
    with pytest.raises(CorpusError, match=r"0\.wav: in split 'test' with the same audio as .*5\.w"):
        read("csv", csv_file)
    manifest = read("csv", csv_file, skip_bad=True)
    assert [Path(path).name for path in manifest["path"]] == [f"{i}.wav" for i in range(1, 6)]


def test_a_file_that_a_csv_names_in_two_splits_stays_in_the_earlier(csv_file):
    rows = [line.split(",") for line in csv_file.read_text().splitlines()]
    header, first, *_ = rows = [[*row, "train"] for row in rows]
    header[-1] = "split"
    rows.append([*first[:-1], "test"])
    csv_file.write_text("\n".join(map(",".join, rows)) + "\n")
    with pytest.raises(CorpusError, match=r"1 bad .*0\.wav: in split 'test' with the same audio"):
        read("csv", csv_file)
    manifest = read("csv", csv_file, skip_bad=True)
    assert len(manifest) == 6 and set(manifest["split"]) == {"train"}


# Folders, files and clips that cannot be used


@pytest.mark.parametrize("name", ["demos", "ravdess"])
def test_missing_and_empty_folders(tmp_path, name):
    with pytest.raises(CorpusError, match="nowhere: no such folder"):
        read(name, tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("no audio")
    with pytest.raises(CorpusError, match=f"{tmp_path.name}: no .wav or .flac file"):
        read(name, tmp_path)


def test_a_folder_with_only_clips_to_leave_out(tmp_path, clip_writer):
    clip_writer(tmp_path / "f_01_neu00a.wav")
    with pytest.raises(CorpusError, match="no usable clip of corpus 'demos'"):
        read("demos", tmp_path)


def write_no_audio(path: Path) -> None:
    path.write_text("this is no audio")


def write_empty(path: Path) -> None:
    path.write_bytes(b"")


def write_silence(path: Path) -> None:
    silence(path)


def write_constant(path: Path) -> None:
    silence(path, 0.5)


def write_whisper(path: Path) -> None:
    samples = 0.9e-5 * np.random.default_rng(0).standard_normal(8000)
    soundfile.write(path, samples, 16000, subtype="FLOAT")


def write_antiphase(path: Path) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 8000)
    soundfile.write(path, np.stack([samples, -samples], axis=1), 16000, subtype="FLOAT")


def write_short(path: Path) -> None:
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 1599), 16000)


def write_nan(path: Path) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 8000)
    samples[4000] = np.nan
    soundfile.write(path, samples, 16000, subtype="FLOAT")


def write_infinite(path: Path) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 8000)
    samples[4000] = -np.inf
    soundfile.write(path, samples, 16000, subtype="FLOAT")


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (write_no_audio, "unreadable audio"),
        (write_empty, "unreadable audio"),
        (write_silence, "silent: RMS 0.0e"),
        (write_constant, "silent"),
        (write_whisper, "silent: RMS 9"),
        (write_antiphase, "silent"),
        (write_short, r"too short: 0\.0999 s"),
        (write_nan, "NaN or infinite samples"),
        (write_infinite, "NaN or infinite samples"),
    ],
)
def test_a_bad_clip_is_named_or_left_out(demos_root, caplog, write, reason):
    bad = demos_root / "DEMOS" / "PR_m_02_tri99c.wav"
    write(bad)
    with pytest.raises(CorpusError, match=rf"1 bad clip.*{bad}: ({reason})"):
        read("demos", demos_root)
    with caplog.at_level(logging.WARNING):
        manifest = read("demos", demos_root, skip_bad=True)
    assert len(manifest) == 42
    [(path, why)] = manifest.attrs["skipped"]
    assert path == str(bad) and re.match(reason, why)
    assert f"left out {bad}" in caplog.text


def test_a_clip_of_just_the_least_length_is_fine(demos_root, clip_writer):
    clip_writer(demos_root / "DEMOS" / "PR_m_02_tri99c.wav", seed=77, seconds=0.1)
    assert len(read("demos", demos_root)) == 43


def test_many_bad_clips_are_counted_and_five_named(demos_root):
    for i in range(7):
        silence(demos_root / "DEMOS" / f"PR_m_02_tri9{i}c.wav")
    (demos_root / "A_first.wav").write_text("neither name nor audio")
    with pytest.raises(CorpusError) as error:
        read("demos", demos_root)
    message = str(error.value)
    assert "8 bad clip(s)" in message and message.endswith("and 3 more")
    assert message.index("A_first.wav") < message.index("tri90c") < message.index("tri93c")
    assert "tri94c" not in message
    skipped = read("demos", demos_root, skip_bad=True).attrs["skipped"]
    assert [Path(path).name for path, _ in skipped] == [
        "A_first.wav", *(f"PR_m_02_tri9{i}c.wav" for i in range(7)),
    ]  # fmt: skip


def test_only_bad_clips(tmp_path):
    silence(tmp_path / "PR_m_02_tri00a.wav")
    with pytest.raises(CorpusError, match="no usable clip of corpus 'demos'"):
        read("demos", tmp_path, skip_bad=True)


def test_a_file_name_that_occurs_twice(demos_root, clip_writer):
    clip_writer(demos_root / "copy" / "NP_f_01_rab00a.flac", seed=55)
    with pytest.raises(CorpusError, match=r"copy/NP_f_01_rab00a\.flac: a second file of this nam"):
        read("demos", demos_root)
    assert len(read("demos", demos_root, skip_bad=True)) == 42


def test_a_label_with_one_speaker_only(ravdess_root, clip_writer):
    clip_writer(ravdess_root / "03-01-05-01-01-01-02.wav", seed=5)
    clip_writer(ravdess_root / "03-01-05-01-02-01-02.wav", seed=6)
    with pytest.raises(CorpusError, match="label 'angry' has one speaker only, '02'"):
        read("ravdess", ravdess_root, skip_bad=True)


def test_a_label_with_one_speaker_left_after_skipping(ravdess_root):
    for actor in ("01", "02", "03"):
        silence(ravdess_root / f"Actor_{actor}" / f"03-01-04-01-01-01-{actor}.wav")
    with pytest.raises(CorpusError, match="label 'sad' has one speaker only, '04'"):
        read("ravdess", ravdess_root, skip_bad=True)


# Formats and content


def test_links_hidden_files_and_suffixes(tmp_path, demos_root, clip_writer):
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "corpus").symlink_to(demos_root)
    (demos_root / "DEMOS" / "._PR_m_02_tri00a.wav").write_text("of a file manager")
    clip_writer(demos_root / "DEMOS" / "PR_m_02_tri99c.WAV", seed=99)
    assert len(read("demos", linked)) == 43


def test_wav_flac_rates_and_channels_in_one_folder(tmp_path, clip_writer):
    formats = [("wav", 8000, 1), ("flac", 16000, 2), ("wav", 44100, 2), ("flac", 48000, 1)]
    for i, (suffix, rate, channels) in enumerate(formats):
        name = f"03-01-03-01-01-01-{i + 1:02d}.{suffix}"
        clip_writer(tmp_path / name, seed=i, seconds=0.5, sampling_rate=rate, channels=channels)
    manifest = read("ravdess", tmp_path)
    assert len(manifest) == 4
    assert manifest["seconds"].tolist() == pytest.approx([0.5] * 4)
    assert manifest["hash"].is_unique


def test_the_hash_is_of_the_content(tmp_path):
    pcm = np.random.default_rng(0).integers(-(2**15), 2**15, 4000, dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", pcm, 16000)
    soundfile.write(tmp_path / "b.flac", pcm, 16000)
    soundfile.write(tmp_path / "c.wav", np.stack([pcm, pcm], axis=1), 16000)
    soundfile.write(tmp_path / "d.wav", pcm / 32768, 16000, subtype="FLOAT")
    pcm[2000] ^= 1
    soundfile.write(tmp_path / "e.wav", pcm, 16000)
    a, b, c, d, e = (base.content_hash(base.decode(path)[0]) for path in sorted(tmp_path.iterdir()))
    assert a == b == c == d != e
    # The definition, by hand: the samples 0, -1 and 32767 as 16-bit little-endian.
    waveform = np.array([0, -1 / 32768, 1], dtype=np.float32)
    digest = hashlib.sha256(b"\x00\x00\xff\xff\xff\x7f").hexdigest()
    assert base.content_hash(waveform) == digest[:24]


def test_the_hash_of_duplicates_is_equal_in_a_manifest(ravdess_root):
    first = ravdess_root / "Actor_02" / "03-01-03-01-01-01-02.wav"
    (first.parent / "03-01-03-01-01-02-02.wav").write_bytes(first.read_bytes())
    manifest = read("ravdess", ravdess_root)
    assert manifest["hash"].nunique() == len(manifest) - 1
    assert manifest["hash"].str.fullmatch("[0-9a-f]{24}").all()
