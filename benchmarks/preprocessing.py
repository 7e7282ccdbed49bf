"""From betas to tokens at NSD's real sizes: ours against the peers' way, against memory, and how much memory it takes.

    python benchmarks/preprocessing.py

The peers' way (as in the public NSD decoders): nibabel reads the file, `scipy.ndimage.zoom(order=1)` resizes each
volume, which is then padded, cut in patches and selected. The volumes are random int16 with the spread of betas, the
masks are simulated nsdgeneral masks with the real numbers of voxels, the patches are the paper's (14 voxels, 4 subjects,
voxels off the mask kept). Every figure is the best of several runs, ours and theirs in turn.
"""

import argparse
import gzip
import os
import platform
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
from scipy import ndimage

from neurovl.recordings.base import Recordings
from neurovl.recordings.betas import open_betas
from neurovl.smallworld.subjects.anatomy import make_anatomy
from neurovl.tokens.patch_plan import PatchPlan
from neurovl.tokens.writing import write_store

PATCH = 14
SUBJECTS = (1, 2, 5, 7)
CORES = os.cpu_count() or 1
TRIALS = 750


def best_of(call, repeats: int) -> float:
    """Shortest time of a call, s."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def betas(shape, n: int, seed: int = 0) -> np.ndarray:
    """Random betas (n, x, y, z), int16 of 300 x percent signal change."""
    return np.random.default_rng(seed).normal(0, 300, (n, *shape)).astype(np.int16)


def peers_tokens(volume, target, kept, **zoom) -> np.ndarray:
    """Resize, pad, cut, select one volume: (N, patch volume)."""
    factors = [t / s for t, s in zip(target, volume.shape, strict=True)]
    big = ndimage.zoom(volume.astype(np.float32), factors, order=1, **zoom)
    big = np.pad(big, [(0, -n % PATCH) for n in target])
    a, b, c = (n // PATCH for n in big.shape)
    cubes = big.reshape(a, PATCH, b, PATCH, c, PATCH).transpose(0, 2, 4, 1, 3, 5)
    return cubes.reshape(a * b * c, -1)[kept]


def copy_bandwidth() -> float:
    """Bytes read and written a second by copying int16 arrays far larger than the caches, with all cores."""
    source = np.ones((CORES, 1 << 26), np.int16)
    goal = np.zeros_like(source)

    def copy():
        with ThreadPoolExecutor(CORES) as pool:
            list(pool.map(lambda i: np.copyto(goal[i], source[i]), range(CORES)))

    return 2 * source.nbytes / best_of(copy, 7)


def compare_tokens(plan, grids, n: int) -> None:
    bandwidth = copy_bandwidth()
    print(f"\ncopy bandwidth {bandwidth / 1e9:.1f} GB/s (read + written, {CORES} threads)\n")
    print(
        "volumes to tokens        peers/s    ours/s   ratio   limit/s   of the limit   largest error"
    )
    for subject, shape in grids.items():
        volumes = betas(shape, n)
        in_file_order = np.ascontiguousarray(volumes.transpose(0, 3, 2, 1)).transpose(0, 3, 2, 1)
        exact = np.stack(
            [
                peers_tokens(v, plan.target, plan.kept, grid_mode=True, mode="nearest")
                for v in volumes[:2]
            ]
        )
        out = np.zeros((n, plan.n_tokens, PATCH**3), np.float32)
        for order, given in (("z first", volumes), ("x first", in_file_order)):
            plan.tokens(given, out)
            error = np.abs(out[:2] - exact).max() / np.ptp(volumes)
            theirs = ours = np.inf
            for _ in range(3):
                few = given[:8]
                theirs = min(
                    theirs,
                    best_of(
                        lambda few=few: [peers_tokens(v, plan.target, plan.kept) for v in few], 1
                    )
                    / 8,
                )
                ours = min(
                    ours, best_of(lambda given=given, out=out: plan.tokens(given, out), 5) / n
                )
            limit = (2 * np.prod(shape) + 4 * out[0].size) / bandwidth
            print(
                f"subj{subject:02d} {order:15s} {1 / theirs:9.0f} {1 / ours:9.0f} {theirs / ours:7.0f}"
                f" {1 / limit:9.0f} {limit / ours:12.2f} {error:17.1e}"
            )


def compare_files(plan, shape, folder: Path, n: int) -> None:
    path = folder / "betas.nii.gz"
    image = nibabel.Nifti1Image(betas(shape, n).transpose(1, 2, 3, 0), np.eye(4))
    nibabel.save(image, path)

    def peers():
        data = nibabel.load(path).get_fdata(dtype=np.float32)
        return [peers_tokens(data[..., i], plan.target, plan.kept) for i in range(n)]

    def ours():
        resizer = plan.resizer(shape)
        values = open_betas(path).read_voxels(resizer.inputs)
        out = np.zeros((n, plan.n_tokens * PATCH**3), np.float32)
        one = np.ones(len(resizer.inputs), np.float32)
        return resizer.from_inputs(values, one, 0 * one, out, plan.position)

    def decompress():
        with gzip.open(path) as file:
            while file.read(1 << 20):
                pass

    ours()
    slow, fast, plain = best_of(peers, 1), best_of(ours, 3), best_of(decompress, 1)
    size = path.stat().st_size / 1e6
    print(f"\n.nii.gz to tokens, {n} volumes of {shape}, {size:.0f} MB: volumes/s, one core each")
    print(
        f"peers {n / slow:.1f}, ours {n / fast:.1f}, ratio {slow / fast:.1f}; gzip alone {n / plain:.1f}"
    )


class Sessions(Recordings):
    """As many sessions as wanted, all of them the same file."""

    name = "benchmark"

    def __init__(self, path: Path, mask, n_sessions: int):
        self.path, self._mask = path, mask
        trial = np.arange(n_sessions * TRIALS)
        table = pd.DataFrame({"subject": "subj01", "session": trial // TRIALS + 1, "trial": trial})
        split = np.where(trial % 10 == 0, "test", "train")
        super().__init__(
            path.parent, ["subj01"], table.assign(image_id=trial.astype(str), repeat=0, split=split)
        )

    def mask(self, subject):
        return self._mask

    def affine(self, subject):
        return np.eye(4)

    def session_voxels(self, subject, session, voxels):
        return open_betas(self.path).read_voxels(voxels)


def measure_memory(folder: Path, sessions: int) -> None:
    """Write the store of one subject with one worker in a process of its own; print its peak memory."""
    mask = make_anatomy(1, 1.0, 0).nsdgeneral
    path = folder / "session.nii.gz"
    if not path.exists():
        data = betas(mask.shape, TRIALS).transpose(1, 2, 3, 0)
        nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), path)
        sessions = 0
    if sessions:
        out = Path(tempfile.mkdtemp(dir=folder))
        start = time.perf_counter()
        write_store(Sessions(path, mask, sessions), out, patches=[14, 12, 10], off_mask="keep")
        seconds = time.perf_counter() - start
        line = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
        size = sum(f.stat().st_size for f in out.rglob("*.npy")) / 1e6
        print(
            f"{sessions:3d} sessions: {int(line.split()[1]) / 1024:7.0f} MB peak,"
            f" {seconds / sessions:5.1f} s and {size / sessions:.0f} MB a session"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--volumes", type=int, default=64, help="volumes in memory")
    parser.add_argument("--file-volumes", type=int, default=150, help="volumes in the .nii.gz file")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.memory_of:
        measure_memory(Path(settings.memory_of[0]), int(settings.memory_of[1]))
        return
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {CORES} cores, numpy {np.__version__}"
    )
    masks = {f"subj{s:02d}": make_anatomy(s, 1.0, 0).nsdgeneral for s in SUBJECTS}
    plan = PatchPlan.fit(masks, patch=PATCH, off_mask="keep")
    print(f"{plan.n_tokens} of {np.prod(plan.candidates)} patches kept")
    grids = {s: masks[f"subj{s:02d}"].shape for s in SUBJECTS}
    compare_tokens(plan, grids, settings.volumes)
    with tempfile.TemporaryDirectory() as name:
        compare_files(plan, grids[2], Path(name), settings.file_volumes)
        print("\nmemory of one worker, imports included (three patch sizes from one store)")
        for sessions in (0, 1, 4):
            subprocess.run(
                [sys.executable, __file__, "--memory-of", name, str(sessions)], check=True
            )


if __name__ == "__main__":
    main()
