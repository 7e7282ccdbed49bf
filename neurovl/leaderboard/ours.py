"""Our own systems in the comparison: what the run's encoders say of the test pictures, in the form of all others."""

import json
import time

import numpy as np

from neurovl.baselines.decoder import Conditions
from neurovl.encoder.alignment import held_out_voxels, predict
from neurovl.encoder.vit3d import BrainEmbedding
from neurovl.language.dialogues import PROMPTS
from neurovl.leaderboard.fitting import MAIN, system_place
from neurovl.leaderboard.statements import Facts, Statement
from neurovl.results import condition
from neurovl.run import Run
from neurovl.stages import PROVENANCE
from neurovl.tokens.resize import Resizer

ENCODERS = {"neurovl": "main", "plain": "plain"}  # system -> encoder
TITLES = {
    "neurovl": "neurovl: one ViT3D for all subjects, with a linear readout and responses drawn from encoding models",
    "plain": "The paper's plain ViT3D: one for all subjects, measured trials alone",
}


def ours_in(run: Run) -> list[str]:
    """Which of our systems a run has."""
    return [name for name, encoder in ENCODERS.items() if encoder in run.variants()]


def fit_ours(run: Run, name: str) -> None:
    """RUN/leaderboard/systems/neurovl or plain: what an encoder of the run says; it was trained by the run already."""
    p, encoder = run.profile, ENCODERS[name]
    inputs = ["tokens", "targets", f"encoders/{encoder}"]
    inputs += ["llm"] if run.has_captions and name == "neurovl" else []
    settings = {
        "noise": p.leaderboard.noise,
        "beta": p.reconstruction.beta,
        "max_new_tokens": p.language.max_new_tokens,
    }
    with run.stage(system_place(name), fit_ours, settings, tuple(inputs)) as s:
        if s.done:
            return
        start = time.perf_counter()
        for subject in run.store.tested:
            for asked, (ids, z) in _questions(run, encoder, subject).items():
                speaks = name == "neurovl" and run.has_captions and "noise" not in asked
                _statement(run, ids, z, speaks).write(s.dir / MAIN / asked / subject)
        trained = json.loads((run.folder / "encoders" / encoder / PROVENANCE).read_text())
        trials = run.store.trials
        Facts(
            1,
            sum(q.numel() for q in run.encoder(encoder).parameters()),
            float(trained["seconds"]),
            time.perf_counter() - start,
            float((trials.split == "train").sum() / len(run.store.subjects)),
            {"encoder": p.encoder.network(), "alignment": p.alignment.__dict__},
        ).write(s.dir)


def _questions(run: Run, encoder: str, subject: str) -> dict[str, tuple[list[str], BrainEmbedding]]:
    """As `fitting.questions`, of stored voxels: noise is added to the volumes and resized as they are."""
    store, net = run.store, run.encoder(encoder, run.profile.compute.device)
    found = {}

    def read(voxels: np.ndarray) -> BrainEmbedding:
        return predict(net, store.cut(voxels, net.layout))

    for protocol in ("average", "single"):
        ids, voxels = held_out_voxels(store, subject, protocol)
        found[protocol] = ids, read(voxels)
    ids, voxels = held_out_voxels(store, subject, "average")
    own = store.trials[(store.trials.subject == subject) & (store.trials.split == "train")]
    of_picture = [
        store.voxels_at(rows.to_numpy()).mean(0) for rows in own.groupby("image_id").groups.values()
    ]
    found["mean brain"] = ["mean"], read(np.mean(of_picture, 0, keepdims=True))
    for level in run.profile.leaderboard.noise:
        noisy = voxels + level * _resized_noise(run, subject, ids)
        found[condition(noise=level)] = ids, read(noisy)
    return found


def _resized_noise(run: Run, subject: str, ids: list[str]) -> np.ndarray:
    """White noise of one trial's volume, averaged over a picture's repeats and resized, float32 (n, V)."""
    store, mask = run.store, run.recordings.mask(subject)
    inside = store.measured(subject)
    resizer = Resizer(mask.shape, store.target, store.region[inside])
    n_inputs = len(resizer.inputs)
    own = store.trials[(store.trials.subject == subject) & (store.trials.split == "test")]
    counts = own.groupby("image_id").size()
    rng = np.random.default_rng([run.profile.seed, 41, store.subjects.index(subject)])
    out = np.zeros((len(ids), len(store.region)), np.float32)
    for row, image in enumerate(ids):
        drawn = rng.standard_normal(n_inputs, np.float32)[None] / np.sqrt(counts[image])
        out[row, inside] = resizer.from_inputs(
            drawn, np.ones(n_inputs, np.float32), np.zeros(n_inputs, np.float32)
        )[0]
    return out


def _statement(run: Run, ids: list[str], z: BrainEmbedding, speaks: bool) -> Statement:
    longest, prompts, captions = run.profile.language.max_new_tokens, None, None
    if speaks:
        llm = run.llm()
        prompts, captions = (
            llm.generate(z.hidden, [PROMPTS[kind][0]] * len(z), max_new_tokens=longest)
            for kind in ("reconstruction", "brief")
        )
    said = {"clip_image": z.clip.numpy()} | ({} if z.vae is None else {"vae": z.vae.numpy()})
    conditions = Conditions(
        image=said["clip_image"],
        prompts=prompts,
        start=said.get("vae"),
        strength=1.0 if z.vae is None else run.profile.reconstruction.beta,
        reading="mix",
    )
    return Statement(list(ids), said, conditions, None, captions)
