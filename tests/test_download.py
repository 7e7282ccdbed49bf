"""Fetching NSD from an S3 server on this machine, through a proxy that breaks what it passes on."""

import errno
import hashlib
import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import namedtuple
from pathlib import Path

import boto3
import numpy as np
import pytest
import requests
from fault_server import Fault, FaultProxy
from moto.server import ThreadedMotoServer
from typer.testing import CliRunner

from neurovl.cli import app
from neurovl.cli.download import session_numbers
from neurovl.download import checksums
from neurovl.download import engine as transfer
from neurovl.download.checksums import MANIFEST, Manifest, examine, possible_parts
from neurovl.download.engine import Item, Transfer, readable, sole_writer, survey
from neurovl.download.partfile import PartFile, journal_path, part_path, read_journal
from neurovl.download.servers import Broken, Bucket, Refused, Remote, Settings, Web
from neurovl.errors import ConfigError, DataError, MissingError
from neurovl.recordings import fetching as download
from neurovl.recordings.fetching import download_nsd, fetch_plan, nsd_files, plan_nsd
from neurovl.recordings.nsd import coco
from neurovl.recordings.opening import open_recordings
from neurovl.smallworld.subjects import simulate

KIB, MIB = 1 << 10, 1 << 20
NSD = "natural-scenes-dataset"
QUICK = Settings(
    jobs=3, chunk=64 * KIB, attempts=4, backoff=0.01, longest_backoff=0.05, read_timeout=2.0
)
BETAS = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"
LARGE = f"{BETAS}/betas_session01.nii.gz"  # 10 ranges, the last one short
ABSENT = "nsddata/ppdata/subj01/behav/responses.tsv"
COCO_KEY = "coco/annotations_trainval2017.zip"
SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from neurovl.recordings.fetching import download_nsd
from neurovl.download.servers import Settings
download_nsd(sys.argv[1], [1], [1], annotations=False, endpoint=sys.argv[2],
             settings=Settings(jobs=2, chunk=65536))
