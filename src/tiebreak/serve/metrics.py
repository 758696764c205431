"""Metrics for Prometheus."""

from collections.abc import Collection

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tiebreak.serve.batching import Batcher

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class _OfBatcher(Collector):
    """The figures that a batcher keeps itself."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher

    def collect(self) -> list[Metric]:
        batcher = self._batcher
        return [
            CounterMetricFamily("tiebreak_pairs_judged", "Pairs judged.", value=batcher.judged),
            CounterMetricFamily("tiebreak_tokens", "Tokens read.", value=batcher.tokens),
            CounterMetricFamily("tiebreak_batches", "Batches of pairs.", value=batcher.batches),
            GaugeMetricFamily("tiebreak_pairs_in_flight", "Pairs not answered.", value=batcher.admitted),
            GaugeMetricFamily("tiebreak_pairs_limit", "Pairs admitted at once.", value=batcher.most_pairs),
        ]


class Metrics:
    """Requests by path and status, their seconds, and the figures of a batcher and the process.

    paths: those counted each by itself; all others count as one, so that nobody can make up more.
    """

    def __init__(self, batcher: Batcher) -> None:
        self.paths: Collection[str] = ()
        self._registry = CollectorRegistry()
        self._registry.register(_OfBatcher(batcher))
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "tiebreak_requests", "Requests answered.", ["path", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "tiebreak_request_seconds",
            "Seconds to an answer.",
            ["path"],
            buckets=_SECONDS,
            registry=self._registry,
        )

    def count(self, path: str, status: int, seconds: float) -> None:
        """Count an answer."""
        path = path if path in self.paths else "other"
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
