"""What a gateway has for the workers beside it, as one thing that starts and stops.

One `Team` belongs to one gateway.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from resender.aio import Clock, Tasks
from resender.core.access.refused import RecentRefused
from resender.core.cluster.asks import Question
from resender.core.cluster.worker import INNER_HEADER, INSIDER, Worker, ask_socket, crew_socket, inner_value
from resender.market import MarketCache, Outcome
from resender.metrics import Metrics
from resender.savings import Savings
from resender.upstream.streams.session import StreamSession
from resender.workers.asking import Asks, AskServer
from resender.workers.crew import Crew, Member


class Team:
    """Both ends: the collector has `crew` and what answers, the others have `asks` and what tells.

    Shape: `figures` and `weights` as `Member`.
    """

    def __init__(
        self,
        worker: Worker,
        folder: Path,
        cache: MarketCache | None,
        *,
        has_cache: bool,
        metrics: Metrics,
        savings: Savings,
        refused: RecentRefused,
        figures: Callable[[], tuple[int, int, float]],
        weights: Callable[[], list[dict[str, Any]]],
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self.asks: Asks | None = None
        self.crew: Crew | None = None
        self._server: AskServer | None = None
        self._member: Member | None = None
        if worker.is_collector:
            self.crew = Crew(
                crew_socket(folder), metrics=metrics, savings=savings, refused=refused, clock=clock
            )
            if cache is not None:
                self._server = AskServer(ask_socket(folder), _answerer(cache), clock, tasks)
            return
        if has_cache:
            self.asks = Asks(ask_socket(folder), clock, tasks)
        self._member = Member(
            crew_socket(folder), worker.number,
            metrics=metrics, savings=savings, refused=refused,
            figures=figures, weights=weights, clock=clock, tasks=tasks,
        )  # fmt: skip

    def rows(self) -> list[dict[str, Any]]:
        """Describe the other workers, see `Crew.rows`; only the collector knows them."""
        return self.crew.rows() if self.crew is not None else []

    def weights(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Return the weight of the other workers, see `Crew.weights`."""
        return self.crew.weights() if self.crew is not None else {}

    async def start(self) -> None:
        if self.crew is not None:
            await self.crew.start()
        if self._server is not None:
            await self._server.start()
        if self.asks is not None:
            self.asks.start()
        if self._member is not None:
            self._member.start()

    async def stop(self) -> None:
        if self.asks is not None:
            self.asks.stop()
        if self._server is not None:
            await self._server.stop()
        if self.crew is not None:
            await self.crew.stop()


def open_inner(worker: Worker, mark: str = "") -> Callable[[str, float], StreamSession]:
    """Return what opens streams of the collector for a worker. Shape: `mark` as `FOR_OWN_CLIENTS`."""
    headers = {INNER_HEADER: inner_value(worker, f"{INSIDER}{worker.number}{mark}")}
    return lambda url, timeout_s: StreamSession(url, timeout_s, headers=headers)


def _answerer(cache: MarketCache) -> Callable[[Question], Outcome]:
    def answer(question: Question) -> Outcome:
        return cache.ask(
            question.path, question.query, packed=question.packed, max_age_ms=question.max_age_ms
        )

    return answer
