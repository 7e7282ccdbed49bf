"""`neurovl chat` from a pipe: questions, commands, faults, and the transcript."""

import json
import shutil

import pytest
from PIL import Image
from typer.testing import CliRunner

from neurovl import pipeline
from neurovl.cli import app
from neurovl.cli.talking import Talk, hold
from neurovl.encoder.signal import Signal
from neurovl.errors import ConfigError, DataError
from neurovl.language import Speaking
from neurovl.language.confidence import CANNOT_TELL, Confidence, Scale
from neurovl.language.dialogues import PROMPTS
from neurovl.run import Run
from neurovl.run.run import CONFIDENCE, SIGNAL
from neurovl.settings.profile_files import load_profile

PROFILE = """
compute: {device: cpu}
preprocessing: {patches: [5]}
encoder: {width: 32, layers: 1, heads: 2, head_hidden: 32}
alignment: {epochs: 1, precision: "no", variants: [main]}
language: {steps: [2, 2], batch_size: [4, 4], max_new_tokens: 4, precision: "no"}
reconstruction: {steps: 1}
"""


@pytest.fixture(scope="module")
def run(tiny_nsd, tmp_path_factory) -> Run:
    profile = tmp_path_factory.mktemp("profile") / "talks.yaml"
    profile.write_text(PROFILE)
    run = pipeline.start(tiny_nsd, tmp_path_factory.mktemp("run"), load_profile(str(profile)))
    pipeline.write_tokens(run)
    pipeline.embed_targets(run)
    pipeline.train_encoder(run, "main")
    pipeline.train_language(run, "main")
    return run


def piped(run, *arguments, lines=()):
    command = ["chat", "--run", str(run.root), *arguments]
    return CliRunner().invoke(app, command, input="\n".join(lines))


def test_questions_from_a_pipe_are_answered_line_by_line(run):
    image = run.test_images(1)[1]
    questions = ["What is in the picture?", "Is there a dog?"]
    chosen = ["--subject", "1", "--image-id", image, "--max-new-tokens", "5"]
    done = piped(run, *chosen, lines=[*questions, "", "/quit", "Not asked?"])
    chat = run.llm().chat(run.encode(1, image), Speaking(5))
    assert done.exit_code == 0
    assert done.output == "".join(f"{chat.ask(q)}\n" for q in questions)


def test_what_is_said_depends_on_the_brain_and_the_settings(run):
    """Without options the first subject's first picture; another picture or temperature is another talk."""
    first = run.test_images(1)[0]
    asked = ["What is in the picture?"]
    own = piped(run, lines=asked).output
    assert own == piped(run, "--subject", "1", "--image-id", first, lines=asked).output
    drawn = [piped(run, "--temperature", "5", "--seed", str(k), lines=asked).output for k in (1, 2)]
    assert len({own, *drawn}) == 3


def test_commands(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = run.test_images(1)[:2]
    word = run.categories(second)[0]
    lines = ["/help", "/image", f"/image {second}", "What?", "/history", f"/locate {word}"]
    lines += ["/paint", "/save talk.json", "/subject 2", "/history", "/subject"]
    done = piped(run, lines=lines)
    assert done.exit_code == 0, done.output
    for said in ("/locate REQUEST", first, f"subj01 saw picture {second}", "you   What?", "voxels"):
        assert said in done.output, said
    assert "subj02 saw picture" in done.output and "nothing yet" in done.output
    assert Image.open(tmp_path / f"subj01_{second}.png").size == (64, 64)
    found = json.loads((tmp_path / "talk.json").read_text())
    assert [turn["question"] for turn in found["turns"]] == ["What?"]
    about = found["about"]
    assert about["subject"] == "subj01" and about["image_id"] == second
    assert about["encoder"] and about["language_model"] and about["data"] == run.recordings.name
    assert str(run.root) not in json.dumps(found)


def test_a_fault_ends_a_pipe_and_not_a_terminal(run, capsys):
    talk = Talk(run, Speaking(3), single=True)
    assert "a single trial" in talk.about(None, None)
    with pytest.raises(ConfigError, match="no command /sing, expected one of /help"):
        hold(talk, ["/sing"], terminal=False)
    with pytest.raises(DataError):
        hold(talk, ["/image nothing"], terminal=False)
    hold(talk, ["/sing", "/locate", "/save talk.txt", "What?"], terminal=True)
    said = capsys.readouterr().out.splitlines()
    assert [line.startswith("neurovl: ") for line in said] == [True, True, True, False]
    assert len(talk.chat.turns) == 1


def test_a_request_is_understood_and_its_word_located(run, monkeypatch):
    """The language model's word drives the map; a category of the test pictures stands for itself and is not asked about."""
    first = run.test_images(1)[0]
    word, asked = run.categories(first)[0], []

    class Answers:
        def ask(self, question):
            asked.append(question)
            return f"{word}."

    talk = Talk(run, Speaking(3), single=False)
    talk.about("1", first)
    monkeypatch.setattr(type(run.llm()), "chat", lambda self, z: Answers())
    said = "".join(talk.answer("/locate the thing on the left"))
    assert f"understood as: {word}" in said
    assert said.endswith("".join(talk.answer(f"/locate {word}")))
    assert asked == [PROMPTS["localization"][0].format("the thing on the left")]


def test_every_answer_says_how_sure_it_is(run, tmp_path):
    """A calibrated run: sure answers have their confidence, others are not to be told; the transcript holds both."""
    folder, asked = run.folder / "calibration", ["What is in the picture?", "What?"]
    folder.mkdir()
    trials = run.store.trials
    seen = trials.image_id[trials.split == "train"].unique().tolist()
    Signal.fit(run.targets, seen, run.profile.alignment).save(folder / SIGNAL)
    try:
        for threshold in (0.0, 1.1):
            scale = Scale((0.0,) * 4, 0.0, threshold)
            Confidence(scale, scale).save(folder / CONFIDENCE)
            done = piped(run, lines=[*asked, f"/save {tmp_path / 'talk.json'}"])
            assert done.exit_code == 0, done.output
            assert done.output.count("50% sure") == 2
            assert done.output.count(CANNOT_TELL) == (2 if threshold else 0)
            turns = json.loads((tmp_path / "talk.json").read_text())["turns"]
            assert [turn["confidence"] for turn in turns] == [0.5, 0.5]
            assert [turn["speaks"] for turn in turns] == [not threshold] * 2
    finally:
        shutil.rmtree(folder)
