"""The app's kernels: one for each page that is open, no more than there are places. The app's server loads this by name."""

import asyncio
from typing import Any

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.web import HTTPError
from traitlets import Float, Int


class Places(AsyncMappingKernelManager):
    """Starts a kernel for a page where a place is free, and refuses the page in one sentence where none becomes free.

    Attributes
    ----------
    places : int
        Kernels at the same time.
    patience : float
        How long a page waits for a place, in s: one that is loaded again leaves its old kernel at the same moment.
    """

    places = Int(8, min=1, help="Kernels at the same time.").tag(config=True)
    patience = Float(5.0, help="How long a page waits for a place, in s.").tag(config=True)

    _starting = 0

    async def start_kernel(self, **settings: Any) -> str:
        """Start a kernel and return its id.

        Raises
        ------
        tornado.web.HTTPError
            All places are taken (503).
        """
        end = asyncio.get_running_loop().time() + self.patience
        while len(self) + self._starting >= self.places:
            if asyncio.get_running_loop().time() >= end:
                raise HTTPError(
                    503,
                    reason=f"all {self.places} places of this app are taken: close a page of it and load this one again, "
                    "or start it with more: neurovl explore --places N",
                )
            await asyncio.sleep(0.1)
        self._starting += 1
        try:
            return await super().start_kernel(**settings)
        finally:
            self._starting -= 1


def greet(page: Any, notebook: Any, cwd: str) -> None:
    """Give a page the cookie without which its word that it is being closed is refused, and its kernel stays.

    Voila's pages send it with that word, and Voila does not set it. Called for each page before its kernel starts.
    """
    page.xsrf_token  # noqa: B018 - reading it sets the cookie
