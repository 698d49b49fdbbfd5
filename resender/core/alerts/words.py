"""The words of alerts, in both languages. Pure; no value is a secret, whoever made the event sees to that."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from resender.core.alerts.board import Event
from resender.core.alerts.kinds import Level

LANGUAGES = ("en", "zh")
_SHOWN = 12
# What begins, by kind: what has happened, then what it means or what to do.
_TEXTS: dict[str, tuple[str, str]] = {
    "banned": (
        "Binance has banned the address of egress {egress} ({pool}), {seconds} s left. Nothing is sent by it now.",
        "出口 {egress}（{pool}）的 IP 已被 Binance 封禁，剩余 {seconds} 秒；期间不会再向其发送请求。",
    ),
    "paused": (
        "Egress {egress} is over a limit of Binance ({pool}, 429): it pauses, {seconds} s left.",
        "出口 {egress} 超出 Binance 限额（{pool}，429），暂停发送，剩余 {seconds} 秒。",
    ),
    "region": (
        "Binance does not serve this machine's country ({market}, 451). Use another egress or move the server.",
        "Binance 不向本机所在地区提供服务（{market}，451）。请更换出口或迁移服务器。",
    ),
    "unreachable": (
        "Binance cannot be reached ({market}): {why}",
        "无法连接 Binance（{market}）：{why}",
    ),
    "egress": (
        "Egress {egress} is down ({markets}): {why}. Calls take other egresses, pinned keys are refused.",
        "出口 {egress} 不可用（{markets}）：{why}。请求改走其他出口，绑定该出口的 API Key 会被拒绝。",
    ),
    "cache": (
        "Market data of {market} is not live: {live} of {wanted} wanted series can answer. Calls are forwarded "
        "and cost weight.",
        "{market} 的行情数据未就绪：{wanted} 个所需序列中只有 {live} 个可用；请求改为转发，会消耗权重。",
    ),
    "database": (
        "The database cannot be used: {why}. Calls go on; log-ins and changes do not.",
        "数据库不可用：{why}。转发不受影响，但无法登录和修改设置。",
    ),
    "migration": (
        "Version {version} could not bring the database up to date and did not start: {why}",
        "版本 {version} 升级数据库失败，未能启动：{why}",
    ),
    "disk": (
        "The disk is nearly full: {free_mb} MB are free where the data lies.",
        "磁盘空间不足：数据目录所在磁盘仅剩 {free_mb} MB。",
    ),
    "clock": (
        "This machine's clock is {off_ms} ms off. Signed calls and certificates depend on it: check the time service.",
        "本机时钟偏差 {off_ms} 毫秒，会影响签名请求和证书校验；请检查时间同步服务。",
    ),
    "certificate": (
        "The TLS certificate ends in {days} days.",
        "TLS 证书将在 {days} 天后到期。",
    ),
    "node": (
        "Node {node} is gone: it was last seen {seconds} s ago.",
        "节点 {node} 已失联，最后一次出现是 {seconds} 秒前。",
    ),
    "key": (
        "Binance has refused the API key ...{hint} through egress {egress} (-2015): the key is wrong, lacks the "
        "permission, or this egress's address is not in its list.",
        "Binance 通过出口 {egress} 拒绝了 API Key ...{hint}（-2015）：Key 无效、权限不足，"
        "或该出口的 IP 不在其白名单中。",
    ),
    "login": (
        "{user} has logged in to the admin pages from a new address, {address}.",
        "用户 {user} 从新地址 {address} 登录了管理页面。",
    ),
    "strangers": (
        "{count} calls of addresses outside the whitelist were refused within ten minutes, the last from {address}.",
        "十分钟内拒绝了 {count} 次白名单外地址的请求，最近一次来自 {address}。",
    ),
    "test": (
        "This is a test: alerts of this gateway arrive here.",
        "这是一条测试消息：本网关的告警会发送到这里。",
    ),
}
_OVER = {"en": "Over after {time}: ", "zh": "已恢复（持续 {time}）："}
_MORE = {"en": "... and {n} more", "zh": "……另有 {n} 条"}
_MARKS = {Level.CRITICAL: "🔴", Level.WARNING: "🟠"}
_DONE = "🟢"


def sentence(event: Event, language: str) -> str:
    """Say one event in one sentence, without a mark."""
    text = _TEXTS[event.kind.name][LANGUAGES.index(language)].format_map(_Values(event.values))
    if event.lasted_s is None:
        return text
    return _OVER[language].format(time=_time(event.lasted_s, language)) + text


def message(events: Sequence[Event], node: str, language: str) -> tuple[str, str]:
    """Put events into one message: a title and a text of a line each."""
    first = events[0]
    mark = (
        _DONE
        if all(event.lasted_s is not None for event in events)
        else _MARKS[max(e.kind.level for e in events if e.lasted_s is None)]
    )
    title = f"{mark} Binance Resender · {node}"
    lines = []
    for event in events[:_SHOWN]:
        own = _DONE if event.lasted_s is not None else _MARKS[event.kind.level]
        lines.append(f"{own} {sentence(event, language)}" if len(events) > 1 else sentence(event, language))
    if len(events) > _SHOWN:
        lines.append(_MORE[language].format(n=len(events) - _SHOWN))
    at = datetime.fromtimestamp(first.at_ms / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    return title, "\n".join([*lines, at])


def _time(seconds: float, language: str) -> str:
    units = ("s", "min", "h") if language == "en" else ("秒", "分钟", "小时")
    if seconds < 120:
        return f"{int(seconds)} {units[0]}"
    if seconds < 7200:
        return f"{int(seconds / 60)} {units[1]}"
    return f"{int(seconds / 3600)} {units[2]}"


class _Values(dict[str, str | int]):
    def __missing__(self, name: str) -> str:
        return "?"
