"""All systems that a run has, scored together and set beside ours: RUN/leaderboard/board."""

import json
import logging
from dataclasses import asdict

import numpy as np
import pandas as pd

from neurovl.baselines.registry import find, names
from neurovl.evaluation.retrieving import Retrieval
from neurovl.evaluation.score_table import Table
from neurovl.evaluation.text_scores import true_captions
from neurovl.leaderboard.caption_board import score_gallery_captions
from neurovl.leaderboard.fitting import MAIN, fit_system, system_place
from neurovl.leaderboard.gallery_tables import Gallery, read_gallery, together
from neurovl.leaderboard.generating import sample_place, sample_system
from neurovl.leaderboard.ours import CARDS, ENCODERS, fit_ours, ours_in
from neurovl.leaderboard.outside import outside_galleries
from neurovl.leaderboard.picture_board import score_gallery_pictures
from neurovl.leaderboard.ranks import standings, write_leaderboard
from neurovl.leaderboard.shared_inputs import PLACE, features_of
from neurovl.leaderboard.statements import read_facts, read_statement
from neurovl.results import PROTOCOLS, write_texts
from neurovl.run import Run
from neurovl.stages import PROVENANCE, NotUpToDate, look_only, provenance_key

logger = logging.getLogger(__name__)

BOARD = f"{PLACE}/board"


def rank_systems(run: Run) -> None:
    """RUN/leaderboard/board: leaderboard.csv, per_image.csv, systems.csv and samples.csv of every system that is up to date."""
    p, made = run.profile, systems_made(run)
    outside = outside_galleries(run)
    keys = {sample_place(one): provenance_key(run.folder / sample_place(one)) for one in made}
    keys |= {system_place(one): provenance_key(run.folder / system_place(one)) for one in made}
    keys |= {one.folder.name: one.key for one in outside}
    settings = {"evaluation": p.evaluation}
    with run.stage(BOARD, rank_systems, settings, keys, ("metric", "clip")) as s:
        if s.done:
            return
        own = [read_gallery(run.folder / sample_place(one)) for one in made]
        galleries = [*own, *(one.gallery for one in outside)]
        whole = together(galleries)
        data = run.recordings
        table = Table(data.name, data.split_name, p.seed, p.evaluation.bootstrap)
        _score_embeddings(run, table, made)
        score_gallery_pictures(table, run, whole)
        corpora = {}
        if run.has_captions:
            true = true_captions(run, whole.captions.image_id.unique())
            corpora = score_gallery_captions(table, data, whole.captions, p, true)
        table.add_all_subjects()
        images = table.frame()
        images.to_csv(s.dir / "per_image.csv", index=False)
        found = standings(table.rows, images, corpora, p.seed, p.evaluation.bootstrap)
        write_leaderboard(found, s.dir / "leaderboard.csv")
        systems_table(run, made).to_csv(s.dir / "systems.csv", index=False)
        _list_samples(run, galleries).pipe(write_texts, s.dir / "samples.csv")


def systems_made(run: Run) -> list[str]:
    """The systems whose pictures and captions are there and rest on nothing that changed; ours first."""
    ours, found = ours_in(run), []
    for name in [*ours, *names()]:
        if not (run.folder / sample_place(name) / PROVENANCE).is_file():
            continue
        try:
            with look_only():
                (fit_ours if name in ENCODERS else fit_system)(run, name)
                sample_system(run, name)
        except NotUpToDate:
            logger.warning(
                "%s is left out: its settings or its code changed since it was made; neurovl compare --run %s --systems %s",
                name,
                run.root,
                name,
            )
            continue
        found.append(name)
    return found


def _score_embeddings(run: Run, table: Table, made: list[str]) -> None:
    """Rows of tasks 'alignment' and 'retrieval' for the systems that predict embedding or latent, of every test picture.

    A system with predictions for retrieval of their own, as MindEye's projector gives them, is asked by these.
    """
    finder, permutations = Retrieval(table, run.targets), run.profile.evaluation.permutations
    for proto in PROTOCOLS:
        for subject in run.store.tested:
            for name in made:
                place = run.folder / system_place(name) / MAIN / proto / subject
                if not place.with_suffix(".json").is_file():
                    continue
                one = read_statement(place)
                parts = {"clip": one.said.get("clip_image"), "vae": one.said.get("vae")}
                about = (proto, subject, one.image_ids)
                table.add_embeddings({name: parts}, "alignment", *about, run.targets, permutations)
                if "retrieval" in one.said:
                    tokens = features_of(run).of("image_tokens", one.image_ids)
                    own = {name: {"clip": one.said["retrieval"]}}
                    finder.add(own, *about, true=tokens.reshape(len(tokens), -1))
                elif parts["clip"] is not None:
                    finder.add({name: parts}, *about)
    finder.finish()


def systems_table(run: Run, made: list[str]) -> pd.DataFrame:
    """What each system is and what it cost: a row for each system."""
    rows = []
    for name in made:
        facts = asdict(read_facts(run.folder / system_place(name)))
        about = json.loads((run.folder / system_place(name) / PROVENANCE).read_text())
        card = CARDS[name] if name in ENCODERS else find(name).card
        rows.append(
            {
                "system": name,
                "title": card.title,
                "reference": card.reference,
                "lacking": "; ".join(card.lacking),
                "as_published": card.as_published,
                **facts,
                "settings": json.dumps(facts["settings"]),
                "peak_memory_gb": round((about["peak_memory_mb"] or np.nan) / 1024, 2),
            }
        )
    return pd.DataFrame(rows)


def _list_samples(run: Run, galleries: list[Gallery]) -> pd.DataFrame:
    """All pictures, their files from RUN/leaderboard/board."""
    parts = []
    for one in galleries:
        place = one.folder.relative_to(run.folder / PLACE)
        parts.append(one.samples.assign(file=[f"../{place}/{file}" for file in one.samples.file]))
    return pd.concat(parts, ignore_index=True)
