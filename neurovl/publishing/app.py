"""The interactive notebook as an app for this machine's user alone: on 127.0.0.1, behind a token, with kernels of this interpreter."""

import contextlib
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from neurovl.errors import ConfigError, NeurovlError

HOST, TRIED = "127.0.0.1", 50  # ports, from the one that is asked for on
PLACES = 8  # pages at the same time; with the tiny models each takes 0.7 GB
LEFT = 120.0  # seconds after which a kernel that no page is connected to is ended


def free_port(port: int) -> int:
    """The first free port from one on.

    Raises
    ------
    ConfigError
        There is none among the next 50.
    """
    for one in range(port, min(port + TRIED, 65536)):
        with socket.socket() as taken:
            try:
                taken.bind((HOST, one))
            except OSError:
                continue
            return one
    raise ConfigError(
        f"no port from {port} to {port + TRIED - 1} is free on {HOST}, expected one: name another with --port"
    )


@contextlib.contextmanager
def serving(
    notebook: Path, run: Path, port: int, places: int = PLACES, left: float = LEFT
) -> Iterator[tuple[subprocess.Popen, str]]:
    """A Voila server for a notebook about a run, in a process of its own that answers; the address with its token.

    Each page that is opened has a kernel of its own, which ends when the page is closed; one whose page was lost, as the
    browser ended or the network broke, ends a while after. The token is drawn anew each time. It is handed over in the
    environment, as other users of the machine can read arguments.

    Parameters
    ----------
    notebook
        What a page shows.
    run
        The run folder; the notebook finds it in ``NEUROVL_RUN``.
    port
        The first port that is tried.
    places
        Pages at the same time; one more is refused in a sentence (see `neurovl.publishing.places`).
    left
        Seconds after which a kernel that no page is connected to is ended.

    Raises
    ------
    NeurovlError
        The server ended before it answered.
    """
    from ipykernel.kernelspec import get_kernel_dict

    token, port = secrets.token_urlsafe(32), free_port(port)
    with tempfile.TemporaryDirectory() as folder:
        # The first kernel named python3 on the path is taken: this interpreter's, whatever its user has installed.
        spec = Path(folder) / "kernels" / "python3" / "kernel.json"
        spec.parent.mkdir(parents=True)
        spec.write_text(json.dumps(get_kernel_dict()))
        # Voila's settings are those below; what lies in the user's folders is not read.
        (Path(folder) / "voila.py").write_text(
            "from neurovl.publishing.places import greet\nc.VoilaConfiguration.prelaunch_hook = greet\n"
        )
        _templates_without_network(Path(folder) / "voila" / "templates")
        path = os.pathsep.join(filter(None, (folder, os.environ.get("JUPYTER_PATH"))))
        command = [sys.executable, "-m", "voila", str(notebook), f"--port={port}", "--no-browser"]
        command += [f"--Voila.ip={HOST}", "--token", "--Voila.port_retries=0"]
        command += [f"--Voila.config_file_paths={[folder]}"]
        kernels = "neurovl.publishing.places.Places"
        command += [f"--VoilaConfiguration.multi_kernel_manager_class={kernels}"]
        command += [
            f"--Places.places={places}",
            f"--Places.cull_idle_timeout={max(1, round(left))}",
        ]
        command += [f"--Places.cull_interval={max(1, round(left / 4))}"]
        env = {"NEUROVL_RUN": str(run.resolve()), "JUPYTER_TOKEN": token, "JUPYTER_PATH": path}
        process = subprocess.Popen(command, env=os.environ | env)
        try:
            _wait_for(process, port)
            yield process, f"http://{HOST}:{port}/?token={token}"
        finally:
            process.terminate()
            process.wait()


def _templates_without_network(folder: Path) -> None:
    """Write those of Voila's templates that load styles from a network, without them: icons that the explorer has none of."""
    from jupyter_core.paths import jupyter_path

    for place in map(Path, jupyter_path("voila", "templates")):
        for template in [*place.glob("lab/*.*"), *place.glob("base/*.*")]:
            text = template.read_text(encoding="utf-8")
            here = re.sub(r"<link\b[^>]*https?://[^>]*>", "", text)
            copy = folder / template.relative_to(place)
            if here != text and not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_text(here, encoding="utf-8")


def _wait_for(process: subprocess.Popen, port: int) -> None:
    """Return when a server answers at its port."""
    while process.poll() is None:
        with socket.socket() as client:
            if client.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.1)
    raise NeurovlError(
        f"the app ended with code {process.returncode} before it answered, expected it on port {port}; see above"
    )
