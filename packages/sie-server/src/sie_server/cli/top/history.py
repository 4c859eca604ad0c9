"""The newest samples of a server."""

from collections import deque

from sie_server.cli.top.sample import Between, Sample

# Window of percentiles and error rates, long enough for steady figures with few requests.
_WINDOW_S = 10.0
_MOST_SAMPLES = 512


class History:
    """The samples of the server at `url`, oldest first. gone: why there are none at the moment, if there are none."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.samples: deque[Sample] = deque(maxlen=_MOST_SAMPLES)
        self.gone: str | None = None

    def add(self, said: Sample | str) -> None:
        """Add a sample, or the reason why there is none."""
        if isinstance(said, str):
            self.gone = said
            return
        if self.samples and self.samples[-1].frame["server"]["pid"] != said.frame["server"]["pid"]:
            self.samples.clear()  # another process counts from zero
        self.gone = None
        self.samples.append(said)

    @property
    def last(self) -> Between:
        """From the last but one sample to the last one. There must be a sample."""
        now = self.samples[-1]
        return Between(self.samples[-2] if len(self.samples) > 1 else now, now)

    @property
    def window(self) -> Between:
        """From the newest sample that is at least ten seconds old, or the oldest, to the last one."""
        now = self.samples[-1]
        old = (s for s in reversed(self.samples) if now.moment - s.moment >= _WINDOW_S)
        return Between(next(old, self.samples[0]), now)

    @property
    def state(self) -> tuple[str, str]:
        """The state of the server in words, and its color."""
        if self.gone is not None:
            return "lost", "red"
        if not self.samples:
            return "connecting", "dim"
        frame = self.samples[-1].frame
        if frame.get("saturated"):
            return "queue full", "red"
        return ("ready", "green") if frame["ready"] else ("not ready", "yellow")
