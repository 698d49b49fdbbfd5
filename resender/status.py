"""One picture of the gateway: frozen snapshots of its services, made once for all who show them.

`/local/status`, `/metrics`, the dashboard, the pages of series and the systemd line read these and
nothing behind them. A `Status` changes nothing; it belongs to one gateway.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from resender.access import Access
from resender.account import Accounts
from resender.aio import Clock
from resender.core.binance.markets import INTERVALS, Market
from resender.core.egress.own_reads import CALM_PART
from resender.core.egress.report import weight_rows
from resender.core.market.costs import POOLS, cheapest_piece, kline_weight
from resender.core.reachability import UNKNOWN, UNREACHABLE, text_of
from resender.fanout import Fanout, FanoutSnapshot, fanout_snapshot
from resender.loop_lag import LoopLag
from resender.market.cache import MarketCache
from resender.market.kinds import Klines
from resender.market.market_state import MarketState
from resender.market.series import Kept, KeptKlines
from resender.savings import Savings
from resender.snapshots import (
    AnswerCounts,
    BackfillSnapshot,
    Check,
    CloseSnapshot,
    MarketSnapshot,
    SeriesSnapshot,
    UpstreamSnapshot,
    close_rows,
    series_row,
)
from resender.store import Store
from resender.turns import next_turn
from resender.upstream.dispatch import Dispatch

if TYPE_CHECKING:
    from resender.cluster import Cluster

_SHOWN_AT_ONCE = 32
_LIVE = ("live", "filling")
# What a client could not be served through at all; a ban is read from the pool, which knows its end.
_OUT_OF_REACH = frozenset({UNREACHABLE, "region", "timeout"})
# An answer that is older tells nothing of now: nobody may have asked since.
_TELLING_MS = 300_000
_SLOWEST_SHOWN = 10
_CHECKED_S = 1.0


class Status:
    """Makes the snapshots."""

    def __init__(
        self,
        *,
        access: Access,
        dispatch: Dispatch,
        cache: MarketCache | None,
        fanout: Fanout,
        lag: LoopLag,
        savings: Savings,
        store: Store,
        clock: Clock,
        accounts: Accounts | None = None,
        cluster: Cluster | None = None,
        workers: Callable[[], list[dict[str, Any]]] = list,
        weights_of_workers: Callable[[], dict[tuple[str, str], tuple[int, int]]] = dict,
    ) -> None:
        self._cluster = cluster
        # Describes the workers besides this one.
        self.workers = workers
        self._weights_of_workers = weights_of_workers
        self._accounts = accounts
        self._fanout = fanout
        self._lag = lag
        self._savings = savings
        self._access = access
        self._dispatch = dispatch
        self._governor = dispatch.egress.governor
        self._cache = cache
        self._store = store
        self._clock = clock
        self._checks: list[Check] = []
        self._checked_until = float("-inf")

    def fanout(self) -> FanoutSnapshot:
        """Tell who listens to streams."""
        return fanout_snapshot(self._fanout)

    def accounts(self) -> list[dict[str, Any]]:
        """Count the accounts that are watched, by market and state."""
        found = Counter(
            (account.market.value, str(account.state()["state"]))
            for account in (self._accounts.all if self._accounts is not None else ())
        )
        return [
            {"market": market, "state": state, "count": count}
            for (market, state), count in sorted(found.items())
        ]

    def nodes(self) -> list[dict[str, Any]]:
        """List the nodes, see `NodeInfo.public_row`; empty where there is only one."""
        return [node.public_row() for node in self._cluster.nodes()] if self._cluster is not None else []

    def slowest(self) -> list[dict[str, Any]]:
        """Tell what held the event loop for longest since the start, the worst first."""
        worst = sorted(self._lag.worst.items(), key=lambda item: -item[1])[:_SLOWEST_SHOWN]
        return [{"where": where, "ms": round(seconds * 1000, 1)} for where, seconds in worst]

    # --- the cache -------------------------------------------------------------------------

    def answers(self) -> AnswerCounts:
        cache = self._cache
        if cache is None:
            return AnswerCounts()
        return AnswerCounts(cache.hits, cache.misses, tuple(cache.miss_reasons.most_common()))

    def saved(self) -> dict[tuple[str, str], int]:
        """Tell the weight that answers out of memory have saved since the start, by market and kind."""
        return dict(self._savings.total)

    def saved_today(self) -> dict[str, int]:
        """Tell the same since midnight (UTC), by kind."""
        return self._savings.today()

    def kept(
        self, market: Market | None = None, what: str | None = None
    ) -> Iterator[tuple[MarketState, Kept]]:
        """Yield what is kept, not yet put into a snapshot: of thousands a page shows a few."""
        for state in self._states():
            if market in (None, state.market):
                for kept in state.entries():
                    if what in (None, kept.what):
                        yield state, kept

    def series(self, state: MarketState, kept: Kept) -> SeriesSnapshot:
        age_ms, proof = state.proof(kept)
        return SeriesSnapshot(
            market=kept.market,
            symbol=kept.symbol,
            what=kept.what,
            state=kept.state,
            age_ms=age_ms,
            proof=proof,
            mutes=kept.mutes,
            rows=kept.rows,
            depth=kept.series.depth if isinstance(kept, KeptKlines) else 1,
            last_open=kept.last_open,
            hits=kept.hits,
            misses=dict(kept.misses),
            is_preload=kept.is_preload,
            idle_s=max(0.0, self._clock.mono() - kept.used_mono),
        )

    def markets(self) -> list[MarketSnapshot]:
        found = []
        for state in self._states():
            states = [(kept.state in _LIVE, kept.is_preload) for kept in state.entries()]
            found.append(
                MarketSnapshot(
                    market=state.market,
                    kept=len(states),
                    live=sum(is_live for is_live, _ in states),
                    wanted=sum(is_wanted for _, is_wanted in states),
                    wanted_live=sum(is_live and is_wanted for is_live, is_wanted in states),
                    mutes=state.mutes,
                    corrected=state.kind(Klines).corrected,
                    witness_reads=sum(kind.witness_reads for kind in state.kinds),
                    connections=tuple(link for feed in state.feeds for link in feed.connections),
                )
            )
        return found

    def closes(self) -> list[CloseSnapshot]:
        """Tell what became of the last closes, shortest interval first."""
        return [
            CloseSnapshot(state.market, interval, tuple(logs[interval].stats()))
            for state in self._states()
            for logs in (state.kind(Klines).closes,)
            for interval in INTERVALS[state.market]
            if interval in logs
        ]

    def backfills(self) -> list[BackfillSnapshot]:
        return [self._backfill(self._cache, pool) for pool in self._cache.backfills] if self._cache else []

    def _backfill(self, cache: MarketCache, pool: str) -> BackfillSnapshot:
        total = queued = missing = weight = 0
        markets = [market for market in cache.states if POOLS[market] == pool]
        for market in markets:
            piece = cheapest_piece(market, 1 << 30)
            price = kline_weight(market, piece)
            for kept in cache.states[market].kind(Klines).kept.values():
                total += 1
                if kept.series.is_synced and kept.is_filled:
                    continue
                queued += 1
                lacks = 0 if kept.is_filled else max(0, kept.series.depth - len(kept.series))
                missing += lacks
                weight += max(1, -(-lacks // piece)) * price
        limit = self.own_limit(markets[0])
        return BackfillSnapshot(
            pool=pool,
            limit=limit,
            total=total,
            queued=queued,
            rows_read=cache.backfills[pool].rows_read,
            rows_missing=missing,
            minutes=weight / max(1.0, limit * self.own_share * CALM_PART),
            paused_s=max(0.0, self._governor.closed_s(markets[0], pool, self._clock.mono())),
        )

    def own_limit(self, market: Market) -> int:
        """Return the weight a minute of a market's pool at all its egresses together."""
        return self._governor.own_limit(market, POOLS[market])

    @property
    def own_share(self) -> float:
        """The part of it that own reads may use."""
        return self._governor.own.share

    def _states(self) -> Iterator[MarketState]:
        if self._cache is not None:
            yield from self._cache.states.values()

    # --- upstreams and weight --------------------------------------------------------------

    def upstreams(self) -> list[UpstreamSnapshot]:
        """Tell how each market that is switched on answered last."""
        found = []
        for market in self._dispatch.egress.upstreams:
            last = self._dispatch.last_answers.get(market)
            if last is None:
                found.append(UpstreamSnapshot(market, UNKNOWN, None, None))
            else:
                found.append(UpstreamSnapshot(market, last.kind, last.status, last.at_ms, last.in_row))
        return found

    def weights(self) -> list[dict[str, Any]]:
        """Describe the weight of every pool at every egress, see `weight_rows`."""
        return weight_rows(self._governor, self._clock.mono())

    def node_weights(self) -> list[dict[str, Any]]:
        """Describe the same, with what the other workers of this node have used."""
        others = self._weights_of_workers()
        rows = self.weights()
        for row in rows:
            used, reserved = others.get((row["egress"], row["pool"]), (0, 0))
            row["used"] += used
            row["reserved"] += reserved
        return rows

    def clients(self) -> list[dict[str, Any]]:
        """List what each client has used, see `ClientShares.status`."""
        governor = self._governor
        window = int(governor.clock.low_ms(self._clock.mono()) // governor.window_ms)
        return governor.clients.status(window)

    # --- for people and programs -----------------------------------------------------------

    def is_out_of_reach(self, each: UpstreamSnapshot, kinds: frozenset[str] = _OUT_OF_REACH) -> bool:
        """Tell whether a market could not be reached lately, or does not serve this country.

        Shape: one call that came to nothing says nothing yet; on a quiet market no other may follow for long.
        """
        is_telling = each.at_ms is not None and self._clock.now_ms() - each.at_ms < _TELLING_MS
        return is_telling and each.kind in kinds and (each.status is not None or each.in_row > 1)

    def readiness(self) -> list[Check]:
        """Tell whether calls would be answered: the database, the upstreams, the streams that rules want.

        Shape: an upstream that nobody has asked yet counts as well; one symbol that is not live does not take a node
            out of its balancer, a market without a live connection does.
        """
        now = self._clock.mono()
        if now < self._checked_until:
            return self._checks  # anybody may ask, and looking at thousands of series takes its time
        self._checked_until = now + _CHECKED_S
        stats = self._store.stats
        store = Check("store", stats.healthy, "" if stats.healthy else str(stats.last_error or ""))
        bad = [f"{each.market.value}: {each.text}" for each in self.upstreams() if self.is_out_of_reach(each)]
        bad += [
            f"{row['egress']}, {row['pool']}: {text_of('banned', 418)}"
            for row in self.weights()
            if row["state"] == "banned"
        ]
        reach = Check("upstreams", not bad, "; ".join(bad))
        dark = [each.market.value for each in self.markets() if each.wanted and not each.is_live]
        self._checks = [
            store,
            reach,
            Check("streams", not dark, f"not live: {', '.join(dark)}" if dark else ""),
        ]
        return self._checks

    def in_words(self) -> str:
        """Say in a few words how the gateway is doing."""
        words = [f"{self._access.whitelist.size} whitelist entries"]
        if self._cache is not None:
            markets = self.markets()
            live, kept = sum(each.live for each in markets), sum(each.kept for each in markets)
            words.append(f"{live} of {kept} series live")
        bad = sorted(each.market.value for each in self.upstreams() if each.kind == UNREACHABLE)
        if bad:
            words.append(f"cannot reach: {', '.join(bad)}")
        return ", ".join(words)

    async def local(self) -> dict[str, Any]:
        """Build the answer of `/local/status`, in slices: other calls get their turn.

        Shape: {"series":[{"market","symbol","interval","state","last_open","age_ms","proof",
            "mutes","rows","hits","misses"}],"connections":[{"market","streams","age_s","last_frame_ms",
            "reconnects"}],"backfill":[{"pool","limit","rows_read","queued"}],"closes": as `close_rows`,
            "streams": as `FanoutSnapshot.shown`,"loop":[{"where","ms"}],"weights": as `weight_rows`,
            "saved_today": {kind: weight},"accounts":[{"market","state","count"}],"nodes": as `nodes`,
            "workers": as `Crew.rows`, empty where there is one}.
        """
        series = []
        for number, (state, kept) in enumerate(list(self.kept()), 1):
            series.append(series_row(self.series(state, kept)))
            if not number % _SHOWN_AT_ONCE:
                await next_turn()
        return {
            "series": series,
            "connections": [
                {
                    "market": market.market.value,
                    "streams": link.streams,
                    "age_s": round(link.age_s, 1),
                    "last_frame_ms": link.last_frame_ms,
                    "reconnects": link.reconnects,
                }
                for market in self.markets()
                for link in market.connections
            ],
            "backfill": [
                {
                    "pool": each.pool,
                    "limit": each.limit,
                    "rows_read": each.rows_read,
                    "queued": each.queued,
                }
                for each in self.backfills()
            ],
            "closes": close_rows(self.closes()),
            "streams": self.fanout().shown(),
            "loop": self.slowest(),
            "weights": self.node_weights(),
            "saved_today": self.saved_today(),
            "accounts": self.accounts(),
            "nodes": self.nodes(),
            "workers": self.workers(),
        }
