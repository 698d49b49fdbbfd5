"""Who listens to streams, for the page "Stream clients"; one of them can be disconnected.

It reads the status and asks Binance nothing. No state.
"""

from __future__ import annotations

from resender.errors import RouteError
from resender.web.admin.long_answers import LiveHandler

# Close code 1008 would be the client's fault; it may come back.
_CLOSE = (1012, "disconnected by the administrator")


class ClientsHandler(LiveHandler):
    """`GET /admin/api/clients`."""

    def get(self) -> None:
        self.send(self.services.status.fanout().shown())


class ClientHandler(LiveHandler):
    """`DELETE /admin/api/clients/{id}`."""

    async def delete(self, number: str) -> None:
        fanout = self.services.fanout
        client = fanout.clients.get(int(number))
        guest = fanout.guests.get(int(number))
        one = client or guest
        if one is None:
            raise RouteError("There is no such client any more.", {"reason": "gone"})
        subject, actor, ip = one.address, self.login.actor, self.ip
        await self.services.store.run(
            lambda repository: repository.audit_add(
                actor, ip, "clients.disconnect", subject, {"path": one.path}, None
            )
        )
        if client is not None:
            fanout.close(client, *_CLOSE)
        elif guest is not None:
            guest.close(*_CLOSE)
        self.send({})
