"""The comparison as a whole, on a small run: what systems are asked, what is painted, searched and controlled."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image, ImageFilter

import neurovl
from neurovl import leaderboard
from neurovl.baselines import registry
from neurovl.baselines.own_masks import read_voxels, write_voxels
from neurovl.baselines.picture_features import palette, read_features
from neurovl.doctor.system_fits import feature_shapes
from neurovl.errors import ConfigError, DataError, MissingError
from neurovl.evaluation.embeddings import derangement
from neurovl.foundation.clip import load_clip
from neurovl.foundation.unclip import load_unclip, text_states
from neurovl.leaderboard.board import BOARD, systems_made
from neurovl.leaderboard.controls import BLURRED, CONTROLS, PERMUTED
from neurovl.leaderboard.fitting import AS_PUBLISHED, MAIN, questions, system_place
from neurovl.leaderboard.found_settings import searched_settings
from neurovl.leaderboard.generating import sample_place
from neurovl.leaderboard.ours import Ours, resized_noise, stored_voxels
from neurovl.leaderboard.ranks import read_leaderboard
from neurovl.leaderboard.retraining import (
    held_out_categories,
    only_region,
    pictures_with,
    read_again,
    retrained_place,
)
from neurovl.leaderboard.searching import (
    SEARCH,
    STRENGTHS,
    candidates,
    painted_score,
    split_by_picture,
)
from neurovl.leaderboard.shared_inputs import FEATURES, VOXELS, voxels_of
from neurovl.leaderboard.statements import Statement, read_facts, read_statement
from neurovl.pipeline import compare, search
from neurovl.reconstruction.reconstructor import Reconstructor
from neurovl.settings.profile_files import profile_names
from neurovl.training.validation import tune_pictures

PROFILE = """
preprocessing: {patches: [5]}
encoder: {width: 32, layers: 1, heads: 2, mlp_ratio: 2.0, head_hidden: 32, readout: 24}
alignment: {epochs: 2, batch_size: 64, lr: 1.0e-3, synthetic: 0.5, precision: "no", variants: [main, plain]}
language: {precision: "no", steps: [2, 2], batch_size: [8, 8], max_new_tokens: 4}
reconstruction: {steps: 2, guidance: 3.0, images: 5, rescale: norm}
evaluation: {bootstrap: 50, permutations: 2, caption_images: 5}
compute: {processes: 1, device: cpu}
leaderboard:
  {images: 5, captioner_steps: [2, 2], captioner_batch_size: 8, budget: 2, noise: [1.0],
   settings: {mindeye: {width: 16, projector: 16, prior_layers: 1, prior_steps: 4, epochs: 1, low_width: 16,
     low_channels: 8, low_epochs: 1, samples: 2}}}
"""
SYSTEMS = ["brain-diffuser", "mindeye", "onellm"]


@pytest.fixture(scope="module")
def run(tiny_nsd, tmp_path_factory):
    """A run with three systems compared, one linear, one with selection, one that speaks and does not paint."""
    profile = tmp_path_factory.mktemp("profile") / "compared.yaml"
    small = "onellm: {frozen_clip: false, tokens: 2, queries: 2, experts: 1, blocks: 1, epochs: 1}"
    profile.write_text(PROFILE.replace("settings: {", f"settings: {{{small}, "))
    run = neurovl.start_run(tmp_path_factory.mktemp("run"), profile=str(profile), data=tiny_nsd)
    assert compare(run, SYSTEMS) == ["neurovl", "plain", *SYSTEMS]
    return run


def test_voxels_are_the_volumes_by_the_training_trials(run):
    """Against the definition: each session's training trials have mean 0 and deviation 1; C order in the mask."""
    data, voxels = run.recordings, read_voxels(run.folder / VOXELS, "subj01", "train")
    trials = data.subject_trials(1).reset_index(drop=True)
    rows = np.flatnonzero(trials.split == "train")
    volumes = data.volumes(1, rows)[:, voxels.mask]
    z = (volumes - volumes.mean(0)) / volumes.std(0)  # one session
    varied = volumes.std(0) > 1e-3
    np.testing.assert_allclose(voxels.read()[:, varied], z[:, varied], atol=2e-2)
    assert voxels.image_ids.tolist() == trials.image_id[rows].tolist()
    assert (voxels.rois["V1"] == data.rois(1)["V1"][voxels.mask]).all()
    np.testing.assert_array_equal(voxels.volumes([3])[0][voxels.mask], voxels.read([3])[0])


