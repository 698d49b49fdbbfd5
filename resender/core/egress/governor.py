"""Which way out takes a call, and whether it may leave at all.

Pure: `Governor` is told calls, answers and times, and says where to send or why not. It opens
nothing and knows no clock. It owns the budgets, the closed pools and the ways set aside; one
`Governor` belongs to one gateway and is used on the event loop only.

Rules: an unsigned call goes to the way with most weight left; a call with an API key sticks to
one way, by its pin or by its key. Nothing is sent into a pool that is closed after a 429 or 418.
A call that does not fit is refused here, before anything left. Order calls have a reserve of
their own; the gateway's own reads come last.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from resender.core.binance.markets import Market
from resender.core.egress.budget import Budget, RollingBudget, WindowClock
from resender.core.egress.client_shares import ClientShares
from resender.core.egress.spec import EgressSpec, Pins
from resender.core.egress.state import (
    POOLS_OF,
    SAPI,
    Aside,
    Closure,
    Grant,
    Limits,
    Way,
    ban_text,
    limit_text,
    pool_group,
)
from resender.core.weights.table import EXTRA_LIMITS, SAPI_UID_POOL, Charge
from resender.errors import EgressExhausted

# Whose call it is: how much of a pool it may fill.
ORDER, CLIENT, OWN = 0, 1, 2
# Own reads leave this part of what the clients may use.
_OWN_PART = 0.95
_MAX_KEYS = 4096
_MAX_SAPI_POOLS = 2000
# How long a way that cannot connect is left alone: growing from the first to the last.
_ASIDE_FIRST_S = 0.5
_ASIDE_MAX_S = 30.0
# So long one call tries a way that was left alone before another one may.
_TRIAL_S = 5.0


class Governor:
    """The weights of all ways out."""

    def __init__(
        self,
        specs: Sequence[EgressSpec],
        clock: WindowClock,
        *,
        limits: Limits | None = None,
        pins: Pins | None = None,
        order_reserve: float = 0.1,
        client_share: float = 1.0,
    ) -> None:
        self.clock = clock
        self.ways = [Way(spec) for spec in specs]
        self.by_name = {way.name: way for way in self.ways}
        self._limits = limits or Limits()
        self._pins = pins or Pins()
        self._parts = (1.0, 1.0 - order_reserve, (1.0 - order_reserve) * _OWN_PART)
        self._by_market = {market: [way for way in self.ways if way.spec.serves(market)] for market in Market}
        self._known_limits: dict[str, int] = {}
        self._key_ways: dict[tuple[Market, bytes], list[Way]] = {}
        self._key_pauses: dict[tuple[str, bytes], float] = {}
        self.clients = ClientShares(client_share)
        # Calls refused here, by reason; read by the metrics.
        self.refused: dict[str, int] = {"weight": 0, "closed": 0, "banned": 0, "share": 0, "orders": 0}
        self.moved = 0

    # --- limits ----------------------------------------------------------------------------

    def limit(self, pool: str) -> int:
        """Return the limit of a pool at one way out."""
        return self._known_limits.get(pool) or self._limits.of(pool)

    def set_limit(self, pool: str, limit: int) -> None:
        """Take a limit that exchangeInfo told."""
        if limit < 1:
            return
        self._known_limits[pool] = limit
        for way in self.ways:
            if pool in way.budgets:
                way.budgets[pool].limit = limit

    def _budget(self, way: Way, pool: str) -> Budget:
        budget = way.budgets.get(pool)
        if budget is None:
            if len(way.budgets) >= _MAX_SAPI_POOLS:  # paths are the client's words
                for name in [name for name, b in way.budgets.items() if not b.reserved]:
                    if name.startswith(SAPI):
                        del way.budgets[name]
            budget = way.budgets[pool] = Budget(self.limit(pool), self._limits.window_ms)
        return budget

    def _rolling(self, way: Way, name: str) -> RollingBudget:
        found = way.rolling.get(name)
        if found is None:
            found = way.rolling[name] = RollingBudget(*EXTRA_LIMITS[name])
        return found

    # --- choosing --------------------------------------------------------------------------

    def ways_of(self, market: Market) -> list[Way]:
        return self._by_market[market]

    def admit(
        self,
        market: Market,
        charge: Charge,
        mono: float,
        *,
        key: str | None = None,
        client: str = "",
        priority: int = CLIENT,
        but: Iterable[Way] = (),
    ) -> Grant:
        """Choose a way for a call and reserve its weight there.

        Shape: `key` is the API key the call carries; `client` the client's address, empty for own
            reads; `but` are ways that have failed this call already.
        Raises: EgressExhausted, with nothing reserved.
        """
        low_ms, high_ms = self.clock.low_ms(mono), self.clock.high_ms(mono)
        if charge.is_order:
            priority = ORDER
        part = self._parts[priority]
        pool = counter = charge.pool
        ways = self._by_market[market]
        if key is not None:
            if len(ways) > 1:
                ways = [self._sticky(market, key, mono, but)]
            self._check_orders(key, charge, mono)
            if pool.startswith(SAPI_UID_POOL):  # metered by account, not by address
                counter = f"{pool}#{_digest(key).hex()[:16]}"
        elif len(ways) > 1:
            usable = [way for way in ways if not way.is_aside(market, mono) and way not in but]
            if any(way.doubts for way in usable):
                usable = [way for way in usable if market not in way.doubts] or usable
            ways = usable or [self._soonest(ways, market, but)]
        best: Way | None = None
        best_budget: Budget | None = None
        most = -1.0
        for way in ways:
            if way.closed and way.closure(pool, mono) is not None:
                continue
            budget = way.budgets.get(counter) or self._budget(way, counter)
            left = budget.limit * part - budget.spent(low_ms) - charge.weight
            if left > most and left >= 0 and self._fits_rolling(way, charge, mono):
                best, best_budget, most = way, budget, left
        if best is None or best_budget is None:
            raise self._refusal(ways, market, charge, mono, low_ms)
        if client:
            self._check_share(client, market, charge, best_budget, low_ms)
            self.clients.add(client, pool, charge.weight, best_budget.window)
        if charge.extra is not None:
            self._rolling(best, charge.extra[0]).add(charge.extra[1], mono)
        if best.aside and market in best.aside:
            # One call tries whether it works again; the others do not wait for the same failure.
            best.aside[market].until_mono = mono + _TRIAL_S
        best.calls[market] = best.calls.get(market, 0) + 1
        return Grant(best, market, charge, best_budget.reserve(charge.weight, low_ms, high_ms), mono)

    def _fits_rolling(self, way: Way, charge: Charge, mono: float) -> bool:
        if charge.extra is None:
            return True
        name, weight = charge.extra
        rolling = self._rolling(way, name)
        return rolling.spent(mono) + weight <= rolling.limit

    def _sticky(self, market: Market, key: str, mono: float, but: Iterable[Way]) -> Way:
        """Return the one way of an API key; another one only while that cannot connect at all."""
        digest = hashlib.sha256(key.encode("utf-8", "replace")).digest()
        ways = self._key_ways.get((market, digest))
        if ways is None:
            ways = self._order_for(market, key, digest)
            if len(self._key_ways) >= _MAX_KEYS:
                self._key_ways.clear()
            self._key_ways[market, digest] = ways
        for way in ways:
            if not way.is_aside(market, mono) and way not in but:
                return way
        return next((way for way in ways if way not in but), ways[0])

    def _order_for(self, market: Market, key: str, digest: bytes) -> list[Way]:
        ways = self._by_market[market]
        if self._pins:
            pinned = self.by_name.get(self._pins.find(key) or "")
            if pinned is not None and pinned.spec.serves(market):
                return [pinned]
        # By the names alone: the same key has the same way after a restart or a new entry.
        return sorted(ways, key=lambda way: hashlib.sha256(digest + way.name.encode()).digest())

    def may_move(self, market: Market, key: str | None, but: Sequence[Way]) -> bool:
        """Tell whether a call that was not sent may try a way it has not tried yet."""
        ways: Sequence[Way] = self._by_market[market]
        if key is not None:
            digest = hashlib.sha256(key.encode("utf-8", "replace")).digest()
            ways = self._key_ways.get((market, digest), ways)
        return any(way not in but for way in ways)

    def _soonest(self, ways: Sequence[Way], market: Market, but: Iterable[Way]) -> Way:
        left = [way for way in ways if way not in but] or list(ways)
        return min(left, key=lambda way: way.aside[market].until_mono if market in way.aside else 0.0)

    # --- refusing --------------------------------------------------------------------------

    def _refusal(
        self, ways: Sequence[Way], market: Market, charge: Charge, mono: float, low_ms: float
    ) -> EgressExhausted:
        pool = charge.pool
        closures = [way.closure(pool, mono) for way in ways]
        found = [closure for closure in closures if closure is not None]
        limit = self.limit(pool)
        if len(found) == len(ways):
            soonest = min(found, key=lambda closure: closure.until_mono)
            wait_s = math.ceil(soonest.until_mono - mono)
            is_ban = all(closure.status == 418 for closure in found)
            self.refused["banned" if is_ban else "closed"] += 1
            if is_ban:
                until_ms = int(low_ms + (soonest.until_mono - mono) * 1000)
                return EgressExhausted(ban_text(market, until_ms), max(1, wait_s), is_ban=True)
            return EgressExhausted(limit_text(market, limit), max(1, wait_s))
        self.refused["weight"] += 1
        wait_ms = self._budget(ways[0], pool).wait_ms(low_ms)
        if charge.extra is not None and not any(self._fits_rolling(way, charge, mono) for way in ways):
            wait_ms = min(self._rolling(way, charge.extra[0]).wait_ms(mono) for way in ways)
            rolling = self._rolling(ways[0], charge.extra[0])
            msg = limit_text(market, rolling.limit, rolling.window_ms)
            return EgressExhausted(msg, max(1, math.ceil(wait_ms / 1000)))
        return EgressExhausted(limit_text(market, limit), max(1, math.ceil(wait_ms / 1000)))

    def _check_share(
        self, client: str, market: Market, charge: Charge, budget: Budget, low_ms: float
    ) -> None:
        """Keep one client from eating everybody's weight; order calls are never held up by it.

        Raises: EgressExhausted.
        """
        if self.clients.share >= 1.0 or charge.is_order:
            return
        allowed = budget.limit * len(self._by_market[market]) * self.clients.share
        if self.clients.fits(client, charge.pool, charge.weight, budget.window, allowed):
            return
        self.refused["share"] += 1
        self.clients.refuse(client)
        wait_s = math.ceil(budget.wait_ms(low_ms) / 1000)
        raise EgressExhausted(limit_text(market, int(allowed)), max(1, wait_s))

    def _check_orders(self, key: str, charge: Charge, mono: float) -> None:
        """Refuse orders of an account that is over its own limit of orders.

        Raises: EgressExhausted.
        """
        if not self._key_pauses or not charge.is_order:
            return
        until = self._key_pauses.get((charge.pool, _digest(key)))
        if until is not None and until > mono:
            self.refused["orders"] += 1
            raise EgressExhausted(
                "Too many new orders; Binance asked this account to wait.", max(1, math.ceil(until - mono))
            )

    # --- answers ---------------------------------------------------------------------------

    def answered(self, grant: Grant, status: int, told: int | None, mono: float) -> None:
        """A call's answer has begun."""
        low_ms, high_ms = self.clock.low_ms(mono), self.clock.high_ms(mono)
        grant.reservation.budget.settle(grant.reservation, told, low_ms, high_ms)
        way, market = grant.way, grant.market
        if way.aside:
            way.aside.pop(market, None)
        if way.doubts:
            way.doubts.discard(market)
            way.dead.discard(market)
        if status == 451:
            way.problems[market] = "region"
        elif status == 403:
            way.problems[market] = "waf"
        elif way.problems:
            way.problems.pop(market, None)

    def unanswered(self, grant: Grant, mono: float) -> None:
        """A call was sent and brought no answer: its weight may have been used."""
        low_ms, high_ms = self.clock.low_ms(mono), self.clock.high_ms(mono)
        grant.reservation.budget.settle(grant.reservation, None, low_ms, high_ms)

    def lost(self, grant: Grant, mono: float) -> bool:
        """A call was sent and its connection failed or stayed silent: the way may be dead.

        Unsigned calls avoid it until one has been answered; keys stay, as theirs may be bound to
        it, until a ping has failed as well (`died`). Return whether that is new.
        """
        self.unanswered(grant, mono)
        way, market = grant.way, grant.market
        if market in way.doubts or len(self._by_market[market]) == 1:
            return False
        way.doubts.add(market)
        return True

    def died(self, way: Way, market: Market) -> None:
        """A ping on a way in doubt got no answer: it is left alone until one does."""
        if market in way.doubts:
            way.dead.add(market)

    def unreachable(self, grant: Grant, mono: float) -> None:
        """Nothing was sent: give the weight back and leave the way alone for a while."""
        grant.reservation.budget.release(grant.reservation)
        if grant.charge.extra is not None:
            self._rolling(grant.way, grant.charge.extra[0]).take_back(grant.charge.extra[1], grant.sent_mono)
        aside = grant.way.aside.setdefault(grant.market, Aside())
        if not aside.pause_s or grant.sent_mono >= aside.failed_mono:  # earlier ones tell nothing new
            aside.failed_mono = mono
            aside.pause_s = min(_ASIDE_MAX_S, aside.pause_s * 2 or _ASIDE_FIRST_S)
            aside.until_mono = mono + aside.pause_s

    def fill(self, grant: Grant, mono: float) -> None:
        """What is behind a way has no weight left for such a call; it may still have some for orders."""
        if not grant.charge.is_order:
            budget = grant.reservation.budget
            budget.roll(self.clock.low_ms(mono))
            budget.used = max(budget.used, math.ceil(budget.limit * self._parts[CLIENT]))

    def close(self, grant: Grant, status: int, pause_s: float, mono: float) -> Callable[[], None]:
        """A 429 or 418 came: nothing more goes into that pool there until it is over.

        A ban of one sapi path closes all of sapi; USD-M and COIN-M are one pool. Return what puts
        things back as they were, for a pause that was only guessed.
        """
        way, pool = grant.way, grant.charge.pool
        if status == 418:
            pool = pool_group(pool)
        before = way.closed.get(pool)
        self.close_pool(way, pool, status, mono + pause_s)
        after = way.closed[pool]

        def undo() -> None:
            if way.closed.get(pool) is after:
                del way.closed[pool]
                if before is not None:
                    way.closed[pool] = before

        return undo

    def close_pool(self, way: Way, pool: str, status: int, until_mono: float) -> None:
        known = way.closed.get(pool)
        if known is None or known.until_mono < until_mono or (status == 418 and known.status != 418):
            until_mono = max(until_mono, known.until_mono if known is not None else 0.0)
            way.closed[pool] = Closure(until_mono, status)

    def pause_orders(self, key: str, pool: str, until_mono: float) -> None:
        """An account is over its limit of orders: it alone waits, not the address."""
        if len(self._key_pauses) >= _MAX_KEYS:
            self._key_pauses.clear()
        self._key_pauses[pool, _digest(key)] = until_mono

    # --- what others want to know ----------------------------------------------------------

    def closed_s(self, market: Market, pool: str, mono: float) -> float:
        """Return for how long a pool stays closed at every way out; 0 if one is open."""
        closures = [way.closure(pool, mono) for way in self._by_market[market]]
        return min((c.until_mono - mono if c is not None else 0.0 for c in closures), default=0.0)

    def used(self, market: Market, pool: str, mono: float) -> int:
        """Return the used weight at the way the next unsigned call would take."""
        low_ms = self.clock.low_ms(mono)
        return min((self._budget(way, pool).spent(low_ms) for way in self._by_market[market]), default=0)

    def used_by_all(self, market: Market, pool: str, mono: float) -> int:
        """Return the used weight of all ways out together."""
        low_ms = self.clock.low_ms(mono)
        return sum(self._budget(way, pool).spent(low_ms) for way in self._by_market[market])

    def status(self, mono: float) -> list[dict[str, Any]]:
        """Describe every budget for people.

        Shape: [{"egress","pool","used","reserved","limit","window_s","closed_s","closed_status",
            "state": ok|closed|banned|set_aside,"problem": ""|"region"|"waf"|"unreachable","markets"}].
        Units: seconds.
        """
        low_ms = self.clock.low_ms(mono)
        rows: list[dict[str, Any]] = []
        for way in self.ways:
            markets = [market for market in Market if way.spec.serves(market)]
            for pool in sorted(way.budgets.keys() | way.closed.keys()):
                if "#" in pool:  # of one account
                    continue
                budget = way.budgets.get(pool)
                spent = budget.spent(low_ms) if budget is not None else 0
                closure = way.closure(pool, mono)
                of_pool = [market for market in markets if pool in POOLS_OF[market]]
                aside = [market for market in of_pool if way.is_aside(market, mono) or market in way.doubts]
                problem = next((way.problems[m] for m in of_pool if m in way.problems), "")
                state = "set_aside" if aside else "ok"
                if closure is not None:
                    state = "banned" if closure.status == 418 else "closed"
                rows.append(
                    {
                        "egress": way.name,
                        "pool": pool,
                        "used": budget.used if budget is not None else 0,
                        "reserved": spent - budget.used if budget is not None else 0,
                        "limit": self.limit(pool) if budget is None else budget.limit,
                        "window_s": self._limits.window_ms / 1000,
                        "closed_s": math.ceil(closure.until_mono - mono) if closure is not None else 0,
                        "closed_status": closure.status if closure is not None else 0,
                        "state": state,
                        "problem": problem or ("unreachable" if aside else ""),
                        "markets": [market.value for market in of_pool],
                    }
                )
        return rows

    def dump(self, mono: float, now_ms: int) -> list[dict[str, Any]]:
        """Write down what is closed, for the next start. Units: epoch milliseconds."""
        return [
            {
                "egress": way.name,
                "pool": pool,
                "status": closure.status,
                "until_ms": now_ms + int((closure.until_mono - mono) * 1000),
            }
            for way in self.ways
            for pool, closure in way.closed.items()
            if closure.until_mono > mono
        ]

    def load(self, rows: Iterable[Mapping[str, Any]], mono: float, now_ms: int) -> int:
        """Take over what was closed when the last process ended; return how many still are.

        A row that cannot be read is left out; one whose way is gone does not matter any more.
        """
        count = 0
        for row in rows:
            try:
                way = self.by_name[row["egress"]]
                left_s = (int(row["until_ms"]) - now_ms) / 1000
                status, pool = int(row["status"]), str(row["pool"])
            except (KeyError, TypeError, ValueError):
                continue
            if left_s > 0:
                self.close_pool(way, pool, status, mono + left_s)
                count += 1
        return count


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()
