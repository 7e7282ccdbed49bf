"""METEOR's Java process over its line protocol. Leaves out where Java and the jar are, and what to ask."""

import atexit
import contextlib
import subprocess
import tempfile

from neurovl.errors import MissingError


class Meteor:
    """METEOR's process, which ends with this one: it takes seconds to read its tables, and keeps nothing of a question."""

    _now: "Meteor | None" = None

    def __init__(self, java: list[str], jar: str) -> None:
        self.started = (java, jar)
        self.errors = tempfile.TemporaryFile(mode="w+", encoding="utf-8")  # noqa: SIM115 (`stop`)
        command = [*java, "-Xmx2G", "-jar", jar, "-", "-", "-stdio", "-l", "en", "-norm"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.errors}
        self.process = subprocess.Popen(command, encoding="utf-8", **pipes)

    @classmethod
    def running(cls, java: list[str], jar: str) -> "Meteor":
        """The process that runs, or a new one."""
        now = cls._now
        if now is None or now.started != (java, jar) or now.process.poll() is not None:
            cls.stop()
            cls._now = cls(java, jar)
        return cls._now

    @classmethod
    def stop(cls) -> None:
        """End the process, if one runs."""
        now, cls._now = cls._now, None
        if now is not None:
            with contextlib.suppress(OSError):
                now.process.stdin.close()
            now.process.kill()
            now.process.wait()
            now.process.stdout.close()
            now.errors.close()

    def ask(self, line: str, answers: int = 1) -> list[str]:
        """The lines that a line is answered with."""
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            return [self.process.stdout.readline().strip() for _ in range(answers)]
        except OSError:
            raise self.failed() from None

    def failed(self) -> MissingError:
        """What went wrong, in a sentence; the process is ended."""
        self.process.kill()
        self.process.wait()
        self.errors.seek(0)
        last = (self.errors.read().strip().splitlines() or ["no message"])[-1]
        self.stop()
        return MissingError(f"METEOR ended with an error in Java: {last}")


atexit.register(Meteor.stop)
