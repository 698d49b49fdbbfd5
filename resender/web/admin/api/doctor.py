"""The doctor button: the checks of `python run.py doctor`, line by line as they are done.

What is checked is `resender.doctor`'s. One run at a time, which `Live` remembers.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import orjson

from resender.aio import end_tasks
from resender.doctor import Examination, examine
from resender.errors import Conflict
from resender.web.admin.long_answers import LongHandler


class DoctorHandler(LongHandler):
    """`POST /admin/api/doctor`."""

    async def post(self) -> None:
        if self.live.is_examining:
            msg = "The doctor is at work already; wait for that run to end."
            raise Conflict(msg, {"reason": "doctor_busy"})
        self.live.is_examining = True
        try:
            await self.audit("doctor.run", "upstreams")
            as_events = "text/event-stream" in self.request.headers.get("Accept", "")
            kind = "text/event-stream; charset=utf-8" if as_events else "application/x-ndjson"
            self.set_header("Content-Type", kind)
            self.set_header("X-Accel-Buffering", "no")
            task = self.services.tasks.spawn(self._examine(as_events), name="doctor-run")
            await asyncio.wait({task, self.gone}, return_when=asyncio.FIRST_COMPLETED)
            if task.done() and not task.cancelled() and task.exception() is None:
                return
            # The client has left, or the run was cut short: a whole answer would be a lie.
            await end_tasks([task])
            self.break_off()
        finally:
            self.live.is_examining = False

    async def _examine(self, as_events: bool) -> None:
        frame = b"event: result\ndata: %b\n\n" if as_events else b"%b\n"
        # An empty line is no line to either reader, but it shows at once that the run has begun.
        if not await self.push(b"\n"):
            return
        found = examine(self.services.config, ssl_context=self.services.ssl_context)
        async with aclosing(found) as results:  # type: ignore[type-var]
            async for result in results:
                if not await self.push(frame % orjson.dumps(shown(result))):
                    return
        if as_events:
            await self.push(b"event: end\ndata: {}\n\n")


def shown(result: Examination) -> dict[str, Any]:
    """Return what was found about one upstream as the API shows it."""
    return {
        "market": result.market.value,
        "url": result.url,
        "egress": result.egress,
        "dns_ms": _rounded(result.dns_ms),
        "tcp_ms": _rounded(result.tcp_ms),
        "tls_ms": _rounded(result.tls_ms),
        "ping_ms": _rounded(result.ping_ms),
        "skew_ms": _rounded(result.skew_ms),
        "stream_ms": _rounded(result.stream_ms),
        "used_weight": result.used_weight,
        "status": result.status,
        "verdict": result.verdict,
        "ok": result.is_ok,
    }


def _rounded(value: float | None) -> float | None:
    return round(value, 1) if value is not None else None
