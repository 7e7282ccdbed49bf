"""Preprocessing killed at random moments and started again: the same bytes as if nothing had happened."""

import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from neurovl.pipeline import preprocess

KILLS = 20
BETAS = "nsddata_betas/ppdata/{}/func1pt8mm/betas_fithrf_GLMdenoise_RR"


@pytest.fixture(scope="module")
def six_sessions(tiny_nsd, tmp_path_factory) -> Path:
    """The tiny NSD folder with session 1 standing for three sessions of each subject."""
    folder = tmp_path_factory.mktemp("nsd") / "data"
    shutil.copytree(tiny_nsd, folder, copy_function=os.link)
    for subject in ("subj01", "subj02"):
        place = folder / BETAS.format(subject)
        first = next(place.glob("betas_session01.*"))
        for session in (2, 3):
            os.link(first, place / first.name.replace("01", f"{session:02d}"))
    return folder


def contents(run: Path) -> dict:
    """Bytes of the store; provenance.json holds times, so it is left out."""
    files = [p for p in run.rglob("*") if p.is_file() and p.name != "provenance.json"]
    return {p.relative_to(run): p.read_bytes() for p in files}


def test_killed_at_random_moments_and_started_again(six_sessions, tmp_path):
    preprocess(six_sessions, tmp_path / "warm", "smoke")  # compiles
    start = time.monotonic()
    preprocess(six_sessions, tmp_path / "whole", "smoke")
    whole = time.monotonic() - start
    expected = contents(tmp_path / "whole" / "tokens")
    assert sum(name.suffix == ".npy" for name in expected) == 6
    fork = multiprocessing.get_context("fork")
    moments = np.random.default_rng().uniform(0, 1.2 * whole, KILLS)
    cut = 0
    for i, moment in enumerate(moments):
        run = tmp_path / f"run{i}"
        child = fork.Process(target=preprocess, args=(six_sessions, run, "smoke"))
        child.start()
        child.join(moment)
        if child.is_alive():
            os.kill(child.pid, signal.SIGKILL)
        child.join()
        cut += child.exitcode == -signal.SIGKILL
        assert not (run / "tokens").exists() or (run / "tokens/provenance.json").exists()
        preprocess(six_sessions, run, "smoke")
        assert contents(run / "tokens") == expected, f"killed after {moment:.3f} s"
        shutil.rmtree(run)
    assert cut >= KILLS // 4, f"only {cut} of {KILLS} kills came in time"