def test_an_absurd_trial_is_refused(tmp_path, run, monkeypatch):
    data, true = run.recordings, type(run.recordings).session_voxels

    def spoilt(self, subject, session, inside):
        values = true(self, subject, session, inside).astype(np.float32)
        values[np.flatnonzero(self.subject_trials(subject).split == "test")[0], 0] = 1e9
        return values

    monkeypatch.setattr(type(data), "session_voxels", spoilt)
    with pytest.raises(DataError, match="65504 standard deviations"):
        write_voxels(data, tmp_path)


def test_features_are_the_pictures(run):
    features, ids = read_features(run.folder / FEATURES), run.test_images(1)[:3]
    images = [run.recordings.image(i) for i in ids]
    clip = load_clip("tiny", "cpu")
    true = clip.embed_images(images).numpy()
    np.testing.assert_allclose(features.of("clip_image", ids), true, atol=2e-2)
    tokens = features.of("image_tokens", ids)
    np.testing.assert_allclose(np.linalg.norm(tokens[:, 0], axis=1), 1, atol=1e-3)
    unit = true / np.linalg.norm(true, axis=1, keepdims=True)
    np.testing.assert_allclose(tokens[:, 0], unit, atol=1e-2)
    texts = np.stack([clip.embed_texts(run.recordings.captions(i)).mean(0).numpy() for i in ids])
    np.testing.assert_allclose(features.of("clip_text", ids), texts, atol=2e-2)
    states = text_states(load_unclip("tiny", "cpu"), run.recordings.captions(ids[0]))
    np.testing.assert_allclose(features.of("text_states", ids)[0], states.mean(0), atol=2e-2)
    # What the doctor plans with, without a picture.
    assert feature_shapes(run.profile) == {name: features.shape(name) for name in features.arrays}
    with pytest.raises(MissingError, match="no feature 'depth'"):
        features.of("depth", ids)
    with pytest.raises(MissingError, match="nowhere"):
        features.of("vae", ["nowhere"])


def test_the_palette_is_the_mean_of_each_patch():
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:2, 6:] = (255, 0, 51)
    made = palette(Image.fromarray(pixels))
    assert made.shape == (3, 4, 4)
    np.testing.assert_allclose(made[:, 0, 3], [1, 0, 0.2])
    assert made.sum() == pytest.approx(1.2)


def test_tune_pictures_are_a_tenth_that_no_seed_changes():
    ids = [str(k) for k in range(200)]
    held = tune_pictures(ids)
    assert len(held) == 20 and set(held) < set(ids)
    assert tune_pictures(ids[::-1] * 2) == held


def test_every_system_is_asked_of_the_same_pictures(run):
    every = {
        name: read_statement(run.folder / system_place(name) / MAIN / "average" / "subj01")
        for name in ["neurovl", *SYSTEMS]
    }
    assert {tuple(one.image_ids) for one in every.values()} == {tuple(run.test_images(1))}
    assert every["onellm"].conditions is None and every["onellm"].captions
    assert every["neurovl"].conditions.reading == "mix"
    assert "hidden" not in every["neurovl"].said


def test_ours_says_what_the_run_says(run):
    from neurovl.evaluation.embeddings import held_out

    for protocol in ("average", "single"):
        ids, z = held_out(run, "main", "subj02", protocol)
        one = read_statement(run.folder / system_place("neurovl") / MAIN / protocol / "subj02")
        assert one.image_ids == ids
        np.testing.assert_allclose(one.said["clip_image"], z.clip.numpy(), atol=1e-2)


def test_noise_is_as_large_as_said_and_ours_is_resized(run):
    train, test = voxels_of(run, "train"), voxels_of(run, "test")
    asked = dict(questions(train, test, (2.0,), seed=0))
    added = asked["noise=2/subj01"].read() - asked["average/subj01"].read()
    counts = asked["average/subj01"].n_averaged
    assert added.std() == pytest.approx(2 / np.sqrt(counts.mean()), rel=0.1)
    own = stored_voxels(run, "test")["subj01"]
    noise = resized_noise(run, own, np.random.default_rng(0))
    inside = run.store.measured("subj01")
    assert noise[:, ~inside].std() == 0 and 0.3 < noise[:, inside].std() <= 1.05


