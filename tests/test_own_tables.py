"""Own tables to the end, whatever they leave out: pictures, captions, boxes; the book is made, and says what it lacks."""

import nibabel
import numpy as np
import pytest

from neurovl import pipeline
from neurovl.errors import DataError, NeurovlError
from neurovl.publishing.book import build
from neurovl.publishing.book_checks import check_book
from neurovl.publishing.notebooks import NOTEBOOKS, execute
from neurovl.recordings.opening import open_recordings
from neurovl.smallworld import scenes

WORDS = ["dog", "car", "pizza", "train", "bench", "kite", "cow", "bed"]
PROFILE = """
simulation: null
compute: {device: cpu}
preprocessing: {patches: [4]}
encoder: {width: 32, layers: 2, heads: 2, head_hidden: 32}
alignment: {epochs: 1, batch_size: 16, variants: [main]}
language: {steps: [2, 2], batch_size: [4, 4], precision: "no", max_new_tokens: 8}
reconstruction: {steps: 2, images: 2, ablation_images: 2}
localization: {min_images: 1, max_concepts: 2}
evaluation: {bootstrap: 100, caption_images: 2}
adaptation: {subject: null}
leaderboard: {systems: [brain-diffuser], images: 2, captioner_steps: [2, 2], captioner_batch_size: 4, noise: []}
"""
# Pages that show nothing of a run's data, and are tested elsewhere.
WITHOUT_DATA = {"09_real_brains", "11_models"}


def study(
    root,
    pictures=False,
    captions=False,
    boxes=False,
    subjects=2,
    repeats=3,
    sessions=1,
    regions=False,
    untested=(),
):
    """Subjects on grids of their own; 12 training and 4 test pictures, of which `untested` subjects saw none of the latter."""
    root.mkdir(parents=True)
    rng, affine = np.random.default_rng(0), np.diag([3.0, 3, 3, 1])
    trials = ["subject\tsession\tvolume\tindex\timage_id\trepeat\tsplit"]
    rows = ["subject\tmask" + "\tfront\tback" * regions]
    for number in range(1, subjects + 1):
        subject, shape = f"sub-{number:02d}", ((8, 9, 7), (9, 8, 8))[number % 2]
        betas = rng.normal(size=(*shape, 16 * repeats)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(betas, affine), root / f"{subject}.nii.gz")
        row = [subject]
        for name, where in {"mask": slice(2, 6), "front": slice(2, 4), "back": slice(4, 6)}.items():
            mask = np.zeros(shape, np.uint8)
            mask[2:6, where, 2:6] = 1
            nibabel.save(nibabel.Nifti1Image(mask, affine), root / f"{subject}_{name}.nii.gz")
            row += [f"{subject}_{name}.nii.gz"] * (regions or name == "mask")
        rows.append("\t".join(row))
        for k in range(16 * repeats):
            split, session = (
                "test" if k % 16 >= 12 else "train",
                f"s{k * sessions // (16 * repeats)}",
            )
            if split == "train" or subject not in untested:
                trials.append(
                    f"{subject}\t{session}\t{subject}.nii.gz\t{k}\timg{k % 16}\t{k // 16}\t{split}"
                )
    (root / "trials.tsv").write_text("\n".join(trials) + "\n")
    (root / "subjects.tsv").write_text("\n".join(rows) + "\n")
    made = [scenes.make_scene("foundation-test", k) for k in range(16)]
    if pictures:
        (root / "stimuli").mkdir()
        for k, scene in enumerate(made):
            scenes.render(scene, 64).save(root / "stimuli" / f"img{k}.png")
    if captions:
        lines = [
            f"img{k}\ta {WORDS[k % 8]} {'in a field' if k < 8 else 'on the beach'}"
            for k in range(16)
        ]
        (root / "captions.tsv").write_text("\n".join(["image_id\tcaption", *lines]) + "\n")
    if boxes:
        lines = [f"img{k}\t{WORDS[k % 2]}\t0.1\t0.2\t0.6\t0.9" for k in range(16)]
        header = "image_id\tcategory\tx0\ty0\tx1\ty1"
        (root / "objects.tsv").write_text("\n".join([header, *lines]) + "\n")
    return root


