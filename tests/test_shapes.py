"""One trial without weights through the systems of profiles; wrong widths found and named; published facts."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neurovl.doctor.language_needs import tokens_read
from neurovl.doctor.shapes import pass_shapes
from neurovl.doctor.sizes import sizes_for
from neurovl.errors import DataError, MissingError
from neurovl.foundation import model_facts as facts
from neurovl.foundation.skeleton import (
    clip_skeleton,
    count,
    llm_skeleton,
    metric_skeletons,
    unclip_skeleton,
)
from neurovl.foundation.source import TINY
from neurovl.language.dialogues import Dialogue, encode_dialogue
from neurovl.language.llm_variants import language_variant
from neurovl.reconstruction.reconstructor import Reconstructor
from neurovl.settings.profile_files import load_profile, profile_from_dict

UNCLIP = "stabilityai/stable-diffusion-2-1-unclip-small"
LLAMA = "meta-llama/Meta-Llama-3-8B-Instruct"


@pytest.fixture(autouse=True, scope="module")
def no_cache():
    """No model of the hub is on this machine, whatever its user fetched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facts, "cached_snapshot", lambda name: None)
        yield


@pytest.fixture(scope="module")
def paper(no_cache):
    return pass_shapes(load_profile("paper"))


def shape_of(trial, words: str) -> tuple:
    return next(row.shape for row in trial.rows if words in row.what)


def shallow(profile):
    """The same widths with one encoder of one layer, which is quicker."""
    return replace(
        profile,
        encoder=replace(profile.encoder, layers=1),
        preprocessing=replace(profile.preprocessing, patches=profile.preprocessing.patches[:1]),
        alignment=replace(profile.alignment, variants=("main",)),
        language=replace(profile.language, variants=("main",)),
    )


def only_fault(profile) -> str:
    """The one thing that does not fit, as a line."""
    faults = pass_shapes(profile).faults
    assert len(faults) == 1, [f.line() for f in faults]
    assert faults[0].stops and faults[0].fix
    return faults[0].line()


def with_models(profile, **models):
    return replace(profile, models=replace(profile.models, **models))


def tiny_unclip(folder: Path, component: str, **changes) -> str:
    """The tiny unCLIP's folder without weights, one configuration changed."""
    shutil.copytree(TINY / "unclip", folder, ignore=shutil.ignore_patterns("*.safetensors"))
    path = folder / component / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return str(folder)


def test_the_paper_s_system_fits_without_weights(paper):
    assert paper.faults == []
    # Stated by the paper or published with the models; batch of one, both branches of the guidance.
    assert shape_of(paper, "tokens p14")[2] == 14**3
    assert shape_of(paper, "CLIP image embedding") == (1, 768)
    assert (
        shape_of(paper, "VAE latent of 512 x 512") == shape_of(paper, "VAE head") == (1, 4, 64, 64)
    )
    assert shape_of(paper, "ViT3D p14") == (1, shape_of(paper, "tokens p14")[1] + 1, 768)
    assert shape_of(paper, "heat of a concept, p14") == (1, shape_of(paper, "tokens p14")[1])
    assert shape_of(paper, "logits")[2] == 128256 + 1  # and <image>
    assert shape_of(paper, "noised embedding") == (2, 2 * 768)
    assert shape_of(paper, "text condition") == (2, 77, 1024)
    assert shape_of(paper, "UNet") == (2, 4, 64, 64)
    assert shape_of(paper, "picture") == (1, 3, 512, 512)


def test_the_table_adds_up(paper):
    last = paper.table()[-1]
    total = sum(row.parameters or 0 for row in paper.rows)
    assert f"{total:,}" in last and f"{2 * total / 1e9:.1f} GB" in last
    assert total > 8.03e9


def test_the_small_world_passes_with_its_shipped_configurations():
    trial = pass_shapes(load_profile("smoke"))
    assert trial.faults == [] and shape_of(trial, "picture") == (1, 3, 64, 64)
    weights = {"clip": 0, "llm": 0}
    for part in weights:
        weights[part] = sum(facts.parameters("tiny", part).values())
    assert {row.parameters for row in trial.rows} >= set(weights.values())


class Heads:
    """As much of recordings as decides how many tokens there are."""

    name, subjects, has_images = "mine", ["a", "b"], True

    def mask(self, subject):
        mask = np.zeros((12, 10, 8), bool)
        mask[(0, 0, 0) if subject == "a" else (11, 9, 7)] = True
        return mask

    def affine(self, subject):
        return np.diag([2.0, 2, 2, 1])


