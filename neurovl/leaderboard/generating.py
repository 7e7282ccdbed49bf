"""Pictures and captions of a system by the generators that all share: RUN/leaderboard/samples/NAME."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from neurovl.errors import ConfigError
from neurovl.files import Journal
from neurovl.language.dialogues import PROMPTS
from neurovl.leaderboard.fitting import AS_PUBLISHED, MAIN, system_place
from neurovl.leaderboard.gallery_tables import PLACE as COLUMNS
from neurovl.leaderboard.shared_inputs import CAPTIONER, PLACE, rows_for, speaker_of
from neurovl.leaderboard.statements import Statement, read_statement
from neurovl.results import PROTOCOLS, write_texts
from neurovl.run import Run

if TYPE_CHECKING:
    from PIL.Image import Image

    from neurovl.foundation.clip import Clip

AT_A_TIME = 64  # pictures between two lines of the journal
CAPTION_COLUMNS, SAMPLE_COLUMNS = [*COLUMNS, "caption"], [*COLUMNS, "file"]


def sample_place(name: str) -> str:
    """The stage of a system's pictures and captions."""
    return f"{PLACE}/samples/{name}"


def sample_system(run: Run, name: str) -> None:
    """RUN/leaderboard/samples/NAME: samples.csv with the pictures beside it, and captions.csv.

    The same generator, steps, guidance and seeds for all systems; one sample a picture, but for a row as published, whose system
    may draw several and keep one. What a system does not say is dropped from the generator's conditions. As published only
    averages are painted.
    """
    p, place = run.profile, system_place(name)
    settings = {
        "reconstruction": p.reconstruction,
        "images": p.leaderboard.images,
        "image_size": p.models.image_size,
        "max_new_tokens": p.language.max_new_tokens,
    }
    inputs = (place, CAPTIONER) if run.has_captions else (place,)
    with run.stage(sample_place(name), sample_system, settings, inputs, ("unclip", "clip")) as s:
        if s.done:
            return
        journal = Journal(s.dir / "made.jsonl")
        made = {(one["kind"], one["file"]): one for one in journal.records}
        captions, samples = [], []
        for varied, protocol, subject in _answers(run, place):
            statement = read_statement(run.folder / place / (varied or MAIN) / protocol / subject)
            statement = statement.take(rows_for(run, statement.image_ids, subject))
            about = {"system": name, "condition": varied, "protocol": protocol, "subject": subject}
            folder = f"{protocol}-{varied.replace(' ', '-')}".rstrip("-") + f"/{subject}"
            said = made.get(("captions", folder), {}).get("captions")
            if said is None:
                said = _captions(run, statement)
                journal.add([{"kind": "captions", "file": folder, "captions": said}])
            for image, caption in zip(statement.image_ids, said, strict=False):
                captions.append(about | {"image_id": image, "caption": caption})
            if statement.conditions is None:
                continue
            if statement.conditions.says_caption:
                statement.conditions.prompts = said or None  # no words without captions
            (s.dir / folder).mkdir(parents=True, exist_ok=True)
            for start in range(0, len(statement.image_ids), AT_A_TIME):
                rows = list(range(start, min(start + AT_A_TIME, len(statement.image_ids))))
                files = [f"{folder}/{statement.image_ids[k]}.png" for k in rows]
                samples += [
                    about | {"image_id": statement.image_ids[k], "file": file}
                    for k, file in zip(rows, files, strict=True)
                ]
                if ("pictures", files[0]) in made:
                    continue
                for file, picture in zip(files, paint(run, statement, rows), strict=True):
                    picture.save(s.dir / file)
                journal.add([{"kind": "pictures", "file": files[0]}])
        write_texts(pd.DataFrame(captions, columns=CAPTION_COLUMNS), s.dir / "captions.csv")
        write_texts(pd.DataFrame(samples, columns=SAMPLE_COLUMNS), s.dir / "samples.csv")
        journal.path.unlink()


def _answers(run: Run, place: str) -> list[tuple[str, str, str]]:
    """Condition, protocol and subject of the statements that are painted."""
    found = []
    for varied in ("", AS_PUBLISHED):
        for protocol in PROTOCOLS if not varied else PROTOCOLS[:1]:
            folder = run.folder / place / (varied or MAIN) / protocol
            found += [(varied, protocol, f.stem) for f in sorted(folder.glob("*.json"))]
    return found


def _captions(run: Run, statement: Statement) -> list[str]:
    """What is said of each picture: by the system itself, or of its patch tokens by the common language model; else nothing."""
    if statement.captions is not None:
        return list(statement.captions)
    if statement.tokens is None or not run.has_captions:
        return []
    asked = [PROMPTS["brief"][0]] * len(statement.image_ids)
    tokens = torch.from_numpy(np.asarray(statement.tokens, np.float32))
    longest = run.profile.language.max_new_tokens
    return speaker_of(run).generate(tokens, asked, max_new_tokens=longest)


def paint(run: Run, statement: Statement, rows: Sequence[int]) -> "list[Image]":
    """The pictures of some rows of a statement, of each the sample that its system keeps; its seed is that of its row."""
    part, draw = statement.take(rows), run.reconstructor()
    given = part.conditions
    drawn = []
    for sample in range(given.samples):
        seeds = [run.profile.seed * 100_003 + k + 1_000_003 * sample for k in rows]
        text = given.prompts if given.prompts is not None else given.text
        drawn.append(
            draw.conditioned(
                seeds,
                image=_tensor(given.image),
                text=text if isinstance(text, list) else _tensor(text),
                start=_tensor(given.start),
                strength=given.strength,
                reading=given.reading,
            )
        )
    if not given.kept_by:
        return drawn[0]
    return [drawn[best][k] for k, best in enumerate(_kept(run, part, drawn))]


def _kept(run: Run, part: Statement, drawn: list) -> np.ndarray:
    """Which sample of each picture is kept: that whose embedding has the largest cosine with the one it is compared with."""
    clip, kept_by = run.once("clip", lambda: _clip(run)), part.conditions.kept_by
    if kept_by == "true picture":
        wanted = clip.embed_images([run.recordings.image(image) for image in part.image_ids])
    elif kept_by in part.said:
        wanted = _tensor(part.said[kept_by])
    else:
        raise ConfigError(
            f"a system keeps the sample that is closest to {kept_by!r}, expected 'true picture' or one of its predictions, "
            f"{', '.join(part.said)}: correct Conditions.kept_by"
        )
    likeness = [torch.cosine_similarity(clip.embed_images(one), wanted) for one in drawn]
    return torch.stack(likeness).argmax(0).numpy()


def _clip(run: Run) -> "Clip":
    from neurovl.foundation.clip import load_clip

    return load_clip(run.profile.models.clip, run.profile.compute.device)


def _tensor(values: np.ndarray | None) -> torch.Tensor | None:
    return None if values is None else torch.from_numpy(np.asarray(values, np.float32))
