"""A decoder outside neurovl: what was seen is the mean of what other brains saw that are most like this one."""

import numpy as np

from neurovl.baselines.decoder import Card, Choice, Conditions, Decoder


class NearestBrains(Decoder):
    """The mean features of the `k` training pictures whose averaged responses correlate most."""

    name = "nearest-brains"
    card = Card(
        title="Nearest brains",
        reference="an example",
        code="examples/your_decoder",
        choices=(
            Choice("input", "", "all voxels of the subject's own mask", "chosen"),
            Choice("map", "", "mean over the k nearest training pictures by correlation", "chosen"),
            Choice("number of models", "", "one a subject", "chosen"),
        ),
    )
    defaults = {"k": 5}
    search = {"k": (1, 3, 5, 10, 20)}
    needs = ("clip_image", "vae")

    def fit(self, voxels, targets, parts):
        self.seen = {}
        for subject, trials in voxels.items():
            mean = trials.averaged()
            known = {what: targets.of(what, mean.image_ids) for what in self.needs}
            self.seen[subject] = centred(mean.read()), known
            self.n_parameters += mean.values.size + sum(one.size for one in known.values())
        self.n_models = len(voxels)
        return self

    def predict(self, voxels):
        brains, known = self.seen[voxels.subject]
        likeness = centred(voxels.read()) @ brains.T
        nearest = np.argsort(-likeness, axis=1)[:, : self.settings["k"]]
        return {what: one[nearest].mean(1) for what, one in known.items()}

    def conditions(self, said):
        return Conditions(image=said["clip_image"], start=said["vae"], strength=0.9)


def centred(x):
    """Rows of mean 0 and length 1, so that products are correlations."""
    x = x - x.mean(1, keepdims=True)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