def test_the_data_s_own_masks_decide_the_tokens():
    trial = pass_shapes(load_profile("smoke"), Heads())
    # Patches of 5 and 4 voxels: a corner each of two subjects, so two patches.
    assert shape_of(trial, "tokens p5") == (1, 2, 125) and shape_of(trial, "tokens p4") == (
        1,
        2,
        64,
    )
    assert trial.faults == []


def test_without_pictures_there_is_only_the_encoder():
    heads = Heads()
    heads.has_images = False
    trial = pass_shapes(load_profile("smoke"), heads)
    assert trial.faults == []
    assert not {row.stage for row in trial.rows} & {"language", "reconstruct", "score"}


def test_readout_passes_beside_the_hidden_states():
    profile = load_profile("smoke")
    profile = replace(
        profile,
        encoder=replace(profile.encoder, readout=128),
        alignment=replace(
            profile.alignment, variants=("main", "common", "plain", "flat", "patches")
        ),
    )
    trial = pass_shapes(profile)
    assert trial.faults == []
    n = shape_of(trial, "tokens p5")[1]
    assert shape_of(trial, "ViT3D p5, penultimate") == (1, n + 1, 64 + 128)
    assert shape_of(trial, "readout p5") == (n, 125, 128)
    assert shape_of(trial, "ViT3D p5 plain") == shape_of(trial, "ViT3D flat") == (1, n + 1, 64)
    assert shape_of(trial, "heat of a concept, p5") == (1, n)


@pytest.mark.parametrize("name", ["paper", "smoke"])
def test_predictions_are_read_at_true_sizes(name):
    """Class token, embedding and 4 x 4 places of the latent; the needs that the doctor computes know their number and width."""
    profile = load_profile(name)
    profile = replace(profile, language=replace(profile.language, reads="predictions"))
    trial = pass_shapes(profile)
    assert trial.faults == []
    assert shape_of(trial, "prompt with 18 brain tokens")
    sizes = {"paper": (768, 4 * 64 * 64), "smoke": (64, 4 * 16 * 16)}[name]
    encoder = profile.encoder
    width = encoder.width + encoder.readout + sizes[0] + sizes[1] // 16 + 17
    assert tokens_read(profile, sizes_for(profile), language_variant("main")) == (18, width)
    hidden = tokens_read(profile, sizes_for(profile), language_variant("hidden-states"))
    assert hidden[0] == sizes_for(profile).tokens + 1


@pytest.mark.parametrize(
    ("section", "changes", "words"),
    [
        ("encoder", {"readout": 0}, "encoder.readout"),
        ("encoder", {"readout_of": "everyone"}, "encoder.readout_of"),
        ("alignment", {"synthetic": 1.5}, "alignment.synthetic"),
        ("alignment", {"variants": ("main", "mian")}, "mian"),
    ],
)
def test_settings_that_no_encoder_can_have_are_named(section, changes, words):
    profile = shallow(load_profile("smoke"))
    profile = replace(
        profile,
        encoder=replace(profile.encoder, readout=8),
        alignment=replace(profile.alignment, synthetic=0.5),
    )
    assert pass_shapes(profile).faults == []
    assert words in only_fault(
        replace(profile, **{section: replace(getattr(profile, section), **changes)})
    )


def test_a_clip_of_another_width_is_named():
    line = only_fault(with_models(shallow(load_profile("paper")), clip="ViT-B-32/openai"))
    assert all(
        words in line for words in ("512", "768", "models.clip", "models.unclip", "normalizer")
    )


def test_a_picture_that_gives_no_whole_latent_is_named():
    line = only_fault(with_models(shallow(load_profile("paper")), image_size=500))
    assert "500" in line and "models.image_size to a multiple of 8, such as 496" in line


def test_vae_latents_of_another_size_are_named(tmp_path):
    deeper = tiny_unclip(
        tmp_path / "deep",
        "vae",
        block_out_channels=[24, 24, 32, 48],
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
    )
    profile = with_models(shallow(load_profile("smoke")), unclip=deeper)
    line = only_fault(profile)
    assert "(4, 8, 8)" in line and "(4, 16, 16)" in line and "models.image_size to 128" in line
    assert pass_shapes(with_models(profile, image_size=128)).faults == []


def test_vae_latents_with_other_channels_are_named(tmp_path):
    wider = tiny_unclip(tmp_path / "wide", "vae", latent_channels=8)
    line = only_fault(with_models(shallow(load_profile("smoke")), unclip=wider))
    assert "(8, 16, 16)" in line and "(4, 16, 16)" in line and "models.unclip" in line