"""


def noise(size: int, seed: int) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def archive(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in contents.items():
            file.writestr(f"annotations/{name}", content)
    return buffer.getvalue()


ANNOTATIONS = {name: noise(50_000, n).hex().encode() for n, name in enumerate(coco.FILES)}
CONTENT = {
    file.path.as_posix(): noise(2000 + n, n)
    for n, file in enumerate(nsd_files([1], 2))
    if file.path.as_posix() != ABSENT
}
CONTENT[LARGE] = noise(600_000, 100)
CONTENT[COCO_KEY] = archive({**ANNOTATIONS, "person_keypoints_train2017.json": b"not taken"})


class World:
    """The S3 server, the proxy before it, and the key to the bucket."""

    def __init__(self):
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.server.start()
        host, port = self.server.get_host_and_port()
        self.admin = boto3.client(
            "s3",
            endpoint_url=f"http://{host}:{port}",
            region_name="us-east-2",
            aws_access_key_id="owner",
            aws_secret_access_key="secret",
        )
        where = {"LocationConstraint": "us-east-2"}
        self.admin.create_bucket(Bucket=NSD, CreateBucketConfiguration=where)
        for key, content in CONTENT.items():
            self.put(key, content)
        self.proxy = FaultProxy(f"http://{host}:{port}")
        self.coco = f"{self.proxy.url}/{NSD}/{COCO_KEY}"

    def put(self, key: str, content: bytes) -> None:
        self.admin.put_object(Bucket=NSD, Key=key, Body=content, ACL="public-read")

    def item(self, key: str, settings=QUICK) -> Item:
        bucket = Bucket(NSD, "us-east-2", self.proxy.url, settings)
        return Item(bucket, bucket.head(key), key, "betas")

    def bring(self, root: Path, key: str = LARGE, settings=QUICK, verify=False) -> Path:
        """Fetch one file of the bucket as `fetch_plan` does."""
        root.mkdir(exist_ok=True)
        manifest = Manifest(root)
        mover = Transfer(root, manifest, settings)
        mover.fetch(mover.check(survey([self.item(key, settings)], root, manifest, verify)))
        return root / key

    def plan(self, root: Path, subjects=(1,), sessions=2, **options):
        options = {"endpoint": self.proxy.url, "coco": self.coco, "settings": QUICK, **options}
        return plan_nsd(root, subjects, sessions, **options)


@pytest.fixture(scope="module")
def servers():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    world = World()
    yield world
    world.proxy.close()
    world.server.stop()


@pytest.fixture
def few(monkeypatch):
    """NSD of three files, where a test needs no more."""
    names = {
        LARGE,
        f"{BETAS}/betas_session02.nii.gz",
        "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5",
    }
    monkeypatch.setattr(
        download,
        "nsd_files",
        lambda *arguments: [
            file for file in nsd_files(*arguments) if file.path.as_posix() in names
        ],
    )


@pytest.fixture
def world(servers):
    servers.proxy.reset()
    yield servers
    servers.proxy.reset()
    servers.put(LARGE, CONTENT[LARGE])


def leftovers(root: Path) -> list[str]:
    return [path.name for path in root.rglob(".*") if path.name != MANIFEST]


def test_all_that_was_asked_for_comes_whole(world, tmp_path, caplog):
    plan = world.plan(tmp_path)
    assert ABSENT in caplog.text  # an optional file that the bucket lacks is a warning
    assert not list(tmp_path.iterdir())  # planning writes nothing
    fetch_plan(plan)
    expected = {key: content for key, content in CONTENT.items() if key != COCO_KEY}
    folder = coco.FOLDER.as_posix()
    expected |= {f"{folder}/{name}": content for name, content in ANNOTATIONS.items()}
    came = {
        p.relative_to(tmp_path).as_posix(): p.read_bytes()
        for p in tmp_path.rglob("*")
        if p.is_file() and p.name != MANIFEST
    }
    assert came == expected
    entries = json.loads((tmp_path / MANIFEST).read_text())["files"]
    assert set(entries) == set(expected) and all(entry["checked"] for entry in entries.values())
    assert entries[LARGE]["sha256"] == hashlib.sha256(CONTENT[LARGE]).hexdigest()
    assert "could not be compared" not in caplog.text
    asked = [(one.headers["Range"], one.headers["If-Match"]) for one in world.proxy.gets(LARGE)]
    etag = hashlib.md5(CONTENT[LARGE]).hexdigest()
    edges = [*range(0, 600_000, 65_536), 600_000]
    assert set(asked) == {
        (f"bytes={a}-{b - 1}", f'"{etag}"') for a, b in zip(edges, edges[1:], strict=False)
    }

    world.proxy.reset()
    again = world.plan(tmp_path)
    assert {item.state for item in again.items} == {"there"}
    fetch_plan(again)
    assert world.proxy.seen == []  # a second call asks for no body


def test_no_package_for_s3_is_needed(world, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.setitem(sys.modules, "botocore", None)
    assert world.bring(tmp_path).read_bytes() == CONTENT[LARGE]
    with pytest.raises(Broken):
        Web(QUICK).head("http://127.0.0.1:9/nothing")  # nobody listens there
    with pytest.raises(Refused):
        Web(QUICK).head("no address")


def test_an_empty_file(world, tmp_path):
    world.put("empty", b"")
    assert world.bring(tmp_path, "empty").read_bytes() == b"" and leftovers(tmp_path) == []


def test_a_list_of_several_pages(world, monkeypatch):
    send = requests.Session.request

    def by_twos(session, method, url, **options):
        options["params"] = {**options["params"], "max-keys": "2"}
        return send(session, method, url, **options)

    monkeypatch.setattr(requests.Session, "request", by_twos)
    folder = "nsddata/ppdata/subj01/func1pt8mm/roi/"
    found = Bucket(NSD, "us-east-2", world.proxy.url, QUICK).list(folder)
    expected = {key: content for key, content in CONTENT.items() if key.startswith(folder)}
    assert len(expected) > 4
    assert {key: (one.size, one.checksum) for key, one in found.items()} == {
        key: (len(content), hashlib.md5(content).hexdigest()) for key, content in expected.items()
    }


def test_what_arrives_is_readable(world, tiny_nsd, tmp_path):
    for file in nsd_files([2], 1):
        path = tiny_nsd / file.path
        if path.is_file():
            world.put(file.path.as_posix(), path.read_bytes())
    try:
        fetch_plan(world.plan(tmp_path, [2], 1, annotations=False, settings=Settings(jobs=2)))
    finally:
        for key, content in CONTENT.items():
            world.put(key, content)
    here, there = open_recordings(tmp_path), open_recordings(tiny_nsd, subjects=[2])
    assert here.name == "nsd" and here.trials.equals(there.trials)
    np.testing.assert_array_equal(here.volumes(2, [3]), there.volumes(2, [3]))


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        (Fault("reset", 20_000), {}),
        (Fault("truncate", 20_000), {}),
        (Fault("truncate", 0), {}),
        (Fault("status", status=503), {}),
        (Fault("status", status=500), {}),
        (Fault("status", status=429), {}),
        (Fault("stall", 10_000), {"read_timeout": 0.3}),
        (Fault("dribble", 60_000), {"read_timeout": 0.3}),
    ],
    ids=lambda value: f"{value.kind}-{value.status}" if isinstance(value, Fault) else "",
)
def test_broken_answers_are_asked_for_again(world, tmp_path, fault, options):
    settings = Settings(**{**vars(QUICK), **options})

    def some(seen, n):
        assert not (tmp_path / LARGE).exists()  # nothing half has the final name
        return fault if n in (1, 4, 5) else None

    world.proxy.fault = some
    assert world.bring(tmp_path, settings=settings).read_bytes() == CONTENT[LARGE]
    assert leftovers(tmp_path) == []
    sent = world.proxy.gets(LARGE)
    assert len(sent) == 10 + 3
    if fault.kind in ("stall", "truncate", "dribble"):  # what came before the break was kept
        again = [one for one in sent if one.range[0] % QUICK.chunk]
        assert len(again) == (3 if fault.after else 0)


def test_a_burst_of_503_at_every_file(few, world, tmp_path):
    world.proxy.fault = lambda seen, n: Fault("status", status=503) if n < 3 else None
    fetch_plan(world.plan(tmp_path, annotations=False))
    assert (tmp_path / LARGE).read_bytes() == CONTENT[LARGE]


def test_a_server_that_stays_broken(world, tmp_path):
    world.proxy.fault = lambda seen, n: Fault("status", status=503) if n >= 4 else None
    settings = Settings(**{**vars(QUICK), "jobs": 1})
    with pytest.raises(MissingError, match=r"session01.*503.*4 attempts.*run the same command"):
        world.bring(tmp_path, settings=settings)
    assert not (tmp_path / LARGE).exists()
    assert len(world.proxy.seen) == 4 + QUICK.attempts
    world.proxy.reset()
    assert world.bring(tmp_path).read_bytes() == CONTENT[LARGE]
    assert world.proxy.served(LARGE) == 600_000 - 4 * QUICK.chunk  # only the rest came again


def test_no_server_at_all(tmp_path):
    settings = Settings(**{**vars(QUICK), "attempts": 2})
    with pytest.raises(MissingError, match="list of s3://natural-scenes-dataset/.*2 attempts"):
        download_nsd(tmp_path, [1], endpoint="http://127.0.0.1:9", settings=settings)
    with pytest.raises(ConfigError, match="no address of an S3 server"):
        download_nsd(tmp_path, [1], endpoint="nowhere at all", settings=settings)


def test_wrong_bytes_are_fetched_again(world, tmp_path, caplog):
    world.proxy.fault = lambda seen, n: Fault("corrupt", 777) if n == 2 else None
    assert world.bring(tmp_path).read_bytes() == CONTENT[LARGE]
    assert "came with the checksum" in caplog.text and len(world.proxy.seen) == 20


def test_wrong_bytes_again_and_again(few, world, tmp_path):
    small = f"{BETAS}/betas_session02.nii.gz"
    world.proxy.fault = lambda seen, n: Fault("corrupt", 777) if "session01" in seen.path else None
    expected = hashlib.md5(CONTENT[LARGE]).hexdigest()
    with pytest.raises(DataError, match=f"session01.*expected {expected}.*2 times"):
        fetch_plan(world.plan(tmp_path, annotations=False))
    assert not (tmp_path / LARGE).exists() and leftovers(tmp_path) == []
    assert (tmp_path / small).read_bytes() == CONTENT[small]  # the others are not held up


@pytest.mark.parametrize("drop", [set(), {"if-match"}], ids=["412", "If-Match ignored"])
def test_an_object_that_changes_between_ranges(world, tmp_path, caplog, drop):
    later = noise(600_000, 7)
    world.proxy.drop = drop
    world.proxy.fault = lambda seen, n: world.put(LARGE, later) if n == 5 else None
    assert world.bring(tmp_path).read_bytes() == later
    assert "has changed" in caplog.text and leftovers(tmp_path) == []
    entry = json.loads((tmp_path / MANIFEST).read_text())["files"][LARGE]
    assert entry["etag"] == hashlib.md5(later).hexdigest()


def test_an_object_that_does_not_come_to_rest(world, tmp_path):
    world.proxy.fault = lambda seen, n: world.put(LARGE, noise(400_000, n)) if n % 3 == 2 else None
    with pytest.raises(DataError, match="changes on s3://natural-scenes-dataset while"):
        world.bring(tmp_path)
    assert not (tmp_path / LARGE).exists()


def test_a_part_of_an_older_version_is_not_taken_up(world, tmp_path):
    world.proxy.fault = lambda seen, n: Fault("status", status=404) if n == 3 else None
    with pytest.raises(DataError, match=r"session01.* cannot be had .*404"):
        world.bring(tmp_path, settings=Settings(**{**vars(QUICK), "jobs": 1}))
    assert part_path(tmp_path / LARGE).exists()
    world.proxy.reset()
    later = noise(600_000, 8)
    world.put(LARGE, later)
    assert world.bring(tmp_path).read_bytes() == later


def test_a_disk_that_fills_up(world, tmp_path, monkeypatch):
    write, n = os.pwrite, [0]

    def full(*arguments):
        n[0] += 1
        if n[0] > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(*arguments)

    monkeypatch.setattr(transfer.os, "pwrite", full)
    with pytest.raises(MissingError, match="disk of .* is full .* run the same command again"):
        world.bring(tmp_path, settings=Settings(**{**vars(QUICK), "jobs": 1}))
    assert not (tmp_path / LARGE).exists()
    monkeypatch.undo()
    world.proxy.reset()
    chunk, done = read_journal(tmp_path / LARGE, world.item(LARGE).remote)
    assert world.bring(tmp_path).read_bytes() == CONTENT[LARGE]
    assert world.proxy.served(LARGE) == 600_000 - len(done) * chunk and done


def test_a_disk_that_is_too_small(world, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 1000, 1000))
    to = tmp_path / "nsd"
    size = sum(len(content) for key, content in CONTENT.items() if key != COCO_KEY) / 1000
    needs = rf"{len(CONTENT) - 1} files need {size:.1f} kB"
    with pytest.raises(MissingError, match=rf"{needs} in .*nsd.* 1\.0 kB free"):
        fetch_plan(world.plan(to, annotations=False))
    assert not to.exists()


def journal_lines(root: Path) -> int:
    path = journal_path(root / LARGE)
    return len(path.read_text().splitlines()) - 1 if path.exists() else -1


def wait_for(true, seconds=30):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("passed", [1, 6])
def test_killed_in_the_middle_and_resumed(world, tmp_path, passed):
    world.proxy.fault = lambda seen, n: (
        Fault("stall", 5000) if LARGE in seen.path and n >= passed else None
    )
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), world.proxy.url]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: journal_lines(tmp_path) == passed)
        assert not (tmp_path / LARGE).exists()
        process.send_signal(signal.SIGKILL)
    (tmp_path / f".part-{process.pid}-{MANIFEST}").touch()  # as if it had been writing this, too
    world.proxy.reset()
    fetch_plan(world.plan(tmp_path, sessions=[1], annotations=False))
    assert (tmp_path / LARGE).read_bytes() == CONTENT[LARGE]
    assert world.proxy.served(LARGE) == 600_000 - passed * 64 * KIB
    assert leftovers(tmp_path) == []


def test_interrupted_by_the_user(world, tmp_path):
    script = (
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from neurovl.cli import main\nmain()"
    )
    arguments = [
        "download",
        "nsd",
        "--to",
        str(tmp_path),
        "--subjects",
        "1",
        "--sessions",
        "1",
        "--accept-terms",
        "--endpoint",
        world.proxy.url,
        "--no-annotations",
    ]
    world.proxy.fault = lambda seen, n: Fault("stall", 5000) if LARGE in seen.path else None
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        stdout=subprocess.DEVNULL,
    ) as process:
        part, begun = part_path(tmp_path / LARGE), CONTENT[LARGE][:5000]
        wait_for(lambda: part.exists() and part.read_bytes()[:5000] == begun)
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=15)[1]  # a socket waits 30 s
    assert process.returncode == 1
    assert "goes on where it stopped" in errors and "Traceback" not in errors
    assert not (tmp_path / LARGE).exists()


def test_verify_repairs_a_flipped_byte_and_nothing_else(few, world, tmp_path, caplog):
    fetch_plan(world.plan(tmp_path))
    for name in (LARGE, f"{coco.FOLDER.as_posix()}/captions_val2017.json"):
        path = tmp_path / name
        times = path.stat().st_mtime_ns
        content = bytearray(path.read_bytes())
        content[1234] ^= 1
        path.write_bytes(content)
        os.utime(path, ns=(times, times))
    world.proxy.reset()
    fetch_plan(world.plan(tmp_path))
    assert world.proxy.seen == []  # by size and time all is well
    caplog.clear()
    fetch_plan(world.plan(tmp_path, verify=True))
    assert "betas_session01.nii.gz is broken" in caplog.text
    assert "captions_val2017.json is broken" in caplog.text
    assert {one.path.removeprefix(f"/{NSD}/") for one in world.proxy.seen} == {LARGE, COCO_KEY}
    assert (tmp_path / LARGE).read_bytes() == CONTENT[LARGE]
    path = tmp_path / coco.FOLDER / "captions_val2017.json"
    assert path.read_bytes() == ANNOTATIONS[path.name]


def test_files_from_elsewhere_are_checked_before_they_are_kept(few, world, tmp_path, caplog):
    """Another program's files: one whole, one with a wrong byte, one cut short."""
    other, cut = f"{BETAS}/betas_session02.nii.gz", "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
    (tmp_path / BETAS).mkdir(parents=True)
    (tmp_path / cut).parent.mkdir(parents=True)
    (tmp_path / LARGE).write_bytes(CONTENT[LARGE])
    (tmp_path / other).write_bytes(b"x" + CONTENT[other][1:])
    (tmp_path / cut).write_bytes(CONTENT[cut][:-1])
    plan = world.plan(tmp_path, annotations=False)
    states = {item.name: item.state for item in plan.items}
    assert (states[LARGE], states[other], states[cut]) == ("check", "check", "fetch")
    fetch_plan(plan)
    assert all((tmp_path / key).read_bytes() == CONTENT[key] for key in (LARGE, other, cut))
    assert world.proxy.gets(LARGE) == []
    assert "session02.nii.gz is broken" in caplog.text
    assert f"has {len(CONTENT[cut]) - 1} bytes" in caplog.text


