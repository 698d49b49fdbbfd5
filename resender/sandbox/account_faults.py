"""What goes wrong with the user streams and the order lists of accounts, one object per market.

`sandbox.faults.accounts[Market.UM]` is one; portfolio margin follows its UM and CM. Switches are read
at every event, acts happen at once; none of it touches market streams.

Switches::

    lose_next["TRADE"] = 2     # the next two events that fit are lost; patterns are searched in
                               # "executionReport TRADE FILLED", "ACCOUNT_UPDATE ORDER", "listStatus ALL_DONE", ...
    twice = True               # each event comes two times
    delay_ms = 1000            # each event comes that much later
    silent = True              # connections answer pings and requests and bring no events
    mute = True                # connections of accounts answer nothing at all, not even pings
    rest_lag_ms = 500          # openOrders and openAlgoOrders show what stood that long ago
    expired_as_text = True     # E of listenKeyExpired is a string

Acts::

    drop()                     # reset every connection that brings events; returns how many
    expire_keys(notice=True)   # end all listen keys (UM, CM, PM); without notice the streams fall silent
    terminate()                # end all subscriptions of the WebSocket API with eventStreamTerminated
    send({...})                # any event to all accounts that listen
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Protocol


class AccountActions(Protocol):
    """What a market's user streams can be told to do at once."""

    def drop_users(self) -> int: ...

    def expire_keys(self, notice: bool) -> int: ...

    def terminate(self, notice: bool) -> int: ...

    def send_users(self, event: dict[str, Any]) -> int: ...


@dataclass(slots=True)
class AccountFaults:
    """Switches and acts of one market; see the module."""

    lose_next: dict[str, int] = field(default_factory=dict)
    twice: bool = False
    delay_ms: float = 0.0
    silent: bool = False
    mute: bool = False
    rest_lag_ms: int = 0
    expired_as_text: bool = False
    lost: int = 0
    _actions: list[AccountActions] = field(default_factory=list, repr=False)

    def bind(self, actions: AccountActions) -> None:
        """Give what carries out the acts."""
        self._actions.append(actions)

    def loses(self, event: dict[str, Any]) -> bool:
        """Tell whether an event is lost, and count it."""
        words = name_of(event)
        for pattern, left in self.lose_next.items():
            if left > 0 and re.search(pattern, words):
                self.lose_next[pattern] = left - 1
                self.lost += 1
                return True
        return False

    def drop(self) -> int:
        """Reset every connection that brings events of an account."""
        return sum(one.drop_users() for one in self._actions)

    def expire_keys(self, notice: bool = True) -> int:
        """End every listen key; return how many there were."""
        return sum(one.expire_keys(notice) for one in self._actions)

    def terminate(self, notice: bool = True) -> int:
        """End every subscription of the WebSocket API; without notice it only falls silent."""
        return sum(one.terminate(notice) for one in self._actions)

    def send(self, event: dict[str, Any]) -> int:
        """Send an event of any content to all who listen to an account; return how many."""
        return sum(one.send_users(event) for one in self._actions)

    def clear(self) -> None:
        """Switch everything off; what has happened stays happened."""
        self.lose_next.clear()
        self.twice = self.silent = self.mute = self.expired_as_text = False
        self.delay_ms, self.rest_lag_ms = 0.0, 0


def name_of(event: dict[str, Any]) -> str:
    """Return what a pattern of `lose_next` is searched in: event, execution, status."""
    inner = event.get("o") if isinstance(event.get("o"), dict) else event
    assert isinstance(inner, dict)
    words = [str(event.get("e", ""))]
    if event.get("e") == "ACCOUNT_UPDATE":
        words.append(str(event["a"]["m"]))
    elif event.get("e") == "listStatus":
        words.append(str(event["l"]))
    else:
        words += [str(inner[name]) for name in ("x", "X") if name in inner]
    return " ".join(words)
