"""The smoke profile from nothing to results: every stage, skipped when up to date, and chance without the right brain."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from neurovl import figures
from neurovl.errors import ConfigError, MissingError
from neurovl.figures import page_tables
from neurovl.language.dialogues import CHECKS
from neurovl.pipeline import reproduce
from neurovl.results import condition, peer_results, read_claims, read_results
from neurovl.run import open_run
from neurovl.settings.profile_files import load_profile, profile_from_dict, profile_names

STAGES = [
    "tokens",
    "targets",
    "encoders/main",
    "encoders/p4",
    "encoders/flat",
    "llm",
    "captions",
    "importance",
    "reconstructions",
    "localization",
    "results",
]


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory) -> Path:
    """A run of the smoke profile on simulated brains."""
    return reproduce(None, tmp_path_factory.mktemp("work") / "smoke", "smoke", device="cpu").root


@pytest.fixture(scope="session")
def results(smoke_run):
    return read_results(smoke_run / "results" / "results.csv")


def row(results, **wanted):
    chosen = results
    for column, value in wanted.items():
        chosen = chosen[chosen[column] == value]
    assert len(chosen) == 1, wanted
    return chosen.iloc[0]


def test_every_stage_has_its_provenance(smoke_run):
    for name in STAGES:
        record = json.loads((smoke_run / name / "provenance.json").read_text())
        assert record["seconds"] >= 0 and record["profile"] == "smoke" and record["seed"] == 0
        assert str(smoke_run.parent) not in json.dumps(record)


def test_a_second_run_does_nothing_again(smoke_run):
    before = {
        p: p.stat().st_mtime_ns
        for p in smoke_run.rglob("*")
        if p.is_file() and p.name != "run.json"
    }
    reproduce(None, smoke_run, "smoke", device="cpu")
    after = {
        p: p.stat().st_mtime_ns
        for p in smoke_run.rglob("*")
        if p.is_file() and p.name != "run.json"
    }
    assert after == before


@pytest.mark.parametrize("metric", ["two_way_clip", "two_way_vae"])
def test_the_encoder_identifies_pictures_above_chance(results, metric):
    own = row(
        results,
        system="neurovl",
        task="alignment",
        protocol="average",
        subject="all",
        metric=metric,
    )
    assert own.ci_low > own.chance and own.value < 0.999


def test_shuffled_brains_fall_to_chance(results):
    for metric in ("two_way_clip", "two_way_vae"):
        own = row(
            results,
            system="shuffled",
            task="alignment",
            protocol="average",
            subject="all",
            metric=metric,
        )
        assert own.ci_low < 0.5 < own.ci_high or abs(own.value - 0.5) < 0.06
    said = (
        results[
            (results.task == "caption")
            & (results.metric == "meteor")
            & (results.protocol == "average")
        ]
        .set_index(["system", "subject"])
        .value
    )
    subjects = set(results.subject[results.task == "reconstruction"])
    own = said["neurovl"].drop("subj03")  # the new subject, whose brains were not shuffled
    assert set(own.index) == subjects and {"all", "subj01"} < subjects
    assert (own > said["shuffled"]).all()


@pytest.mark.parametrize("metric", ["image_top1", "image_top5", "brain_top1", "brain_top5"])
def test_brains_and_pictures_find_each_other_and_shuffled_ones_do_not(results, metric):
    place = {"task": "retrieval", "protocol": "average", "subject": "all", "metric": metric}
    own, shuffled = (row(results, system=s, **place) for s in ("neurovl", "shuffled"))
    pool = int(own.condition.removeprefix("pool="))
    assert own.chance == int(metric[-1]) / pool and own.ci_low > own.chance
    assert abs(shuffled.value - own.chance) < 3 * (own.chance / own.n) ** 0.5
    rank = place | {"metric": f"{metric[:5]}_median_rank"}
    own, shuffled = (row(results, system=s, **rank) for s in ("neurovl", "shuffled"))
    assert own.ci_high < own.chance == (pool + 1) / 2  # fewer than 300 pictures: all are the pool
    assert abs(shuffled.value - own.chance) < pool / 4


def test_a_peers_retrieval_stands_beside_ours_only_where_all_is_the_same(smoke_run, monkeypatch):
    def top1():
        table = figures.retrieval_beside_peers(open_run(smoke_run)).set_index("metric")
        assert table.loc["image_top5", "note"] == ""  # nobody prints it
        return table.loc["image_top1"]

    peer = peer_results().set_index("metric").loc["image_top1"]
    assert np.isnan(top1().mindeye) and "the data are simulated-nsd" in top1().note
    monkeypatch.setattr(page_tables, "other_data", lambda basis: [])
    assert np.isnan(top1().mindeye) and f"among {top1().pool}, there 300" in top1().note
    same = peer_results().assign(pool=top1().pool, images=top1().n)
    monkeypatch.setattr(page_tables, "peer_results", lambda: same)
    assert top1().mindeye == peer.value and "not comparable" not in top1().note


def test_captions_are_above_what_is_said_without_a_brain(results):
    own = row(
        results,
        system="neurovl",
        task="caption",
        protocol="average",
        subject="all",
        metric="meteor",
    )
    assert own.value > own.chance


def test_every_dialogue_type_was_asked_and_answered(smoke_run):
    answers = pd.read_csv(smoke_run / "captions" / "answers.csv", keep_default_na=False)
    assert set(answers.type) == {
        "brief",
        "detailed",
        "conversation",
        "reasoning",
        "reconstruction",
        "localization",
        *CHECKS,
    }
    assert (answers[answers.system == "neurovl"].answer.str.len() > 0).mean() > 0.95
    assert answers[answers.type == "brief"].answer.nunique() > 5


def test_every_number_has_its_interval_or_its_reason(results):
    valued = results.value.notna()
    assert (results.note[~valued] != "").all()
    assert results[valued & (results.metric != "spice")][["ci_low", "ci_high"]].notna().all().all()
    assert set(results.data) == {"simulated-nsd", "simulated-nsd-imagery"}
    assert set(results.data[results.task != "imagery"]) == {"simulated-nsd"}


def test_claims_are_judged_by_their_intervals(smoke_run):
    claims = read_claims(smoke_run / "results" / "claims.csv")
    assert claims.claim.nunique() >= 10
    judged = claims[claims.value.notna()]
    assert ((judged.ci_low > 0) == (judged.verdict == "holds")).all()
    assert (claims.verdict[claims.value.isna()] == "undecided").all()


def test_heatmaps_are_nifti_in_the_subject_s_space(smoke_run):
    run = open_run(smoke_run)
    maps = sorted((smoke_run / "localization").glob("subj02_*.nii.gz"))
    assert maps
    image = nibabel.load(maps[0])
    assert image.shape == run.recordings.mask(2).shape
    np.testing.assert_allclose(image.affine, run.recordings.affine(2), atol=1e-4)


def test_reconstructions_exist_for_every_beta(smoke_run):
    samples = pd.read_csv(smoke_run / "reconstructions" / "samples.csv", keep_default_na=False)
    erased = samples[samples.condition.str.startswith("zeroed=")]
    assert set(erased.condition) == {"zeroed=located", "zeroed=moved", "zeroed=other"}
    assert set(erased.system) == {"neurovl"} and set(erased.beta) == {0.93}
    ablation = samples[samples.condition.str.startswith("beta=")]
    assert len(erased) + len(ablation) == (samples.condition != "").sum()
    assert set(ablation.beta) == {0.6, 0.9, 1.0} and set(ablation.protocol) == {"average"}
    assert [condition(beta=b) for b in ablation.beta] == ablation.condition.tolist()
    assert all((smoke_run / "reconstructions" / f).exists() for f in samples.file)
    assert (samples.prompt[samples.system == "no-llm"] == "").all()
    assert (samples.prompt[samples.system == "neurovl"] != "").mean() > 0.9


def test_haxby_takes_the_same_path(shared_data, tmp_path):
    """Two epochs only: the path, the folds and the table; the accuracy itself needs the whole training."""
    import yaml

    from neurovl.settings.profile_files import PROFILES

    short = yaml.safe_load((PROFILES / "haxby.yaml").read_text())
    short["alignment"]["epochs"] = 2
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(short))
    run = reproduce(
        shared_data / "haxby", tmp_path / "haxby", str(tmp_path / "short.yaml"), device="cpu"
    ).root
    found = read_results(run / "results" / "results.csv").set_index(["system", "subject"])
    assert (
        found.loc[("ridge", "subj01"), "value"] > 0.65 and found.loc[("ridge", "subj01"), "n"] == 96
    )
    assert found.loc[("shuffled", "subj01"), "ci_low"] <= 0.125
    assert (found.chance == 0.125).all()


def test_profiles_are_read_back_as_written():
    for name in profile_names():
        profile = load_profile(name)
        assert profile_from_dict(profile.to_dict()) == profile


def test_misspelt_settings_are_refused(tmp_path):
    (tmp_path / "mine.yaml").write_text("alignment: {epoch: 3}\n")
    with pytest.raises(ConfigError, match="unknown key 'epoch'.*epochs"):
        load_profile(str(tmp_path / "mine.yaml"))
    with pytest.raises(ConfigError, match="demo, haxby, paper, paper-24gb, rehearsal, smoke"):
        load_profile("demos")


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(MissingError, match="is not a run folder"):
        open_run(tmp_path)


def test_ways_of_teaching_words_are_compared_on_tune_pictures(smoke_run, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import words

    words.main(["--run", str(smoke_run), "--small", "--out", str(tmp_path)])
    table = pd.read_csv(tmp_path / "words.csv")
    assert list(table.what.unique()) == list(words.WAYS)
    assert (table.groupby("what").protocol.nunique() == 2).all()
    assert table[list(words.SHOWN.values())].notna().all(axis=None)
    lesson = words.Lesson(open_run(smoke_run))
    assert not set(lesson.held) & set(lesson.pictures)
    trials = open_run(smoke_run).store.trials.set_index("image_id").split
    assert (trials[lesson.held] == "train").all()
