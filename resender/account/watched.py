"""One account that is watched: its orders and balances in memory, and whether they may be answered.

It takes events of its stream, answers of Binance that pass through, and own snapshots, and answers out of
what it holds where that is proven. One `WatchedAccount` belongs to `Accounts`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resender.account.state import COMPARING_S, DIFFERS, LIVE, OPENING, SYNCING, WAITING, AccountState
from resender.aio import within
from resender.core.account.calls import Change, SignedRead, What
from resender.core.account.dialects import SPOT, BadEvent, moment_ms, read_event
from resender.core.account.orders import Applied, Orders, read_rows
from resender.core.account.proof import Proof
from resender.core.account.spec import AccountMarket

logger = logging.getLogger("resender.account")

# Events that change nothing of what is held.
_WITHOUT_EFFECT = frozenset(
    {"TRADE_LITE", "MARGIN_CALL", "STRATEGY_UPDATE", "GRID_UPDATE", "listStatus", "riskLevelChange",
     "openOrderLoss", "liabilityChange", "MARGIN_LEVEL_STATUS_CHANGE", "USER_LIABILITY_CHANGE"}
)  # fmt: skip
_BALANCE_EVENTS = frozenset(
    {
        "outboundAccountPosition",
        "balanceUpdate",
        "externalLockUpdate",
        "ACCOUNT_UPDATE",
        "ACCOUNT_CONFIG_UPDATE",
    }
)
_ALGO_READS = (What.OPEN_ALGO_ORDERS, What.ALGO_ORDER)
# An answer about balances counts only if it was asked this long after the stream had begun: REST lags.
_BALANCES_AFTER_S = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes as REST would send them. Units: `age_ms` since the last proof that they are true."""

    body: bytes
    age_ms: int


@dataclass(frozen=True, slots=True)
class Lacking:
    """Why there is no answer; one that is on its way may come within moments."""

    reason: str
    may_come: bool = False


