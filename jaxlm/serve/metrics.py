"""What Prometheus is told: requests, seconds, queue, batches, tokens. In: events. Out: the text behind /metrics.

Labels are names of routes and models that exist, never what a client typed: their number is bounded.
"""

from jaxlm.data.corpus import extras

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """One set a server, so that a process may hold several."""

    def __init__(self) -> None:
        library = extras.require("prometheus_client", "serve", "`jaxlm serve`")
        self._library = library
        self._registry = registry = library.CollectorRegistry()
        library.ProcessCollector(registry=registry)

        def of(kind, name, what, labels=(), **more):
            return kind(f"jaxlm_{name}", what, labels, registry=registry, **more)

        counter, gauge, histogram = library.Counter, library.Gauge, library.Histogram
        self.requests = of(
            counter, "requests", "Requests by route, model and status.", ("route", "model", "code")
        )
        self.seconds = of(
            histogram, "request_seconds", "From request to end of answer.", ("route",), buckets=_SECONDS
        )
        self.first = of(histogram, "first_token_seconds", "From request to first token.", buckets=_SECONDS)
        self.waiting = of(gauge, "queue_rows", "Rows that wait for the device.")
        self.under_way = of(gauge, "requests_under_way", "Requests that were accepted and not answered.")
        self.batches = of(histogram, "batch_rows", "Rows that were computed together.", buckets=_ROWS)
        self.tokens = of(counter, "tokens", "Tokens read, written, and computed as padding.", ("kind",))
        self.not_finite = of(counter, "not_finite", "Answers with NaN or infinity, which were refused.")
        self.dropped = of(counter, "dropped_rows", "Rows whose client was gone before they were computed.")
        self.ready = of(gauge, "ready", "1 when all programs are compiled.")

    def text(self) -> tuple[bytes, str]:
        """What /metrics says, and its media type."""
        return self._library.generate_latest(self._registry), self._library.CONTENT_TYPE_LATEST