def test_a_file_uploaded_in_parts(world, tmp_path):
    key, content = "parts/big.bin", noise(11 * MIB + 5, 3)
    pieces = [content[at : at + 5 * MIB] for at in range(0, len(content), 5 * MIB)]
    upload = world.admin.create_multipart_upload(Bucket=NSD, Key=key, ACL="public-read")["UploadId"]
    where = {"Bucket": NSD, "Key": key, "UploadId": upload}
    done = [
        {"PartNumber": n, "ETag": world.admin.upload_part(**where, PartNumber=n, Body=one)["ETag"]}
        for n, one in enumerate(pieces, 1)
    ]
    world.admin.complete_multipart_upload(**where, MultipartUpload={"Parts": done})
    world.admin.put_object_acl(Bucket=NSD, Key=key, ACL="public-read")
    md5s = b"".join(hashlib.md5(one).digest() for one in pieces)
    etag = f"{hashlib.md5(md5s).hexdigest()}-3"
    assert world.item(key).remote.checksum == etag
    settings = Settings(**{**vars(QUICK), "chunk": 3 * MIB})
    world.proxy.fault = lambda seen, n: Fault("corrupt", 9) if n == 1 else None
    assert world.bring(tmp_path, key, settings).read_bytes() == content
    assert len(world.proxy.gets(key)) == 2 * 4  # the wrong byte was seen
    assert Manifest(tmp_path).files[key]["checked"]