class WatchedAccount(AccountState):
    """The watch over one account."""

    # --- the stream ------------------------------------------------------------------------

    def opening(self) -> None:
        self._enter(OPENING)

    def opened(self) -> None:
        mono = self._clock.mono()
        self.proof.opened(mono)
        self.algo_proof.opened(mono)
        self._enter(SYNCING)

    def heard(self) -> None:
        mono = self._clock.mono()
        self.proof.heard(mono)
        self.algo_proof.heard(mono)

    def closed(self, why: str) -> None:
        self.proof.closed(why)
        self.algo_proof.closed(why)
        self._forget_what_was_proven()
        self._enter(WAITING)

    def _forget_what_was_proven(self) -> None:
        for orders in self._all_orders():
            orders.unsettle()
        self.spot.lose()
        self.writes.clear()
        self.unheard.clear()

    def _lose_money(self) -> None:
        """Money was moved, or may have been: answers asked for before count no more."""
        self.spot.lose()
        self._moved_mono = self._clock.mono()

    def unsure(self, why: str) -> None:
        """What is known may be wrong: only snapshots from now on count."""
        mono = self._clock.mono()
        self.proof.restart(why, mono)
        self.algo_proof.restart(why, mono)
        self._forget_what_was_proven()
        self._note(why)
        if self.proof.is_open:
            self._enter(SYNCING)

    def suspect(self, why: str) -> None:
        """The stream leaves things out: another one is opened."""
        self.unsure(why)
        self.on_restart()

    def _note(self, why: str) -> None:
        logger.warning("account %s is not proven now: %s", self.label, why)

    def message(self, event: dict[str, Any]) -> None:
        """Take one event of the stream."""
        kind = str(event.get("e"))[:40]
        if len(self.events) < 200 or kind in self.events:
            self.events[kind] += 1
        try:
            self._apply(kind, event)
        except BadEvent as error:
            self.unsure(f"an event that cannot be read: {error}")
        mono = self._clock.mono()
        self.writes.settle(mono, self._exchange_clock.latest_ms(mono))
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _apply(self, kind: str, event: dict[str, Any]) -> None:
        if kind == "executionReport":
            self._apply_order(self.orders, event, event.get("E"))
        elif kind == "ORDER_TRADE_UPDATE":
            side = (
                self.coin_orders if event.get("fs") == "CM" and self.coin_orders is not None else self.orders
            )
            self._apply_order(side, event.get("o"), event.get("T"))
        elif kind == "ALGO_UPDATE" and self.algo is not None:
            self._apply_order(self.algo, event.get("o"), event.get("T", event.get("E")))
        elif kind in _BALANCE_EVENTS:
            balances = (
                self.spot if self.market in (AccountMarket.SPOT, AccountMarket.MARGIN) else self.futures
            )
            balances.apply(event)
            if self.listeners:
                self._tell({"e": "balances", **self._money()})
        elif kind == "CONDITIONAL_ORDER_TRIGGER_REJECT":
            # What becomes of the order is in no event that is certain to follow.
            self.algo_proof.restart("a conditional order was refused", self._clock.mono())
        elif kind not in _WITHOUT_EFFECT:
            if len(self.unknown_events) < 100 or kind in self.unknown_events:
                self.unknown_events[kind] += 1
            if self.unknown_events[kind] == 1:
                logger.info("account %s: events of an unknown kind: %s", self.label, kind)

    def _apply_order(self, orders: Orders, said: object, event_ms: object) -> None:
        if not isinstance(said, dict):
            raise BadEvent("an event without its order")
        event = read_event(orders.dialect, said, event_ms)
        applied = orders.apply(event)
        self.unheard.heard(event.key[1], self._clock.mono(), is_algo=orders is self.algo)
        if applied is Applied.DOUBLE:
            return
        if orders.dialect is SPOT and event.status != "REJECTED":
            self.spot.expect(event.time_ms)
        if applied is Applied.MISFIT:
            self.difference_count += 1
            self.differences.append((self._clock.now_ms(), orders.why))
            self.unsure(orders.why)
        if self.listeners:
            held = orders.open.get(event.key) or orders.ended.get(event.key)
            if held is not None:
                self._tell({"e": "order", "kind": orders.dialect.name, "order": held.known()})

    # --- what passes through ---------------------------------------------------------------

    def take(self, read: SignedRead, body: bytes, asked_mono: float, asked_ms: int) -> None:
        """Take what REST answered to a call: a snapshot, or a row. Units: `asked_ms` the exchange's clock."""
        try:
            self._take(read, body, asked_mono, asked_ms)
        except BadEvent as error:
            logger.warning("account %s: an answer of %s cannot be read: %s", self.label, read.path, error)
        self._wake()

    def _take(self, read: SignedRead, body: bytes, asked_mono: float, asked_ms: int) -> None:
        if not self.proof.is_open or asked_mono < self.proof.since_mono:
            return
        if read.what in (What.OPEN_ORDERS, What.OTHER_OPEN_ORDERS):
            orders = self.orders
            if self.coin_orders is not None and "/cm/" in read.path:
                orders = self.coin_orders
            proof = self.proof if orders is self.orders else self.algo_proof
            self._take_snapshot(orders, proof, read, body, asked_mono, asked_ms)
        elif read.what is What.OPEN_ALGO_ORDERS and self.algo is not None:
            self._take_snapshot(self.algo, self.algo_proof, read, body, asked_mono, asked_ms)
        elif read.what in (What.ORDER, What.OPEN_ORDER):
            self.orders.see(read.path, read_rows(body)[0], asked_ms)
        elif read.what is What.ALGO_ORDER and self.algo is not None:
            self.algo.see(read.path, read_rows(body)[0], asked_ms)
        elif read.what is What.ACCOUNT:
            if asked_mono >= max(self.proof.since_mono + _BALANCES_AFTER_S, self._moved_mono):
                self.spot.take(body, is_full=not read.omits_zeros, mono=asked_mono)
        elif read.what is What.BALANCE:
            self.futures.take_balances(read_rows(body))
        elif read.what is What.POSITIONS:
            self.futures.take_positions(read_rows(body))

    def _take_snapshot(
        self, orders: Orders, proof: Proof, read: SignedRead, body: bytes, asked_mono: float, asked_ms: int
    ) -> None:
        merged = orders.merge(read.path, read_rows(body), read.symbol, asked_ms)
        if merged.wrong:
            words = ", ".join(sorted(merged.wrong))
            logger.warning(
                "%s: events tell %s otherwise than REST: no longer taken from them", self.label, words
            )
        if merged.differences:
            self.difference_count += len(merged.differences)
            for words in merged.differences[:10]:
                self.differences.append((self._clock.now_ms(), words))
            self._note(merged.differences[0])
            proof.restart("differed from REST", self._clock.mono())
            orders.unsettle()
        else:
            proof.snapshot(read.symbol, asked_mono)
        self._see_whether_live()
        if self.listeners:
            self._tell(self.snapshot())

    def _see_whether_live(self) -> None:
        if not self.proof.is_open:
            return
        is_live = self._lack() is None
        self._enter(LIVE if is_live else SYNCING)

    def written(
        self, change: Change, params: Mapping[str, str], status: int, body: bytes, sent_mono: float
    ) -> None:
        """Take Binance's answer to a call that changes something."""
        if change is Change.NOTHING:
            return
        mono = self._clock.mono()
        now_ms = self._exchange_clock.latest_ms(mono)
        if change is Change.BALANCES or (status == 200 and change is Change.UNKNOWN):
            if status == 200 or status >= 500:
                self._lose_money()
            if change is Change.BALANCES:
                return
        if not self.proof.is_open:
            return
        is_known = self.writes.answered(
            change, params, status, body, sent_mono=sent_mono, mono=mono, now_ms=now_ms
        )
        if not is_known:
            self.unsure("an order call whose outcome is not known")
            return
        if status == 200:
            self.unheard.accepted(change, body, sent_mono, mono)
            if self.market is AccountMarket.SPOT:
                self.spot.expect(_transact_ms(body))
        self.writes.settle(mono, now_ms)

    def outcome_unknown(self, change: Change) -> None:
        """A call that changes something has no answer."""
        if change is Change.BALANCES:
            self._lose_money()
        elif change is not Change.NOTHING and self.proof.is_open:
            self.unsure("an order call without an answer")

    def tick(self) -> None:
        """See to what time brings: events that do not come, cancellations that are due, old orders."""
        mono = self._clock.mono()
        now_ms = self._exchange_clock.latest_ms(mono)
        self.writes.settle(mono, now_ms)
        is_overdue = self.writes.overdue(mono) or self.unheard.is_overdue(mono)
        if self.proof.is_open and is_overdue:
            self.difference_count += 1
            self.differences.append((self._clock.now_ms(), "no event of an own order"))
            self.suspect("no event came of an order that Binance accepted")
        for orders in self._all_orders():
            orders.forget(now_ms)
        self._see_whether_live()

    # --- answers ---------------------------------------------------------------------------

    def answer(self, read: SignedRead) -> Answer | Lacking:
        """Answer a call out of memory; whose call it is has been seen to."""
        mono = self._clock.mono()
        is_algo = read.what in _ALGO_READS
        proof = self.algo_proof if is_algo else self.proof
        lack = proof.lack(read.symbol, mono)
        if lack is not None:
            return Lacking(lack)
        self.writes.settle(mono, self._exchange_clock.latest_ms(mono))
        if read.what is What.ACCOUNT:
            return self._answer_account(read, mono)
        if self.writes.is_pending(read.symbol, is_algo=is_algo):
            return Lacking("own order not told yet", may_come=True)
        orders = self.algo if is_algo else self.orders
        if orders is None:
            return Lacking("path")
        if orders.is_doubted(read.symbol):
            return Lacking(DIFFERS, may_come=True)
        if read.what in (What.OPEN_ORDERS, What.OPEN_ALGO_ORDERS):
            if self._is_to_be_compared(proof, read, mono):
                return Lacking("compared with REST")
            body = orders.listed(read.path, read.symbol)
        else:
            held = orders.find(read.symbol, read.order_id, read.client_id)
            if held is None or (read.what is What.OPEN_ORDER and not held.is_open):
                return Lacking("order not known")
            body = held.row(read.path, orders.lore)
        if body is None:
            return Lacking("order not known whole")
        return Answer(body, int((mono - proof.heard_mono) * 1000))

    def _is_to_be_compared(self, proof: Proof, read: SignedRead, mono: float) -> bool:
        """Tell whether this one call is sent on although it could be answered: now and then REST has its say.

        Who can make own reads compares by itself.
        """
        if self.is_own or mono < proof.compared_mono(read.symbol) + self._options.reconcile_s:
            return False
        if mono < self._comparing_mono + COMPARING_S:
            return False
        self._comparing_mono = mono
        return True

    def has_old_doubt(self) -> bool:
        """Tell whether REST has shown for long what no event tells."""
        now_ms = self._exchange_clock.latest_ms(self._clock.mono())
        return any(orders.has_old_doubt(now_ms) for orders in self._all_orders())

    def _answer_account(self, read: SignedRead, mono: float) -> Answer | Lacking:
        if self.market is not AccountMarket.SPOT or not self.spot.has_answer:
            return Lacking("no answer yet")
        if mono - self.spot.rest_mono > self._options.reconcile_s:
            return Lacking("older than ACCOUNT_RECONCILE_MINUTES")
        if self.spot.is_awaited or self.writes.is_pending(None):
            return Lacking("balances not told yet", may_come=True)
        body = self.spot.answer(without_zeros=read.omits_zeros)
        if body is None:
            return Lacking("balances not known whole")
        return Answer(body, int((mono - self.spot.rest_mono) * 1000))

    async def wait_for(self, read: SignedRead) -> Answer | Lacking:
        """Answer, or wait for the event that is under way, at most `ACCOUNT_WAIT_MS`."""
        end = self._clock.mono() + self._options.wait_ms / 1000
        while True:
            found = self.answer(read)
            left_s = end - self._clock.mono()
            if isinstance(found, Answer) or not found.may_come or left_s <= 0:
                return found
            changed = self._changed
            try:
                await within(changed.wait(), min(left_s, 0.05))
            except asyncio.TimeoutError:
                continue


def _transact_ms(body: bytes) -> int:
    try:
        row = read_rows(body)[0]
        return moment_ms(row.get("transactTime", 0))
    except (BadEvent, IndexError):
        return 0
