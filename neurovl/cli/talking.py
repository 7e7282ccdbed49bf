"""Talk about what a subject saw, in a terminal or from a pipe: questions, and commands that begin with a slash."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neurovl.cli.options import RunDir, Seed, Single, app, output, say
from neurovl.errors import ConfigError, NeurovlError

if TYPE_CHECKING:
    from neurovl.language import Speaking
    from neurovl.run import Run

HELP = """\
/image [ID]          talk about another test picture; without an ID: which there are
/subject [NAME]      talk about another subject who saw the picture, or the first of theirs
/locate REQUEST      the regions in which a word lies, or what "the animal on the left" means
/paint [FILE.png]    paint what the brain says; by default SUBJECT_IMAGE.png
/history             what was said so far
/save FILE.json      write the transcript
/quit                end; so does Ctrl-D"""
SHOWN = 12  # picture ids, regions


class Talk:
    """A conversation about one brain at a time: a line goes in, pieces of text come out.

    Parameters
    ----------
    run : Run
    speaking : Speaking
    single : bool
        Read the first repeat alone.
    """

    def __init__(self, run: "Run", speaking: "Speaking", single: bool) -> None:
        self.run, self.speaking, self.single = run, speaking, single
        self.commands = {
            "help": lambda _: iter([HELP]),
            "image": self._image,
            "subject": self._subject,
            "locate": self._locate,
            "paint": self._paint,
            "history": self._history,
            "save": self._save,
        }

    def about(self, subject: str | None, image_id: str | None) -> str:
        """Begin anew with a subject and a picture, by default the first; a line that names them."""
        self.subject = self.run.store.subject_name(subject or self.run.store.tested[0])
        self.image_id = image_id or self.run.test_images(self.subject)[0]
        z = self.run.encode(self.subject, self.image_id, repeat=0 if self.single else None)
        self.z, self.chat = z, self.run.chat(z, self.speaking)
        trials = "a single trial" if self.single else "the mean of the repeats"
        return f"{self.subject} saw picture {self.image_id}; read from {trials}"

    def answer(self, line: str) -> Iterator[str]:
        """The answer to a question, as it is found, or what a command says.

        Raises
        ------
        NeurovlError
            No such command, or what it names is not there.
        """
        if not line.startswith("/"):
            yield from self.chat.stream(line)
            yield from (f"  [{verdict}]" for verdict in self.chat.verdicts[-1:])
            return
        name, _, rest = line[1:].partition(" ")
        if name not in self.commands:
            raise ConfigError(
                f"there is no command /{name}, expected one of {', '.join(f'/{c}' for c in self.commands)}: type /help"
            )
        yield from self.commands[name](rest.strip())

    def _image(self, image_id: str) -> Iterator[str]:
        if image_id:
            yield self.about(self.subject, image_id)
            return
        ids = self.run.test_images(self.subject)
        more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
        yield f"{len(ids)} test pictures: {', '.join(ids[:SHOWN])}{more}"

    def _subject(self, name: str) -> Iterator[str]:
        if not name:
            yield f"subjects: {', '.join(self.run.store.tested)}"
            return
        seen = self.image_id in self.run.test_images(name)
        yield self.about(name, self.image_id if seen else None)

    def _locate(self, request: str) -> Iterator[str]:
        if not request:
            raise ConfigError("/locate has no word, expected one: write it as /locate dog")
        word = self.run.word_for(request, self.z)
        if word != request:
            yield f"understood as: {word}\n"
        heat = self.run.locate(word, self.subject, self.image_id)
        table = heat.roi_table(self.run.recordings.rois(self.subject)).head(SHOWN // 2)
        yield table.round(3).to_string(index=False)

    def _paint(self, file: str) -> Iterator[str]:
        path = Path(file or f"{self.subject}_{self.image_id}.png")
        with output(path, (".png", ".jpg", ".jpeg")) as part:
            prompt = self.run.prompt(self.z)
            self.run.reconstructor()(self.z, prompt=prompt, seed=self.run.profile.seed).save(part)
        yield f"wrote {path} (prompt: {prompt})"

    def _history(self, _: str) -> Iterator[str]:
        yield "\n".join(f"you   {q}\nbrain {a}" for q, a in self.chat.turns) or "nothing yet"

    def _save(self, file: str) -> Iterator[str]:
        with output(Path(file), (".json",)) as part:
            self.chat.save(part, self.provenance())
        yield f"wrote {file}"

    def provenance(self) -> dict[str, object]:
        """What the conversation is about, and of which data, models and code it comes."""
        from neurovl import __version__
        from neurovl.stages import provenance_key

        run = self.run
        return {
            "data": run.recordings.name,
            "subject": self.subject,
            "image_id": self.image_id,
            "trial": "first repeat" if self.single else "mean of repeats",
            "profile": run.profile.name,
            "encoder": provenance_key(run.folder / "encoders" / "main"),
            "language_model": provenance_key(run.folder / "llm"),
            "neurovl": __version__,
        }


def hold(talk: Talk, lines: Iterable[str], terminal: bool) -> None:
    """Answer lines until they end or one is /quit; in a terminal a fault is told and the talk goes on."""
    for line in map(str.strip, lines):
        if line == "/quit":
            return
        if not line:
            continue
        try:
            for piece in talk.answer(line):
                typer.echo(piece, nl=False)
            say("")
        except NeurovlError as error:
            if not terminal:
                raise
            say(f"neurovl: {error}")


def _typed() -> Iterator[str]:
    """Lines from a terminal, with the editing and history of the shell where this Python has it."""
    import contextlib

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401
    with contextlib.suppress(EOFError):
        while True:
            yield input("you   ")
    say("")


@app.command()
def chat(
    run: RunDir,
    subject: Annotated[
        str | None, typer.Option(help="Subject, e.g. 1; by default the first.")
    ] = None,
    image_id: Annotated[
        str | None,
        typer.Option("--image-id", help="Image id; by default the subject's first test picture."),
    ] = None,
    single_trial: Single = False,
    temperature: Annotated[
        float, typer.Option(help="0: always the likeliest word; above: words are drawn.")
    ] = 0.0,
    max_new_tokens: Annotated[int, typer.Option(help="Where an answer is cut off.")] = 80,
    system: Annotated[
        str, typer.Option(help="Said to the language model before the first question.")
    ] = "",
    seed: Seed = None,
) -> None:
    """Talk about what the subject saw: questions, and /help; lines from a pipe are answered one by one."""
    from neurovl.language import Speaking
    from neurovl.run import open_run

    opened, terminal = open_run(run), sys.stdin.isatty()
    chosen = opened.profile.seed if seed is None else seed
    talk = Talk(opened, Speaking(max_new_tokens, temperature, (), system, chosen), single_trial)
    about = talk.about(subject, image_id)
    if terminal:
        say(f"{about}\nAsk a question, or type /help.")
    hold(talk, _typed() if terminal else sys.stdin, terminal)