def test_part_sizes_that_the_server_does_not_tell(tmp_path):
    path, content = tmp_path / "file", noise(12 * MIB, 4)
    path.write_bytes(content)

    def etag(size):
        pieces = [
            hashlib.md5(content[at : at + size]).digest() for at in range(0, len(content), size)
        ]
        return f"{hashlib.md5(b''.join(pieces)).hexdigest()}-{len(pieces)}"

    assert possible_parts(12 * MIB, 2) == [8 * MIB, 10 * MIB, 6 * MIB]
    assert examine(path, 12 * MIB, etag(8 * MIB)).whole is True
    assert examine(path, 12 * MIB, etag(6 * MIB)).whole is True
    assert examine(path, 12 * MIB, etag(7 * MIB + 1)).whole is None  # unusual: cannot be said
    assert examine(path, 12 * MIB, etag(7 * MIB + 1), lambda: 7 * MIB + 1).whole is True
    wrong = "0" * 32 + "-2"
    assert examine(path, 12 * MIB, wrong, lambda: 8 * MIB).whole is False
    assert examine(path, 12 * MIB, "no md5").whole is None
    assert examine(path, 12 * MIB + 1, hashlib.md5(content).hexdigest()).whole is False


def test_a_checksum_that_cannot_be_compared_is_said_once(few, world, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(checksums, "PARTS", ())
    monkeypatch.setattr(
        download,
        "_list",
        lambda *a, _list=download._list: {
            key: Remote(one.key, one.size, one.etag, "opaque") for key, one in _list(*a).items()
        },
    )
    fetch_plan(world.plan(tmp_path, annotations=False))
    assert caplog.text.count("could not be compared with the server's") == 1
    path = tmp_path / LARGE
    path.write_bytes(b"x" + CONTENT[LARGE][1:])
    fetch_plan(world.plan(tmp_path, annotations=False, verify=True))  # the manifest knows
    assert path.read_bytes() == CONTENT[LARGE]


@pytest.mark.parametrize("kind", ["reset", "truncate", "stall"])
def test_coco_goes_on_where_it_broke(few, world, tmp_path, kind):
    world.proxy.fault = lambda seen, n: (
        Fault(kind, 9000) if COCO_KEY in seen.path and n == 1 else None
    )
    settings = Settings(**{**vars(QUICK), "read_timeout": 0.5})
    fetch_plan(world.plan(tmp_path, settings=settings))
    came = {path.name: path.read_bytes() for path in (tmp_path / coco.FOLDER).iterdir()}
    assert came == ANNOTATIONS


@pytest.mark.parametrize(
    "content",
    [
        b"no archive at all",
        archive({coco.FILES[0]: b"{}"}),
        CONTENT[COCO_KEY][:9000] + b"x" + CONTENT[COCO_KEY][9001:],
    ],
    ids=["no zip", "a file missing", "wrong CRC"],
)
def test_a_broken_archive(few, world, tmp_path, content):
    world.put(COCO_KEY, content)
    try:
        with pytest.raises(DataError, match="not COCO's archive of annotations, or broken"):
            fetch_plan(world.plan(tmp_path))
    finally:
        world.put(COCO_KEY, CONTENT[COCO_KEY])
    assert not [p for p in (tmp_path / coco.FOLDER).iterdir() if p.name not in coco.FILES[:1]]
    fetch_plan(world.plan(tmp_path))
    came = {path.name: path.read_bytes() for path in (tmp_path / coco.FOLDER).iterdir()}
    assert came == ANNOTATIONS


def test_cocos_known_checksum_is_compared(few, world, tmp_path, monkeypatch):
    monkeypatch.setattr(coco, "COCO", world.coco)
    with pytest.raises(DataError, match=f"expected {coco.MD5}"):
        fetch_plan(world.plan(tmp_path))
    assert list((tmp_path / coco.FOLDER).iterdir()) == []


def test_no_coco_server(few, world, tmp_path):
    with pytest.raises(MissingError, match="nothing.zip.*404.*--no-annotations"):
        world.plan(tmp_path, coco=f"{world.proxy.url}/{NSD}/nothing.zip")
    for url in ("nowhere", "http://[broken"):
        with pytest.raises(MissingError, match="cannot be had from"):
            world.plan(tmp_path, coco=url)


def test_no_credentials_are_looked_for(world, tmp_path):
    """Neither the user's files, nor the environment, nor a cloud machine's metadata service."""
    aws = tmp_path / "home/.aws"
    aws.mkdir(parents=True)
    for name in ("config", "credentials"):
        (aws / name).write_text("[default\nthis is no configuration file")
    script = (
        "import sys\nseen = []\n"
        "sys.addaudithook(lambda event, a: seen.append((event, str(a)))"
        " if event in ('open', 'socket.connect', 'subprocess.Popen') else None)\n"
        + SCRIPT
        + "for event, a in seen:\n"
        "    if event != 'open' or '.aws' in a: print(event, a)\n"
    )
    variables = {
        **os.environ,
        "HOME": str(tmp_path / "home"),
        "AWS_PROFILE": "nobody",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "hidden",
        "AWS_DEFAULTS_MODE": "auto",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_MAX_ATTEMPTS": "7",
    }
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "nsd"), world.proxy.url],
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    port = world.proxy.url.rsplit(":", 1)[1]
    events = done.stdout.splitlines()
    assert events and all(f"('127.0.0.1', {port})" in line for line in events), done.stdout
    headers = {name.lower() for one in world.proxy.seen for name in one.headers}
    assert headers & {"authorization", "x-amz-security-token", "x-amz-date"} == set()