def test_pictures_of_the_chosen_test_images_alone(run):
    samples = pd.read_csv(run.folder / sample_place("mindeye") / "samples.csv", dtype=str)
    assert set(samples.condition.fillna("")) == {"", AS_PUBLISHED}
    counts = samples.fillna("").groupby(["condition", "protocol", "subject"]).size()
    assert (counts == 5).all() and len(counts) == 6  # as published: averages alone
    ours = pd.read_csv(run.folder / sample_place("neurovl") / "samples.csv", dtype=str)
    assert set(ours.image_id) == set(samples.image_id)
    captions = pd.read_csv(run.folder / sample_place("onellm") / "captions.csv", dtype=str)
    assert set(captions.image_id) == set(samples.image_id)
    assert not len(pd.read_csv(run.folder / sample_place("onellm") / "samples.csv"))


def test_the_board_ranks_all_and_knows_what_is_up_to_date(run):
    board = read_leaderboard(run.folder / BOARD / "leaderboard.csv")
    rows = board.query("task == 'reconstruction' and metric == 'pixcorr' and subject == 'all'")
    main = rows[(rows.condition == "") & (rows.protocol == "average")].set_index("system")
    assert {"neurovl", "plain", "brain-diffuser", "mindeye"} <= set(main.index)
    assert main.loc["neurovl", "difference"] == 0 and main.loc["neurovl", "verdict"] == "tied"
    assert set(board[board.task == "retrieval"].system) >= {"mindeye", "brain-diffuser"}
    assert "onellm" in set(board[board.task == "caption"].system)
    systems = pd.read_csv(run.folder / BOARD / "systems.csv").set_index("system")
    assert systems.loc["brain-diffuser", "n_parameters"] > 0 and systems.n_models.min() >= 1
    assert systems_made(run) == ["neurovl", "plain", "brain-diffuser", "mindeye", "onellm"]
    before = (run.folder / BOARD / "leaderboard.csv").stat().st_mtime_ns
    compare(run, SYSTEMS)
    assert (run.folder / BOARD / "leaderboard.csv").stat().st_mtime_ns == before


def test_search_reads_no_test_trial_and_is_used(run, monkeypatch):
    def refuse(run, split):
        assert split == "train", "a search asked for test trials"
        return voxels_of(run, split)

    monkeypatch.setattr("neurovl.leaderboard.searching.voxels_of", refuse)
    search(run, ["brain-diffuser"])
    table = pd.read_csv(run.folder / SEARCH / "search.csv")
    tried = table[table.system == "brain-diffuser"]
    assert len(tried) == 2 and tried.chosen.sum() == 1
    assert tried.score[tried.chosen].item() == tried.score.max()
    chosen = json.loads(tried.settings[tried.chosen].item())
    strengths = pd.read_csv(run.folder / SEARCH / "brain-diffuser" / "strengths.csv")
    assert strengths.strength.tolist() == list(STRENGTHS)
    chosen["strength"] = strengths.strength[strengths.score.idxmax()]
    assert chosen == searched_settings(run, "brain-diffuser")
    compare(run, ["brain-diffuser"])
    used = read_facts(run.folder / system_place("brain-diffuser")).settings
    assert {k: used[k] for k in chosen} == chosen


def test_the_true_pictures_have_the_best_score_and_others_a_low_one(run):
    ids = run.test_images(1)[:8]
    true = [run.recordings.image(i) for i in ids]
    # What is lacking to 1 is what SceneNet does not find in the true pictures.
    assert 0.95 < painted_score(run, true, ids) <= 1
    assert painted_score(run, true[1:] + true[:1], ids) < 0.6


def test_tuned_pictures_are_never_trained_on(run):
    train = voxels_of(run, "train")
    held = set(tune_pictures(np.unique(train["subj01"].image_ids)))
    rest, kept = split_by_picture(train, held)
    assert not set(rest["subj01"].image_ids) & held
    assert set(kept["subj01"].image_ids) == held & set(train["subj01"].image_ids)


