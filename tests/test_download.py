"""Fetching NSD, from a server on this machine that hands out a simulated folder."""

import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from neurovl.datasets.download import download_nsd, nsd_files
from neurovl.errors import ConfigError, MissingError
from neurovl.recordings import open_recordings


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def bucket(tiny_nsd):
    handler = functools.partial(Quiet, directory=str(tiny_nsd))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_what_arrives_is_whole_and_readable(bucket, tiny_nsd, tmp_path):
    download_nsd(tmp_path, [1], sessions=1, annotations=False, bucket=bucket)
    here, there = open_recordings(tmp_path), open_recordings(tiny_nsd, subjects=[1])
    assert here.name == "nsd" and here.trials.equals(there.trials)
    np.testing.assert_array_equal(here.volumes(1, [3]), there.volumes(1, [3]))
    assert not list(tmp_path.rglob(".part-*"))


def test_verify_replaces_a_file_cut_short(bucket, tiny_nsd, tmp_path):
    download_nsd(tmp_path, [1], sessions=1, annotations=False, bucket=bucket)
    path = next(tmp_path.rglob("betas_session01.nii.gz"))
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    download_nsd(tmp_path, [1], sessions=1, annotations=False, bucket=bucket)
    assert len(path.read_bytes()) == 1000  # what is there is kept unless asked
    download_nsd(tmp_path, [1], sessions=1, annotations=False, bucket=bucket, verify=True)
    assert path.read_bytes() == whole


def test_an_indispensable_file_that_is_absent(bucket, tmp_path):
    with pytest.raises(MissingError, match="betas_session02.nii.gz could not be fetched"):
        download_nsd(tmp_path, [1], sessions=2, annotations=False, bucket=bucket)


def test_which_files():
    files = nsd_files(["subj04", 1])
    assert sum("betas_session" in path.name for path in files) == 30 + 40
    with pytest.raises(ConfigError, match="has 1 to 8"):
        nsd_files([9])