def test_the_bucket_is_the_public_one_whatever_is_configured(tmp_path, monkeypatch):
    host = "natural-scenes-dataset.s3.us-east-2.amazonaws.com"
    (tmp_path / "netrc").write_text(f"machine {host} login user password hidden")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    asked = []

    def send(adapter, request, **options):
        asked.append(request)
        raise requests.ConnectionError("no network in this test")

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    bucket = Bucket(NSD, "us-east-2", None, QUICK)
    for ask in (bucket.head, bucket.list):
        with pytest.raises(Broken, match="no network"):
            ask("a/b c/")
    query = "list-type=2&prefix=a%2Fb+c%2F&delimiter=%2F"
    assert [one.url for one in asked] == [f"https://{host}/a/b%20c/", f"https://{host}/?{query}"]
    assert not any("Authorization" in one.headers for one in asked)


def command(world, *arguments):
    everything = [
        "download",
        "nsd",
        *arguments,
        "--endpoint",
        world.proxy.url,
        "--coco",
        world.coco,
    ]
    return CliRunner().invoke(app, everything)


def test_a_dry_run_writes_nothing(world, tmp_path):
    done = command(
        world, "--to", str(tmp_path / "nsd"), "--subjects", "1", "--sessions", "2", "--dry-run"
    )
    assert done.exit_code == 0 and not list(tmp_path.iterdir()) and world.proxy.seen == []
    assert "naturalscenesdataset.org" in done.output
    rows = {line.split()[0]: line.split()[1:] for line in done.output.splitlines() if line.split()}
    betas = [content for key, content in CONTENT.items() if "nsddata_betas" in key]
    size = f"{sum(map(len, betas)) / 1000:.1f} kB".split()
    assert rows["betas"] == [str(len(betas)), *size, "0", "bytes", "0", "bytes", *size]
    assert rows["all"][0] == str(len(CONTENT))