# What a table has, and how it is made: one subject or nine, a picture once or more often, one session or forty, a subject without test
# pictures, regions or none.
MATRIX = {
    "pictures, one subject, no repeats": ({"pictures"}, {"subjects": 1, "repeats": 1}),
    "captions, nine subjects, one untested, regions": (
        {"captions"},
        {"subjects": 9, "untested": ("sub-09",), "regions": True},
    ),
    "pictures and boxes, forty sessions": ({"pictures", "boxes"}, {"repeats": 5, "sessions": 40}),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", MATRIX)
def test_a_table_comes_to_its_book_with_what_it_has(tmp_path, case):
    has, made = MATRIX[case]
    root = study(tmp_path / "study", **dict.fromkeys(has, True), **made)
    (tmp_path / "mine.yaml").write_text(PROFILE)
    run = pipeline.reproduce(root, tmp_path / "run", str(tmp_path / "mine.yaml"), device="cpu")
    tested = {f"sub-{k:02d}" for k in range(1, made.get("subjects", 2) + 1)}
    tested -= set(made.get("untested", ()))
    found = run.tables.results
    assert set(found.data) == {"study"}
    assert set(found.subject[found.task == "alignment"]) == tested | {"all"}
    assert ("two_way_vae" in set(found.metric)) == ("pictures" in has)
    located = "localization" in set(found.task)
    assert located == ("boxes" in has)
    shown = {name: execute(name, run.root) for name in NOTEBOOKS if name not in WITHOUT_DATA}
    pages = build(run.root).parent
    assert check_book(pages) == []
    empty = {name for name, copy in shown.items() if "Nothing is shown here" in copy.read_text()}
    spoken = {"03_language", "04_reconstruction", "05_beta_ablation", "08_explore"}
    spoken |= {"14_further_tests", "16_controls"}
    spoken |= set() if "pictures" in has else {"15_leaderboard"}
    assert empty == spoken | (set() if located else {"06_concept_localization"})
    text = (pages / "notebooks" / "03_language.html").read_text()
    assert "study comes without captions" in text and "captions.tsv" in text
    assert execute("03_language", run.root) == shown["03_language"]  # up to date, left alone


@pytest.mark.nightly
def test_a_table_with_everything_comes_to_its_book(tmp_path):
    root = study(tmp_path / "study", pictures=True, captions=True, boxes=True)
    (tmp_path / "mine.yaml").write_text(PROFILE)
    run = pipeline.reproduce(root, tmp_path / "run", str(tmp_path / "mine.yaml"), device="cpu")
    shown = [execute(name, run.root) for name in NOTEBOOKS if name not in WITHOUT_DATA]
    assert check_book(build(run.root).parent) == []
    empty = [copy.stem for copy in shown if "Nothing is shown here" in copy.read_text()]
    assert empty == ["14_further_tests", "16_controls"]
    assert {"alignment", "caption", "reconstruction", "localization"} <= set(
        run.tables.results.task
    )


def test_a_table_of_volumes_alone_says_so_before_any_work(tmp_path):
    (tmp_path / "mine.yaml").write_text(PROFILE)
    root = study(tmp_path / "study")
    with pytest.raises(NeurovlError, match="neither pictures nor captions"):
        pipeline.reproduce(root, tmp_path / "run", str(tmp_path / "mine.yaml"), device="cpu")
    assert not (tmp_path / "run" / "tokens").exists()


@pytest.mark.parametrize(
    "line, words",
    [
        ("img0\tdog\t10\t20\t60\t90", "the box 10 20 60 90 in line 2.*divide pixels"),
        ("img0\tdog\t0.6\t0.2\t0.1\t0.9", "the box 0.6 0.2 0.1 0.9"),
        ("img0\tdog\t0.1\t0.2\t\t0.9", "the box"),
        ("img0\tdog\tnan\t0.2\t0.6\t0.9", "the box"),
        ("img0\t\t0.1\t0.2\t0.6\t0.9", "no category in line 2"),
    ],
)
def test_boxes_that_lie_in_no_picture_are_refused(tmp_path, line, words):
    root = study(tmp_path / "study")
    header = "image_id\tcategory\tx0\ty0\tx1\ty1"
    (root / "objects.tsv").write_text(f"{header}\n{line}\n")
    with pytest.raises(DataError, match=words):
        open_recordings(root)


def test_boxes_are_read_as_written(tmp_path):
    root = study(tmp_path / "study", boxes=True)
    data = open_recordings(root)
    thing = {"category": "car", "supercategory": "car", "box": (0.1, 0.2, 0.6, 0.9)}
    assert data.objects("img1") == [thing]
    before = data.checksum()
    text = (root / "objects.tsv").read_text().replace("\ty1\n", "\ty1\tsupercategory\n", 1)
    lines = text.splitlines()
    kinds = [f"{line}\tvehicle" for line in lines[1:]]
    (root / "objects.tsv").write_text("\n".join([lines[0], *kinds]) + "\n")
    again = open_recordings(root)
    assert again.objects("img1") == [thing | {"supercategory": "vehicle"}]
    assert again.checksum() != before