def test_candidates_begin_with_what_is_and_never_repeat():
    space = {"a": (1, 2, 3), "b": ("x", "y")}
    found = candidates(space, 10, seed=1)
    assert found[0] == {} and len(found) == 7
    assert len({json.dumps(one) for one in found}) == 7
    assert candidates(space, 3, seed=1) == found[:3]


def test_controls_fall_where_they_must(run):
    compare(run, ["brain-diffuser", "onellm"], controls=True)
    # No embedding of a system that says words alone could be scored after another training.
    assert not (run.folder / retrained_place("onellm")).exists()
    # No subject is outside this run.
    assert not (run.folder / "leaderboard" / "new-subject").exists()
    table = pd.read_csv(run.folder / CONTROLS / "controls.csv", dtype={"subject": str})
    own = table.query("system == 'brain-diffuser' and subject == 'all' and task == 'alignment'")
    value = own.set_index("control").value
    board = read_leaderboard(run.folder / BOARD / "leaderboard.csv")
    true = board.query(
        "system == 'brain-diffuser' and metric == 'two_way_clip' and task == 'alignment' and subject == 'all' "
        "and protocol == 'average'"
    ).value.item()
    assert true > 0.7
    assert value["mean brain"] == pytest.approx(0.5, abs=0.02)
    assert abs(value["permuted"] - 0.5) < 0.12
    assert value["noise=1"] < true + 0.02
    assert {"held-out categories", "the same categories seen", "only=early", "only=higher"} <= set(
        value.index
    )
    pictures = table.query("system == 'brain-diffuser' and task == 'reconstruction'")
    assert {"permuted", "mean brain", "nearest training picture", "blurred"} == set(
        pictures.control
    )


def test_controls_are_a_system_s_own_pictures_dealt_out_and_blurred(run):
    compare(run, ["brain-diffuser"], controls=True)
    made = run.folder / CONTROLS / "pictures" / "brain-diffuser"
    samples = pd.read_csv(run.folder / sample_place("brain-diffuser") / "samples.csv", dtype=str)
    own = samples[samples.condition.isna() & (samples.protocol == "average")]
    own = own[own.subject == "subj02"].set_index("image_id").file
    ids, true = own.index.tolist(), {}
    for image, file in own.items():
        true[image] = Image.open(run.folder / sample_place("brain-diffuser") / file)
    order = derangement(len(ids), run.profile.seed)
    for image, other in zip(ids, [ids[k] for k in order], strict=True):
        found = {k: Image.open(made / k / "subj02" / f"{image}.png") for k in (PERMUTED, BLURRED)}
        blurred = true[image].filter(ImageFilter.GaussianBlur(true[image].width / 16))
        np.testing.assert_array_equal(found[PERMUTED], true[other])
        np.testing.assert_array_equal(found[BLURRED], blurred)


def test_held_out_categories_are_in_no_training_trial(run):
    held = held_out_categories(run)
    unseen = pictures_with(run, held)
    assert len(held) == 2 and unseen
    for image in run.recordings.trials.image_id.unique():
        assert (image in unseen) == bool(set(held) & set(run.categories(image)))
    again, note = read_again(run, "brain-diffuser", "held-out categories")
    assert set(again) == {"subj01", "subj02"} and note == ""


def test_only_a_region_is_left(run):
    voxels = voxels_of(run, "test")["subj01"]
    some = only_region(voxels, ("early",))
    kept = voxels.rois["early"]
    assert (some.read()[:, ~kept] == 0).all() and (
        some.read()[:, kept] == voxels.read()[:, kept]
    ).all()


def test_ours_trained_again_on_the_same_trials_is_the_run_s_encoder(run):
    from neurovl.baselines.decoder import FrozenParts

    train, test = stored_voxels(run, "train"), stored_voxels(run, "test")["subj01"].averaged()
    again = Ours(run, "neurovl").fit(train, None, FrozenParts())
    one = Ours(run, "neurovl").take(run.encoder("main"))
    said = [decoder.predict(test) for decoder in (again, one)]
    np.testing.assert_allclose(said[0]["clip_image"], said[1]["clip_image"], atol=1e-3)
    # The run's language model reads the run's encoder alone: of another it would say anything.
    assert again.conditions(said[0]).prompts is None and again.captions(said[0], None) is None
    assert one.conditions(said[1]).prompts is not None