def test_the_command_fetches_once_the_terms_are_accepted(few, world, tmp_path):
    arguments = ["--to", str(tmp_path), "--subjects", "1", "--sessions", "1-1", "--jobs", "2"]
    refused = command(world, *arguments)
    assert refused.exit_code == 1 and "--accept-terms" in str(refused.exception)
    assert list(tmp_path.iterdir()) == []
    done = command(world, *arguments, "--accept-terms")
    assert done.exit_code == 0, done.output
    assert done.output.index("Data Access Agreement") < done.output.index("to fetch")
    assert (tmp_path / LARGE).read_bytes() == CONTENT[LARGE]
    assert not (tmp_path / f"{BETAS}/betas_session02.nii.gz").exists()


def test_an_indispensable_file_that_the_bucket_lacks(world, tmp_path):
    with pytest.raises(MissingError, match=r"session03.nii.gz and 1 more indispensable"):
        world.plan(tmp_path, sessions=4)
    with pytest.raises(MissingError, match=r"does not have .*betas_fithrf/betas_session01.hdf5"):
        world.plan(tmp_path, sessions=1, betas="betas_fithrf", form="hdf5")


def test_a_simulation_is_left_alone(world, tmp_path):
    (tmp_path / "SIMULATED.json").write_text("{}")
    with pytest.raises(ConfigError, match="simulated recordings"):
        world.plan(tmp_path)


