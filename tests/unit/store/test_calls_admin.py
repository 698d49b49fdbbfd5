"""Accounts, log-ins, tokens and the audit for the server: each call is the repository's function of its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from resender.store import Repository
from resender.store.calls_admin import AdminCalls

NAMES = [name for name, value in vars(AdminCalls).items() if inspect.iscoroutinefunction(value)]


class Noted(AdminCalls):
    """Notes what would be run."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any, tuple[Any, ...], dict[str, Any]]] = []

    async def run(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.asked.append(("run", fn, args, kwargs))

    async def write(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.asked.append(("write", fn, args, kwargs))


def own_parameters(function: Any) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())[1:]


@pytest.mark.parametrize("name", NAMES)
async def test_call_passes_what_it_is_given_to_the_function_of_its_name(name: str) -> None:
    one = Noted()
    parameters = own_parameters(getattr(AdminCalls, name))
    given = {parameter.name: f"<{parameter.name}>" for parameter in parameters}
    args = [given[p.name] for p in parameters if p.kind is not p.KEYWORD_ONLY]
    kwargs = {p.name: given[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY}
    await getattr(one, name)(*args, **kwargs)
    ((_, function, passed, named),) = one.asked
    assert function is getattr(Repository, name)
    bound = inspect.signature(function).bind("repository", *passed, **named)
    assert {key: value for key, value in bound.arguments.items() if key != "self"} == given


@pytest.mark.parametrize("name", NAMES)
def test_call_takes_what_the_function_takes_with_the_same_defaults(name: str) -> None:
    mine, theirs = own_parameters(getattr(AdminCalls, name)), own_parameters(getattr(Repository, name))
    assert [(p.name, p.kind, p.default) for p in mine] == [(p.name, p.kind, p.default) for p in theirs]


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(("_list", "_find", "_get"))])
async def test_looking_is_no_writing(name: str) -> None:
    one = Noted()
    parameters = own_parameters(getattr(AdminCalls, name))
    await getattr(one, name)(*["x" for p in parameters if p.default is p.empty])
    assert [how for how, *_ in one.asked] == ["run"]


@pytest.mark.parametrize("name", ["user_add", "user_update", "session_add", "token_add", "audit_add"])
async def test_what_always_writes_shows_whether_writing_works(name: str) -> None:
    one = Noted()
    parameters = own_parameters(getattr(AdminCalls, name))
    await getattr(one, name)(*["x" for p in parameters if p.default is p.empty])
    assert [how for how, *_ in one.asked] == ["write"]
