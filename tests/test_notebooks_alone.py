"""The notebooks by papermill alone, in order, from an empty folder: they are the whole reproduction."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from neurovl.publishing.notebooks import NOTEBOOKS
from neurovl.results import read_claims, read_results

ROOT = Path(__file__).parents[1]


@pytest.mark.nightly
def test_the_notebooks_alone_make_the_whole_run(tmp_path):
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for name in NOTEBOOKS:
        own = [] if name == "11_models" else ["-p", "run", "runs/smoke", "-p", "profile", "smoke"]
        command = [sys.executable, "-m", "papermill", str(ROOT / "notebooks" / f"{name}.ipynb")]
        command += [f"{name}.ipynb", *own, "--no-progress-bar", "-k", "python3"]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{name}: {done.stderr[-2000:]}"
        assert "unknown parameter" not in done.stderr, name
        cells = json.loads((tmp_path / f"{name}.ipynb").read_text())["cells"]
        kinds = [o["output_type"] for c in cells for o in c.get("outputs", [])]
        assert "error" not in kinds and kinds
    results = read_results(tmp_path / "runs" / "smoke" / "results" / "results.csv")
    tasks = {"alignment", "caption", "dialogue", "reconstruction", "localization", "adaptation"}
    assert tasks <= set(results.task)
    assert len(read_claims(tmp_path / "runs" / "smoke" / "results" / "claims.csv")) > 10