def test_one_download_at_a_time(few, world, tmp_path):
    plan = world.plan(tmp_path, annotations=False)
    with sole_writer(tmp_path), pytest.raises(ConfigError, match="another download is writing"):
        fetch_plan(plan)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made or opened as a folder"):
        fetch_plan(world.plan(tmp_path / "file", annotations=False))


def test_a_folder_in_the_place_of_a_file(few, world, tmp_path):
    (tmp_path / LARGE).mkdir(parents=True)
    with pytest.raises(DataError, match="session01.nii.gz is a folder"):
        world.plan(tmp_path)


def test_a_manifest_that_cannot_be_read(few, world, tmp_path, caplog):
    fetch_plan(world.plan(tmp_path, annotations=False))
    (tmp_path / MANIFEST).write_text('{"files": {"a": 1')
    world.proxy.reset()
    fetch_plan(world.plan(tmp_path, annotations=False))
    assert "every file is checked anew" in caplog.text and world.proxy.seen == []
    assert Manifest(tmp_path).files[LARGE]["size"] == 600_000


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b'{"size": 600000, "etag": "other", "chunk": 65536}\n0\n', b"[]\n0\n1\n"],
)
def test_a_journal_that_cannot_be_trusted(tmp_path, damage):
    remote = Remote("key", 600_000, "etag")
    part = PartFile(tmp_path / "file", remote, 65536)
    with open(os.dup(part.descriptor()), "wb") as file:
        part.complete(3, file.fileno())
    part.close()
    assert read_journal(tmp_path / "file", remote) == (65536, {3})
    journal_path(tmp_path / "file").write_bytes(damage)
    assert read_journal(tmp_path / "file", remote) is None
    again = PartFile(tmp_path / "file", remote, 65536)
    assert again.missing() == list(range(10))
    again.close()