def test_what_a_system_does_not_say_is_dropped(run):
    """The same picture whatever embedding is given where it is dropped; another one where it is not."""
    draw = Reconstructor.from_pretrained("tiny", device="cpu", steps=6, precision="no")
    image, said, seeds = run.targets.clip[:1], {}, [3]
    without = np.asarray(draw.conditioned(seeds, **said)[0], int)
    with_image = np.asarray(draw.conditioned(seeds, image=image, **said)[0], int)
    assert np.abs(without - with_image).mean() > 5
    np.testing.assert_array_equal(without, np.asarray(draw.conditioned(seeds, **said)[0]))
    words = ["a red bus on a street"]
    states = text_states(draw.pipeline, words)
    by_words = np.asarray(draw.conditioned(seeds, text=words, **said)[0], int)
    by_states = np.asarray(draw.conditioned(seeds, text=states, **said)[0], int)
    assert np.abs(by_words - by_states).max() <= 1 and np.abs(by_words - without).mean() > 0.5


def test_a_latent_at_strength_0_comes_back(run):
    draw = Reconstructor.from_pretrained("tiny", device="cpu", steps=4, precision="no")
    start = run.targets.vae[:1]
    made = draw.conditioned([0], start=start, strength=0.0)[0]
    with torch.no_grad():
        true = draw._decode(start)
    np.testing.assert_allclose(
        np.asarray(made) / 255, true[0].permute(1, 2, 0).numpy(), atol=1 / 255
    )


def test_a_statement_comes_back_and_refuses_what_is_wrong(tmp_path):
    from neurovl.baselines.decoder import Conditions

    given = Conditions(image=np.ones((2, 3)), prompts=["a", "b"], samples=4, kept_by="clip_image")
    one = Statement(["x", "y"], {"clip_image": np.eye(2)}, given, None, ["p", "q"])
    one.write(tmp_path / "a" / "s")
    back = read_statement(tmp_path / "a" / "s")
    assert back.image_ids == ["x", "y"] and back.captions == ["p", "q"]
    assert back.conditions.prompts == ["a", "b"] and back.conditions.samples == 4
    assert back.conditions.text is None and (back.conditions.image == 1).all()
    some = back.take([1])
    assert some.conditions.prompts == ["b"] and some.said["clip_image"].tolist() == [[0, 1]]
    with pytest.raises(DataError, match="3 rows"):
        Statement(["x"], {"vae": np.zeros((3, 2))})
    with pytest.raises(DataError, match="not finite"):
        Statement(["x"], {"vae": np.full((1, 2), np.nan)})


def test_unknown_systems_and_settings_are_named(run):
    with pytest.raises(ConfigError, match="no system 'mindeye3'"):
        compare(run, "mindeye3")
    with pytest.raises(ConfigError, match="no setting 'depth'"):
        registry.find("mindeye")(depth=3)
    with pytest.raises(ConfigError, match="no system"):
        neurovl.make(run, "samples/nobody")


@pytest.mark.parametrize("profile", profile_names())
def test_the_settings_of_every_profile_are_the_systems_own(profile):
    for name, settings in neurovl.load_profile(profile).leaderboard.settings.items():
        if name in leaderboard.ENCODERS:
            assert set(settings) <= {"strength"} and 0 < settings["strength"] < 1
        else:
            registry.find(name)(**settings)


def test_a_number_that_yaml_reads_as_text_is_refused():
    with pytest.raises(ConfigError, match="penalty of dream is '5e3'"):
        registry.find("dream")(penalty=yaml.safe_load("5e3"))
    with pytest.raises(ConfigError, match="prior_skip of mindeye is 1"):
        registry.find("mindeye")(prior_skip=1)
    registry.find("dream")(penalty=5)


def test_a_system_that_needs_words_is_left_out_without_them(run, monkeypatch):
    monkeypatch.setattr(type(run), "has_captions", False)
    assert leaderboard.lacking(run, "takagi") == ["text_states"]
    assert leaderboard.lacking(run, "mindeye") == []