@pytest.mark.parametrize(
    ("component", "changes", "words"),
    [
        ("unet", {"projection_class_embeddings_input_dim": 96}, ("128", "96", "class embedding")),
        ("unet", {"cross_attention_dim": 64}, ("48", "64", "cross-attention")),
        ("text_encoder", {"num_attention_heads": 5}, ("48", "text_encoder", "models.unclip")),
    ],
)
def test_parts_of_the_unclip_that_do_not_fit_are_named(tmp_path, component, changes, words):
    folder = tiny_unclip(tmp_path / "unclip", component, **changes)
    line = only_fault(with_models(shallow(load_profile("smoke")), unclip=folder))
    assert all(word in line for word in words)


def test_a_language_model_of_another_width_than_its_weights_is_named(tmp_path):
    shutil.copytree(TINY / "llm", tmp_path / "llm")
    path = tmp_path / "llm/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_size": 128}))
    line = only_fault(with_models(shallow(load_profile("smoke")), llm=str(tmp_path / "llm")))
    assert "models.llm" in line and "(768, 96)" in line and "(768, 128)" in line


def test_a_prompt_without_room_for_its_answer_is_named():
    profile = load_profile("smoke")
    profile = replace(profile, language=replace(profile.language, max_new_tokens=600))
    line = only_fault(profile)
    assert "600" in line and "512 positions" in line and "language.max_new_tokens" in line


def test_an_odd_configuration_is_named_without_a_traceback(tmp_path):
    (tmp_path / "open_clip_config.json").write_text('{"model_cfg": {"embed_dim": 64}}')
    line = only_fault(with_models(shallow(load_profile("smoke")), clip=str(tmp_path)))
    assert "models.clip" in line
    (tmp_path / "open_clip_config.json").write_text("[]")
    line = only_fault(with_models(shallow(load_profile("smoke")), clip=str(tmp_path)))
    assert "open_clip_config.json" in line and "models.clip" in line


def test_an_encoder_whose_heads_do_not_share_its_width_is_named():
    profile = load_profile("smoke")
    profile = replace(profile, encoder=replace(profile.encoder, heads=3))
    line = only_fault(profile)
    assert "64" in line and "3 heads" in line and "encoder.heads" in line


@pytest.mark.parametrize("preprocessing", [{}, {"subjects": ["sub-01", "sub-02"]}])
def test_a_profile_without_a_grid_asks_for_the_data(preprocessing):
    content = {"name": "mine", "simulation": None, "preprocessing": preprocessing}
    assert "--data DIR" in only_fault(profile_from_dict(content))


def test_a_model_of_which_nothing_is_known_is_named():
    with pytest.raises(MissingError, match="nothing is known of the llm model nobody/nothing"):
        facts.configurations("nobody/nothing", "llm")
    line = (
        pass_shapes(with_models(shallow(load_profile("smoke")), llm="nobody/nothing"))
        .faults[0]
        .line()
    )
    assert "models.llm" in line


@pytest.fixture(scope="module")
def pipeline(no_cache):
    return unclip_skeleton(UNCLIP)


def test_the_start_latent_has_the_size_of_the_profile_s_pictures(pipeline):
    assert Reconstructor(pipeline, image_size=512).latent_shape == (4, 64, 64)
    assert Reconstructor(pipeline).latent_shape == (4, 96, 96)  # trained for 768 pixels


# Counts that others published: OpenAI's CLIP 427,616,513; the UNet of SD 2.1 865,910,724, to which unCLIP adds two linear
# maps, 1536 to 1280 to 1280; its VAE 83,653,863 and text encoder 340,387,840; Llama 3 8B 8,030,261,248; Llama 2 13B, of
# whose shape Vicuna is, 13,015,864,320; ViT-B/32 151,277,313.
CLASS_EMBEDDING = (1536 + 1) * 1280 + (1280 + 1) * 1280


def test_the_networks_have_the_sizes_that_were_published(pipeline):
    assert count(clip_skeleton("ViT-L-14/openai").model) == 427_616_513
    assert count(clip_skeleton("ViT-B-32/openai").model) == 151_277_313
    assert count(pipeline.unet) == 865_910_724 + CLASS_EMBEDDING
    assert count(pipeline.vae) == 83_653_863
    assert count(pipeline.text_encoder) == 340_387_840
    assert count(llm_skeleton(LLAMA)[0]) == 8_030_261_248
    assert count(llm_skeleton("lmsys/vicuna-13b-v1.5")[0]) == 13_015_864_320
    assert all(p.is_meta for p in pipeline.unet.parameters())