def test_a_torn_line_of_a_journal_counts_for_nothing(tmp_path):
    remote = Remote("key", 100, "etag")
    part = PartFile(tmp_path / "file", remote, 5)
    with open(os.dup(part.descriptor()), "wb") as file:
        part.complete(3, file.fileno())
    part.close()
    with open(journal_path(tmp_path / "file"), "ab") as file:
        file.write(b"1")  # of "12\n"
    again = PartFile(tmp_path / "file", remote, 7)
    assert (again.chunk, again.done) == (5, {3})
    with open(os.dup(again.descriptor()), "wb") as file:
        again.complete(12, file.fileno())
    again.close()
    assert read_journal(tmp_path / "file", remote) == (5, {3, 12})


def test_which_files():
    files = nsd_files(range(1, 9))
    betas = [file for file in files if "betas_session" in file.path.name]
    assert len(betas) == 40 + 40 + 32 + 30 + 40 + 32 + 40 + 30 and all(f.needed for f in betas)
    assert len({file.path for file in files}) == len(files)
    names = [
        file.path.as_posix() for file in nsd_files(["subj04", 4], [1, 30], "betas_fithrf", "hdf5")
    ]
    folder = "nsddata_betas/ppdata/subj04/func1pt8mm/betas_fithrf"
    assert [name for name in names if "session" in name] == [
        f"{folder}/betas_session01.hdf5",
        f"{folder}/betas_session30.hdf5",
    ]
    assert len([f for f in nsd_files([4], 40) if "session" in f.path.name]) == 30


def test_further_sessions_come_with_what_their_readers_open(tmp_path):
    core = {file.path for file in nsd_files([1, 2], 1)}
    files = {f.path for f in nsd_files([1, 2], 1, tests=("imagery", "synthetic"))} - core
    made = simulate(
        tmp_path, subjects=[1, 2], sessions=1, scale=8.0, tests=("imagery", "synthetic")
    )
    names = ("*imagery*", "*nsdsynthetic*")
    written = {p.relative_to(made) for name in names for p in made.rglob(name) if p.is_file()}
    written |= {p.relative_to(made) for p in made.rglob("rawtargetimages/*/*.png")}
    written = {p for p in written if "betas" not in p.name or p.name.endswith(".nii.gz")}
    assert files <= written
    left = {path.stem.split("_", 2)[2] for path in written - files}
    assert left == {"visC", "imgC_1", "imgC_2"}  # words, which have no picture
    with pytest.raises(ConfigError, match="the test is 'dreams'"):
        nsd_files([1], 1, tests=("dreams",))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([9],), "has 1 to 8"),
        (([],), "no subject was asked for"),
        (([1], 0), "expected a number from 1 to 40"),
        (([1], 41), "expected a number from 1 to 40"),
        (([1], [0, 1]), "numbers from 1 to 40"),
        (([1], []), "numbers from 1 to 40"),
        (([4], [31, 32]), "subj04 has 30 sessions, and none of those asked for"),
        (([1], 1, "betas_assumehrf"), "expected one of betas_fithrf_GLMdenoise_RR, betas_fithrf"),
        (([1], 1, "betas_fithrf", "mgh"), "expected one of nii.gz, hdf5"),
    ],
)
def test_what_cannot_be_asked_for(arguments, words):
    with pytest.raises(ConfigError, match=words):
        nsd_files(*arguments)


def test_sessions_as_they_are_typed():
    assert session_numbers(None) is None and session_numbers(" 40 ") == 40
    assert session_numbers("1-3,7") == [1, 2, 3, 7] and session_numbers("7-7") == [7]
    for text in ("", "a", "1-", "3-1", "1,,2", "-1", "1-3-5"):
        with pytest.raises(ConfigError, match="numbers and ranges such as 1-3,7"):
            session_numbers(text)


def test_sizes_as_they_are_said():
    assert readable(999) == "999 bytes" and readable(1536) == "1.5 kB"
    assert readable(39.6e9) == "39.6 GB" and readable(999_999) == "1.0 MB"
    assert readable(2.5e15) == "2500.0 TB"


def test_a_web_server_without_byte_ranges(world, tmp_path):
    world.proxy.drop = {"range"}
    web = Web(QUICK)
    item = Item(web, web.head(world.coco), "file.zip", "COCO")
    with pytest.raises(DataError, match="answers 200 to a byte range, expected 206"):
        Transfer(tmp_path, Manifest(tmp_path), QUICK).fetch([item])
