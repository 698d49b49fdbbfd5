"""Which egress takes a call, and whether it may leave at all.

Pure: `Governor` is told calls, answers and times, and says where to send or why not. It owns the
budgets, the closed pools and the egresses set aside; one belongs to one gateway.

Rules: an unsigned call goes to the egress with most weight left; a call with an API key sticks to
one egress, by its pin or by its key. Nothing is sent into a pool that is closed after a 429 or 418.
A call that does not fit is refused here, before anything left. Order calls have a reserve of
their own; the gateway's own reads come last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from resender.core.binance.exchange_clock import ExchangeClock
from resender.core.binance.markets import Market
from resender.core.egress.budget import Budget, RollingBudget
from resender.core.egress.client_shares import ClientShares
from resender.core.egress.own_reads import OwnReads
from resender.core.egress.spec import EgressSpec, Pins, rank_of
from resender.core.egress.state import (
    SAPI,
    Closure,
    Egress,
    Grant,
    Limits,
    Quarantine,
    ban_text,
    key_digest,
    limit_text,
    order_pool,
    pool_group,
)
from resender.core.weights.table import EXTRA_LIMITS, SAPI_UID_POOL, Charge
from resender.errors import EgressExhausted

# Whose call it is: how much of a pool it may fill.
ORDER, CLIENT, OWN_URGENT, OWN_CALM, PROBE = range(5)
# Own reads use at most this part of what the clients may use.
_OWN_PART = 0.95
_MAX_KEYS = 4096
_MAX_SAPI_POOLS = 2000
# So long one call tries an egress that was left alone before another one may.
_TRIAL_S = 5.0


class Governor:
    """The weights of all egresses."""

    def __init__(
        self,
        specs: Sequence[EgressSpec],
        clock: ExchangeClock,
        *,
        limits: Limits | None = None,
        pins: Pins | None = None,
        order_reserve: float = 0.1,
        client_share: float = 1.0,
        own_share: float = 1.0,
    ) -> None:
        self.clock = clock
        self.egresses = [Egress(spec) for spec in specs]
        # What stands for an egress where keys are spread, in the whole installation.
        self.place: Callable[[EgressSpec], str] = lambda spec: spec.name
        self.by_name = {egress.name: egress for egress in self.egresses}
        self._limits = limits or Limits()
        self.pins = pins or Pins()
        own_part = (1.0 - order_reserve) * _OWN_PART
        self._parts = (1.0, 1.0 - order_reserve, own_part, own_part, own_part)
        self.own = OwnReads(own_share)
        self._by_market = {
            market: [egress for egress in self.egresses if egress.spec.serves(market)] for market in Market
        }
        self._known_limits: dict[str, int] = {}
        self.new_budget: Callable[[Egress, int, int], Budget] = lambda _, limit, ms: Budget(limit, ms)
        self._key_egresses: dict[tuple[Market, bytes], list[Egress]] = {}
        self._key_pauses: dict[tuple[str, bytes], float] = {}
        self.clients = ClientShares(client_share)
        # Calls refused here, by reason; read by the metrics.
        self.refused: dict[str, int] = {"weight": 0, "closed": 0, "banned": 0, "share": 0, "orders": 0}
        self.moved = 0

    @property
    def window_ms(self) -> int:
        """How long a window of the weight lasts."""
        return self._limits.window_ms

    # --- limits ----------------------------------------------------------------------------

    def limit(self, pool: str) -> int:
        """Return the limit of a pool at one egress."""
        return self._known_limits.get(pool) or self._limits.of(pool)

    def set_limit(self, pool: str, limit: int) -> None:
        """Take a limit that exchangeInfo told."""
        if limit < 1:
            return
        self._known_limits[pool] = limit
        for egress in self.egresses:
            if pool in egress.budgets:
                egress.budgets[pool].limit = limit

    def _budget(self, egress: Egress, pool: str) -> Budget:
        budget = egress.budgets.get(pool)
        if budget is None:
            if len(egress.budgets) >= _MAX_SAPI_POOLS:  # paths are the client's words
                for name in [name for name, b in egress.budgets.items() if not b.reserved]:
                    if name.startswith(SAPI):
                        del egress.budgets[name]
            budget = egress.budgets[pool] = self.new_budget(egress, self.limit(pool), self.window_ms)
        return budget

    def _rolling(self, egress: Egress, name: str) -> RollingBudget:
        found = egress.rolling.get(name)
        if found is None:
            found = egress.rolling[name] = RollingBudget(*EXTRA_LIMITS[name])
        return found

    # --- choosing --------------------------------------------------------------------------

    def egresses_of(self, market: Market) -> list[Egress]:
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
        excluding: Iterable[Egress] = (),
    ) -> Grant:
        """Choose an egress for a call and reserve its weight there.

        Shape: `key` is the API key the call carries; `client` the client's address, empty for own
            reads; `excluding` are egresses that have failed this call already.
        Raises: EgressExhausted, with nothing reserved.
        """
        low_ms, high_ms = self.clock.low_ms(mono), self.clock.high_ms(mono)
        if charge.is_order:
            priority = ORDER
        part = self._parts[priority]
        pool = counter = charge.pool
        egresses = self._by_market[market]
        if key is not None:
            if len(egresses) > 1:
                egresses = [self.egress_of_key(market, key, mono, excluding)]
            self._check_orders(key, charge, mono)
            if pool.startswith(SAPI_UID_POOL):  # metered by account, not by address
                counter = f"{pool}#{key_digest(key).hex()[:16]}"
        elif len(egresses) > 1:
            usable = [
                egress
                for egress in egresses
                if not egress.is_quarantined(market, mono) and egress not in excluding
            ]
            if any(egress.suspect for egress in usable):
                usable = [egress for egress in usable if market not in egress.suspect] or usable
            egresses = usable or [self._soonest(egresses, market, excluding)]
        best: Egress | None = None
        best_budget: Budget | None = None
        most = -1.0
        for egress in egresses:
            if egress.closed and egress.closure(pool, mono) is not None:
                continue
            budget = egress.budgets.get(counter) or self._budget(egress, counter)
            left = budget.left(part, low_ms, high_ms) - charge.weight
            if left > most and left >= 0 and self._fits_rolling(egress, charge, mono, priority):
                best, best_budget, most = egress, budget, left
        if best is None or best_budget is None:
            raise self._refusal(egresses, market, charge, mono, low_ms, is_client=priority <= CLIENT)
        is_own = priority in (OWN_URGENT, OWN_CALM)
        if is_own:
            self._check_own(market, charge, best_budget, mono, is_urgent=priority == OWN_URGENT)
            self.own.add(pool, charge.weight, best_budget.window)
        if client:
            self._check_share(client, market, charge, best_budget, low_ms)
            self.clients.add(client, pool, charge.weight, best_budget.window)
        if charge.extra is not None:
            self._rolling(best, charge.extra[0]).add(charge.extra[1], mono)
        # One call tries whether it works again; the others do not wait for the same failure.
        is_trial = best.delay(market, mono + _TRIAL_S)
        grant = Grant(best, market, charge, best_budget.reserve(charge.weight, low_ms, high_ms), mono)
        grant.own_window = best_budget.window if is_own else None
        grant.client, grant.is_trial = client, is_trial
        return grant

    def _fits_rolling(self, egress: Egress, charge: Charge, mono: float, priority: int) -> bool:
        if charge.extra is None:
            return True
        rolling = self._rolling(egress, charge.extra[0])
        part = self.own.share if priority in (OWN_URGENT, OWN_CALM) else 1.0  # as of weight
        return rolling.spent(mono) + charge.extra[1] <= rolling.limit * part

    def egress_of_key(
        self, market: Market, key: str, mono: float, excluding: Iterable[Egress] = ()
    ) -> Egress:
        """Return the one egress of an API key; another one only while that cannot connect at all."""
        digest = key_digest(key)
        egresses = self._key_egresses.get((market, digest))
        if egresses is None:
            egresses = self._order_for(market, key, digest)
            if len(self._key_egresses) >= _MAX_KEYS:
                self._key_egresses.clear()
            self._key_egresses[market, digest] = egresses
        for egress in egresses:
            if not egress.is_quarantined(market, mono) and egress not in excluding:
                return egress
        return next((egress for egress in egresses if egress not in excluding), egresses[0])

    def _order_for(self, market: Market, key: str, digest: bytes) -> list[Egress]:
        egresses = self._by_market[market]
        if self.pins:
            pinned = self.by_name.get(self.pins.find(key) or "")
            if pinned is not None and pinned.spec.serves(market):
                return [pinned]
        # By what stands for them alone: the same key has the same egress after a restart or a new entry.
        return sorted(egresses, key=lambda egress: rank_of(digest, self.place(egress.spec)))

    def may_move(self, market: Market, key: str | None, excluding: Sequence[Egress]) -> bool:
        """Tell whether a call that was not sent may try an egress it has not tried yet."""
        egresses: Sequence[Egress] = self._by_market[market]
        if key is not None:
            digest = key_digest(key)
            egresses = self._key_egresses.get((market, digest), egresses)
        return any(egress not in excluding for egress in egresses)

    def _soonest(self, egresses: Sequence[Egress], market: Market, excluding: Iterable[Egress]) -> Egress:
        left = [egress for egress in egresses if egress not in excluding] or list(egresses)
        return min(left, key=lambda egress: egress.due_mono(market))

    # --- refusing --------------------------------------------------------------------------

    def _refusal(
        self,
        egresses: Sequence[Egress],
        market: Market,
        charge: Charge,
        mono: float,
        low_ms: float,
        *,
        is_client: bool,
    ) -> EgressExhausted:
        pool = charge.pool
        closures = [egress.closure(pool, mono) for egress in egresses]
        found = [closure for closure in closures if closure is not None]
        limit = self.limit(pool)
        if len(found) == len(egresses):
            soonest = min(found, key=lambda closure: closure.until_mono)
            wait_s = math.ceil(soonest.until_mono - mono)
            is_ban = all(closure.status == 418 for closure in found)
            self.refused["banned" if is_ban else "closed"] += is_client
            if is_ban:
                until_ms = int(low_ms + (soonest.until_mono - mono) * 1000)
                return EgressExhausted(ban_text(market, until_ms), max(1, wait_s), is_ban=True)
            return EgressExhausted(limit_text(market, limit), max(1, wait_s))
        self.refused["weight"] += is_client
        wait_ms = self._budget(egresses[0], pool).wait_ms(low_ms)
        who = CLIENT if is_client else OWN_CALM
        if charge.extra and not any(self._fits_rolling(egress, charge, mono, who) for egress in egresses):
            wait_ms = min(self._rolling(egress, charge.extra[0]).wait_ms(mono) for egress in egresses)
            rolling = self._rolling(egresses[0], charge.extra[0])
            msg = limit_text(market, rolling.limit, rolling.window_ms)
            return EgressExhausted(msg, max(1, math.ceil(wait_ms / 1000)))
        return EgressExhausted(limit_text(market, limit), max(1, math.ceil(wait_ms / 1000)))

    def _check_share(
        self, client: str, market: Market, charge: Charge, budget: Budget, low_ms: float
    ) -> None:
        """Keep one client from eating everybody's weight, but for order calls. Raises: EgressExhausted."""
        if self.clients.share >= 1.0 or charge.is_order:
            return
        allowed = (
            budget.limit * sum(1 / each.sharers for each in self._by_market[market]) * self.clients.share
        )
        if self.clients.fits(client, charge.pool, charge.weight, budget.window, allowed):
            return
        self.refused["share"] += 1
        self.clients.refuse(client)
        wait_s = math.ceil(budget.wait_ms(low_ms) / 1000)
        raise EgressExhausted(limit_text(market, int(allowed)), max(1, wait_s))

    def _check_own(
        self, market: Market, charge: Charge, budget: Budget, mono: float, *, is_urgent: bool
    ) -> None:
        """Keep the gateway's own reads within their share of a pool at the egresses that can be used.

        Raises: EgressExhausted.
        """
        egresses = self._by_market[market]
        usable = sum(
            1 / each.sharers
            for each in egresses
            if each.closure(charge.pool, mono) is None and each.is_usable(market, mono)
        )
        limit = int(self.limit(charge.pool) * (usable or 1))
        if not self.own.fits(charge.pool, charge.weight, limit, budget.window, is_urgent=is_urgent):
            wait_s = math.ceil(budget.wait_ms(self.clock.low_ms(mono)) / 1000)
            raise EgressExhausted("The gateway's own reads have used their share.", max(1, wait_s))

    def _check_orders(self, key: str, charge: Charge, mono: float) -> None:
        """Refuse orders of an account that is over its own limit of orders.

        Raises: EgressExhausted.
        """
        if not self._key_pauses or not charge.is_order:
            return
        until = self._key_pauses.get((order_pool(charge.pool), key_digest(key)))
        if until is not None and until > mono:
            self.refused["orders"] += 1
            raise EgressExhausted(
                "Too many new orders; Binance asked this account to wait.", max(1, math.ceil(until - mono))
            )

    # --- answers ---------------------------------------------------------------------------

    def answered(self, grant: Grant, status: int, reported_weight: int | None, mono: float) -> None:
        """A call's answer has begun."""
        low_ms, high_ms = self.clock.low_ms(mono), self.clock.high_ms(mono)
        grant.reservation.budget.settle(grant.reservation, reported_weight, low_ms, high_ms)
        egress, market = grant.egress, grant.market
        egress.calls[market] = egress.calls.get(market, 0) + 1
        if egress.quarantine:
            egress.quarantine.pop(market, None)
        egress.whole = None
        if egress.suspect:
            egress.suspect.discard(market)
            egress.down.discard(market)
        if status == 451:
            egress.problems[market] = "region"
        elif status == 403:
            egress.problems[market] = "waf"
        elif egress.problems:
            egress.problems.pop(market, None)

    def unanswered(self, grant: Grant, mono: float) -> None:
        """A call was sent and brought no answer: its weight may have been used."""
        low_ms, high_ms = self.clock.low_ms(mono), self.clock.high_ms(mono)
        grant.reservation.budget.settle(grant.reservation, None, low_ms, high_ms)
        grant.egress.calls[grant.market] = grant.egress.calls.get(grant.market, 0) + 1

    def lost(self, grant: Grant, mono: float) -> bool:
        """A call was sent and its connection failed or stayed silent: the egress may be dead.

        Unsigned calls avoid it until one has been answered; keys stay, as theirs may be bound to
        it, until a ping has failed as well (`died`). Return whether that is new.
        """
        self.unanswered(grant, mono)
        egress, market = grant.egress, grant.market
        egress.whole = None  # it was sent: the egress itself works
        if market in egress.suspect or len(self._by_market[market]) == 1:
            return False
        egress.suspect.add(market)
        return True

    def died(self, egress: Egress, market: Market) -> None:
        """A ping on an egress in doubt got no answer: it is left alone until one does."""
        if market in egress.suspect:
            egress.down.add(market)

    def is_good(self, grant: Grant, mono: float) -> bool:
        """Tell whether a call may still leave by its grant: its pool has not been closed meanwhile."""
        return grant.egress.closure(grant.charge.pool, mono) is None

    def give_back(self, grant: Grant) -> None:
        """Nothing was sent: what was reserved and counted is free again."""
        grant.reservation.budget.release(grant.reservation)
        charge = grant.charge
        if charge.extra is not None:
            self._rolling(grant.egress, charge.extra[0]).take_back(charge.extra[1], grant.sent_mono)
        if grant.own_window is not None:
            self.own.add(charge.pool, -charge.weight, grant.own_window)
        if grant.client:
            window = grant.reservation.low_window
            self.clients.take_back(grant.client, charge.pool, charge.weight, window)
        if grant.is_trial:
            grant.egress.delay(grant.market, grant.sent_mono)

    def unreachable(self, grant: Grant, mono: float, *, is_whole: bool = False) -> None:
        """Nothing was sent: give the weight back and leave the egress alone for a while.

        Shape: `is_whole` tells that the egress itself failed, whatever the host was.
        """
        self.give_back(grant)
        if is_whole:
            self.note_failed(grant.egress.name, grant.sent_mono, mono)
        grant.egress.quarantine.setdefault(grant.market, Quarantine()).fail(grant.sent_mono, mono)

    def is_failed(self, name: str, mono: float) -> bool:
        """Tell whether an egress itself failed lately, whatever the host was."""
        whole = self.by_name[name].whole
        return whole is not None and whole.until_mono > mono

    def note_failed(self, name: str, sent_mono: float, mono: float) -> None:
        """An egress itself failed, for a call or a stream: every market and its streams leave it alone."""
        egress = self.by_name[name]
        if len(self.egresses) > 1:
            if egress.whole is None:
                egress.whole = Quarantine()
            egress.whole.fail(sent_mono, mono)

    def note_works(self, name: str) -> None:
        """Something got through an egress: it works again."""
        self.by_name[name].whole = None

    def fill(self, grant: Grant, mono: float) -> None:
        """What is behind an egress has no weight left for such a call; it may still have some for orders."""
        if not grant.charge.is_order:
            budget = grant.reservation.budget
            budget.roll(self.clock.low_ms(mono))
            budget.used = max(budget.used, math.ceil(budget.limit * self._parts[CLIENT]))

    def close(self, grant: Grant, status: int, pause_s: float, mono: float) -> Callable[[], None]:
        """A 429 or 418 came: nothing more goes into that pool there until it is over.

        A ban of one sapi path closes all of sapi; USD-M and COIN-M are one pool. Return what puts
        things back as they were, for a pause that was only guessed.
        """
        egress, pool = grant.egress, grant.charge.pool
        if status == 418:
            pool = pool_group(pool)
        before = egress.closed.get(pool)
        self.close_pool(egress, pool, status, mono + pause_s)
        after = egress.closed[pool]

        def undo() -> None:
            if egress.closed.get(pool) is after:
                del egress.closed[pool]
                if before is not None:
                    egress.closed[pool] = before

        return undo

    def close_pool(self, egress: Egress, pool: str, status: int, until_mono: float) -> None:
        known = egress.closed.get(pool)
        if known is None or known.until_mono < until_mono or (status == 418 and known.status != 418):
            until_mono = max(until_mono, known.until_mono if known is not None else 0.0)
            egress.closed[pool] = Closure(until_mono, status)

    def pause_orders(self, key: str, pool: str, until_mono: float) -> None:
        """An account is over its limit of orders: it alone waits, not the address."""
        if len(self._key_pauses) >= _MAX_KEYS:
            self._key_pauses.clear()
        self._key_pauses[order_pool(pool), key_digest(key)] = until_mono

    # --- what others want to know ----------------------------------------------------------

    def closed_s(self, market: Market, pool: str, mono: float) -> float:
        """Return for how long a pool stays closed at every egress; 0 if one is open."""
        closures = [egress.closure(pool, mono) for egress in self._by_market[market]]
        return min((c.until_mono - mono if c is not None else 0.0 for c in closures), default=0.0)

    def used(self, market: Market, pool: str, mono: float) -> int:
        """Return the used weight at the egress the next unsigned call would take."""
        low_ms = self.clock.low_ms(mono)
        return min(
            (self._budget(egress, pool).spent(low_ms) for egress in self._by_market[market]), default=0
        )

    def own_limit(self, market: Market, pool: str) -> int:
        """Return the weight of a pool at all egresses of a market together."""
        return self.limit(pool) * len(self._by_market[market])

    def dump(self, mono: float, now_ms: int) -> list[dict[str, Any]]:
        """Write down what is closed, for the next start. Units: epoch milliseconds."""
        return [
            {
                "egress": egress.name,
                "pool": pool,
                "status": closure.status,
                "until_ms": now_ms + int((closure.until_mono - mono) * 1000),
            }
            for egress in self.egresses
            for pool, closure in egress.closed.items()
            if closure.until_mono > mono
        ]

    def load(self, rows: Iterable[Mapping[str, Any]], mono: float, now_ms: int) -> int:
        """Take over what was closed when the last process ended; return how many still are.

        A row that cannot be read is left out; one whose egress is gone does not matter any more.
        """
        count = 0
        for row in rows:
            try:
                egress = self.by_name[row["egress"]]
                left_s = (int(row["until_ms"]) - now_ms) / 1000
                status, pool = int(row["status"]), str(row["pool"])
            except (KeyError, TypeError, ValueError, OverflowError):
                continue
            if left_s > 0:
                self.close_pool(egress, pool, status, mono + left_s)
                count += 1
        return count