def annotator_skeleton(kind):
    """BLIP-2 with OPT 2.7B (Zhang et al. 2022, table 1), or DETR with ResNet-50 and COCO's 91 numbers of categories."""
    from transformers import (
        Blip2Config,
        Blip2ForConditionalGeneration,
        DetrConfig,
        DetrForObjectDetection,
        ResNetConfig,
    )

    text = {
        "model_type": "opt",
        "hidden_size": 2560,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    }
    text |= {"ffn_dim": 10240, "word_embed_proj_dim": 2560, "vocab_size": 50304}
    with torch.device("meta"):
        if kind == "captioner":
            return Blip2ForConditionalGeneration(Blip2Config(text_config=text))
        backbone = ResNetConfig(out_features=["stage4"])
        return DetrForObjectDetection(DetrConfig(backbone_config=backbone, num_labels=91))


@pytest.mark.parametrize("one", facts.published(), ids=lambda one: one.title)
def test_stored_sizes_are_those_of_the_networks(one, pipeline):
    spec = one.ids[0]
    if one.kind == "unclip":
        built = {name: count(getattr(pipeline, name)) for name in one.parameters}
    elif one.kind == "clip":
        built = {"clip": count(clip_skeleton(spec).model)}
    elif one.kind in ("captioner", "detector"):
        built = {one.kind: count(annotator_skeleton(one.kind))}
    else:
        built = {"llm": count(llm_skeleton(spec)[0])}
    assert built == one.parameters
    assert one.source and one.licence and one.hub in one.ids[-2:] + one.ids


def test_stored_facts_follow_from_stability_s_configuration():
    # Stability-AI/stablediffusion, v2-1-stable-unclip-l-inference.yaml: model_channels 320, channel_mult 1 2 4 4,
    # num_head_channels 64, context_dim 1024, adm_in_channels 1536, image_size 96, scale_factor 0.18215, timestep_dim 768.
    configs = facts.configurations(UNCLIP, "unclip")
    unet, channels = configs["unet"], [320 * m for m in (1, 2, 4, 4)]
    assert unet["block_out_channels"] == channels
    assert unet["attention_head_dim"] == [c // 64 for c in channels]
    assert (unet["cross_attention_dim"], unet["sample_size"]) == (1024, 96)
    assert (
        unet["projection_class_embeddings_input_dim"]
        == 1536
        == 2 * configs["image_normalizer"]["embedding_dim"]
    )
    assert configs["vae"]["scaling_factor"] == 0.18215
    assert configs["image_noising_scheduler"]["beta_schedule"] == "squaredcos_cap_v2"
    assert configs["scheduler"]["prediction_type"] == "v_prediction"


def test_open_clip_fetches_its_weights_where_the_facts_say():
    import open_clip

    for one in facts.published():
        if one.kind == "clip":
            name, _, tag = one.ids[0].partition("/")
            assert open_clip.get_pretrained_cfg(name, tag)["hf_hub"].rstrip("/") == one.hub


@pytest.mark.parametrize("spec", [LLAMA, "lmsys/vicuna-13b-v1.5"])
def test_published_chat_templates_keep_question_and_answer_apart(spec):
    _, tokenizer = llm_skeleton(spec)
    turns = (("What is it?", "A dog."), ("Where?", "On a beach."))
    ids, labels = encode_dialogue(tokenizer, Dialogue("conversation", None, turns))
    answers = tokenizer.decode([i for i in labels if i != -100])
    assert "A dog." in answers and "On a beach." in answers and "What" not in answers
    assert len(ids) == len(labels)


def test_the_paper_s_metric_networks_give_their_features():
    from PIL import Image

    from neurovl.foundation.skeleton import ShapesOnly

    with ShapesOnly(), torch.no_grad():
        widths = {
            feature: tuple(values.shape)
            for _, _, network in metric_skeletons("paper")
            for feature, values in network.features([Image.new("RGB", (512, 512))]).items()
        }
    assert widths["inception"] == (1, 2048) and widths["effnet"] == (1, 1280)
    assert widths["swav"] == (1, 2048) and widths["alexnet2"][1] > widths["alexnet5"][1]


def test_weights_that_are_cut_short_are_named(tmp_path):
    shutil.copytree(TINY / "llm", tmp_path / "llm")
    whole = (tmp_path / "llm/model.safetensors").read_bytes()
    (tmp_path / "llm/model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(DataError, match=r"model.safetensors is not whole"):
        facts.parameters(str(tmp_path / "llm"), "llm")
