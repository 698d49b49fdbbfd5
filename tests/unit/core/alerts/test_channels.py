"""The channels: which fields each takes, what is posted for a message, and how an answer is read."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.alerts.channels import CHANNELS, check_fields, make_post, problem_of, shown_fields
from tests.support.alert_events import AT_MS, FIELDS, MARK, TOKEN

I18N = Path(__file__).resolve().parents[4] / "admin_static" / "i18n"
HTTP = tuple(kind for kind in CHANNELS if kind != "email")
EACH = pytest.mark.parametrize("kind", CHANNELS)
EVENTS: list[dict[str, object]] = [{"kind": "banned", "state": "begins"}]
# What the services take at most, by their pages: characters of Discord's content and Telegram's text, bytes of
# WeCom's content; the whole of a push notification of Apple, which Bark makes, may have 4096 bytes.
MOST = {"telegram": 4096, "discord": 2000, "wecom": 2048, "bark": 4096}


def post(kind: str, title: str = "Title", text: str = "Text", **fields: str) -> Any:
    return make_post(kind, {**FIELDS[kind], **fields}, title, text, EVENTS, AT_MS)


def body(kind: str, title: str = "Title", text: str = "Text", **fields: str) -> Any:
    return json.loads(post(kind, title, text, **fields).body)


# --- fields ---------------------------------------------------------------------------------------


@EACH
def test_fields_of_a_channel_come_back_as_given(kind: str) -> None:
    assert check_fields(kind, FIELDS[kind]) == FIELDS[kind]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_page_has_words_for_every_channel_field_and_choice(language: str) -> None:
    words = json.loads((I18N / f"{language}.json").read_text("utf-8"))
    for kind, specs in CHANNELS.items():
        assert {f"alerts.type.{kind}", f"alerts.help.{kind}"} <= words.keys()
        for spec in specs:
            assert f"alerts.field.{spec.name}" in words
            assert {f"alerts.choice.{choice}" for choice in spec.choices} <= words.keys()


@pytest.mark.parametrize(
    ("kind", "given", "found"),
    [
        ("telegram", {"token": TOKEN, "chat_id": "7"}, {"server": "https://api.telegram.org"}),
        ("bark", {"key": "abc"}, {"server": "https://api.day.app"}),
        ("email", {"host": "h", "sender": "a@b.c", "to": "d@e.f"}, {"port": "587", "security": "starttls"}),
        ("feishu", {"url": "https://h/x"}, {}),
        ("bark", {"key": " abc ", "server": ""}, {"key": "abc", "server": "https://api.day.app"}),
    ],
)
def test_what_is_left_out_has_its_default(kind: str, given: Any, found: Any) -> None:
    assert check_fields(kind, given) == {**{name: value for name, value in given.items() if value}, **found}


@EACH
def test_each_needed_field_is_asked_for_by_its_name(kind: str) -> None:
    for spec in CHANNELS[kind]:
        if spec.is_needed:
            given = {name: value for name, value in FIELDS[kind].items() if name != spec.name}
            for lacking in (given, {**given, spec.name: "  "}):
                with pytest.raises(ValueError) as caught:
                    check_fields(kind, lacking)
                assert caught.value.args == (spec.name, "It is needed.")


@EACH
def test_field_there_is_not_is_refused(kind: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_fields(kind, {**FIELDS[kind], "color": "red"})
    assert caught.value.args == ("color", "There is no such field.")


@EACH
def test_too_long_and_broken_lines_are_refused_by_name(kind: str) -> None:
    for spec in CHANNELS[kind]:
        for odd in ("x" * 1001, "a\nb", "a\r\nBcc: b", "\0x", "a\tb"):
            with pytest.raises(ValueError) as caught:
                check_fields(kind, {**FIELDS[kind], spec.name: odd})
            assert caught.value.args[0] == spec.name


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example/a/b?c=d&e=%20",
        "http://10.0.0.7:8080/x",
        "https://[2001:db8::1]:8443/x",
        "https://xn--bcher-kva.example/",
        "https://hooks.example",
    ],
)
def test_address_of_a_webhook_is_taken(url: str) -> None:
    assert check_fields("webhook", {"url": url}) == {"url": url}


@pytest.mark.parametrize(
    "url",
    [
        "hooks.example/a", "ftp://hooks.example/a", "https:///a", "https://", "//hooks.example/a", "javascript:x",
        "https://user:word@hooks.example/", "https://user@hooks.example/", "https://hooks.example:99999/",
        "https://hooks.example:port/", "https://hooks.example/a b", "https://bücher.example/", "https://[::1/x",
        "file:///etc/passwd",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["webhook", "feishu", "dingtalk", "wecom", "slack", "discord"])
def test_what_is_no_address_is_refused(kind: str, url: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_fields(kind, {"url": url})
    assert caught.value.args[0] == "url"
    assert "user" not in caught.value.args[1]


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("telegram", "token", "AAF"),
        ("telegram", "token", "123456789"),
        ("telegram", "token", f"bot{TOKEN}"),
        ("telegram", "token", f"{TOKEN}/../x"),
        ("telegram", "server", "api.telegram.org"),
        ("bark", "server", "day.app"),
        ("email", "host", "mail example"),
        ("email", "host", "mail.example/x"),
        ("email", "host", "x" * 254),
        ("email", "port", "0"),
        ("email", "port", "65536"),
        ("email", "port", "-1"),
        ("email", "port", "٤٦٥"),
        ("email", "port", "587a"),
        ("email", "security", "ssl"),
        ("email", "sender", "robot"),
        ("email", "sender", "@mail.example"),
        ("email", "sender", "Robot <robot@mail.example>"),
        ("email", "to", "owner@"),
        ("email", "to", "owner@mail.example,,b@mail.example"),
        ("email", "to", "owner@mail.example, nobody"),
    ],
)
def test_wrong_value_is_told_at_its_field_and_not_shown(kind: str, name: str, value: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_fields(kind, {**FIELDS[kind], name: value})
    field, words = caught.value.args
    assert field == name
    assert words.endswith(".")
    assert MARK not in words


def test_several_addresses_may_get_a_mail() -> None:
    to = "owner@mail.example, second@mail.example"
    assert check_fields("email", {**FIELDS["email"], "to": to})["to"] == to


def test_password_is_never_sent_without_tls() -> None:
    plain = {**FIELDS["email"], "security": "none"}
    with pytest.raises(ValueError) as caught:
        check_fields("email", plain)
    assert caught.value.args == ("security", "A password is not sent without TLS.")
    del plain["password"]
    assert check_fields("email", plain) == plain


# --- what may be shown ----------------------------------------------------------------------------


@EACH
def test_no_secret_is_shown(kind: str) -> None:
    assert MARK in json.dumps(FIELDS[kind])
    shown = shown_fields(kind, FIELDS[kind])
    assert MARK not in json.dumps(shown)
    assert shown, "but enough to tell one from another"
    if "url" in FIELDS[kind]:
        assert shown["url"] == urlsplit(FIELDS[kind]["url"]).hostname
    secrets = {spec.name for spec in CHANNELS[kind] if spec.is_secret and spec.kind != "url"}
    assert not secrets & shown.keys()


@EACH
def test_everything_that_opens_a_channel_is_a_secret(kind: str) -> None:
    words = {"url", "token", "secret", "key", "password"}
    secrets = {spec.name for spec in CHANNELS[kind] if spec.is_secret}
    assert secrets == words & {spec.name for spec in CHANNELS[kind]}


# --- requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", HTTP)
def test_request_is_json_and_holds_the_message(kind: str) -> None:
    made = post(kind, "Tïtle 🔴", "第一行\nsecond")
    assert made.headers["Content-Type"] == "application/json; charset=utf-8"
    text = json.dumps(json.loads(made.body), ensure_ascii=False)
    assert "Tïtle 🔴" in text
    assert "第一行\\nsecond" in text
    assert "第一行".encode() in made.body, "as it is, not escaped: it is shorter"


def test_telegram() -> None:
    made = post("telegram", server="https://tg.example/base/")
    assert made.url == f"https://tg.example/base/bot{TOKEN}/sendMessage"
    wanted = {"chat_id": "-1001234567890", "text": "Title\nText", "disable_web_page_preview": True}
    assert json.loads(made.body) == wanted
    assert "parse_mode" not in wanted, "nothing in a message is markup"


def test_feishu_signs_an_empty_text_with_time_and_secret() -> None:
    found = body("feishu", secret="demo")
    assert found["timestamp"] == str(AT_MS // 1000)
    key = f"{AT_MS // 1000}\ndemo".encode()
    assert base64.b64decode(found["sign"]) == hmac.new(key, digestmod=hashlib.sha256).digest()
    assert (found["msg_type"], found["content"]) == ("text", {"text": "Title\nText"})
    assert set(body("feishu", secret="")) == {"msg_type", "content"}


@pytest.mark.parametrize("url", ["https://ding.example/robot/send?access_token=ab", "https://ding.example/x"])
def test_dingtalk_signs_in_the_query(url: str) -> None:
    made = post("dingtalk", url=url, secret="SECword")
    assert made.url.startswith(url)
    query = parse_qs(urlsplit(made.url).query)
    assert query["timestamp"] == [str(AT_MS)]
    wanted = hmac.new(b"SECword", f"{AT_MS}\nSECword".encode(), hashlib.sha256).digest()
    assert base64.b64decode(query["sign"][0]) == wanted
    assert not re.search(r"[+/=]", made.url.rpartition("sign=")[2]), "it is quoted"
    assert json.loads(made.body) == {"msgtype": "text", "text": {"content": "Title\nText"}}
    assert post("dingtalk", url=url, secret="").url == url


def test_wecom_slack_and_discord() -> None:
    assert body("wecom") == {"msgtype": "text", "text": {"content": "Title\nText"}}
    assert body("slack") == {"text": "Title\nText"}
    assert body("discord") == {"content": "Title\nText", "allowed_mentions": {"parse": []}}
    for kind in ("wecom", "slack", "discord"):
        assert post(kind).url == FIELDS[kind]["url"]


def test_bark_gets_title_and_text_apart_and_its_key_in_the_body() -> None:
    made = post("bark", server="https://bark.example/sub/")
    assert made.url == "https://bark.example/sub/push"
    found = json.loads(made.body)
    assert (found["device_key"], found["title"], found["body"]) == (FIELDS["bark"]["key"], "Title", "Text")


def test_webhook_is_for_programs_and_signed_with_its_time() -> None:
    made = post("webhook", secret="word")
    assert json.loads(made.body) == {"title": "Title", "text": "Text", "events": EVENTS, "time": AT_MS}
    stamp = made.headers["Resender-Timestamp"]
    assert stamp == str(AT_MS)
    wanted = hmac.new(b"word", stamp.encode() + b"." + made.body, hashlib.sha256).hexdigest()
    assert made.headers["Resender-Signature"] == f"sha256={wanted}"
    assert set(post("webhook", secret="").headers) == {"Content-Type"}


@pytest.mark.parametrize("kind", HTTP)
def test_secret_for_signatures_is_not_sent(kind: str) -> None:
    if "secret" in FIELDS[kind]:
        made = post(kind)
        sent = f"{made.url} {dict(made.headers)} {made.body.decode()}"
        assert FIELDS[kind]["secret"] not in sent


def size(kind: str, data: bytes) -> int:
    found = json.loads(data)
    if kind == "telegram":
        return len(found["text"].encode("utf-16-le")) // 2
    if kind == "discord":
        return len(found["content"])
    return len(found["text"]["content"].encode()) if kind == "wecom" else len(data)


@pytest.mark.parametrize("kind", MOST)
@pytest.mark.parametrize("letter", ["a", "é", "汉", "🔴"])
def test_long_message_is_cut_to_what_the_service_takes(kind: str, letter: str) -> None:
    for length in (500, 700, 1000, 1500, 2000, 4000, 8000):
        assert size(kind, post(kind, "Title", letter * length).body) <= MOST[kind]


@pytest.mark.parametrize("kind", HTTP)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=300), times=st.integers(1, 60))
def test_whatever_is_cut_stays_a_text(kind: str, text: str, times: int) -> None:
    found = json.loads(post(kind, "T", text * times).body)
    assert "\ufffd" not in json.dumps(found, ensure_ascii=False) or "\ufffd" in text


def test_short_message_is_not_cut() -> None:
    assert body("wecom", "T", "x" * 1998)["text"]["content"] == "T\n" + "x" * 1998
    assert body("wecom", "T", "x" * 1999)["text"]["content"] == "T\n" + "x" * 1994 + " ..."


# --- answers --------------------------------------------------------------------------------------

GOOD: list[tuple[str, int, bytes]] = [
    ("telegram", 200, b'{"ok":true,"result":{"message_id":1}}'),
    ("feishu", 200, b'{"code":0,"data":{},"msg":"success"}'),
    ("feishu", 200, b'{"Extra":null,"StatusCode":0,"StatusMessage":"success"}'),
    ("dingtalk", 200, b'{"errcode":0,"errmsg":"ok"}'),
    ("wecom", 200, b'{"errcode":0,"errmsg":"ok"}'),
    ("bark", 200, b'{"code":200,"message":"success","timestamp":1}'),
    ("slack", 200, b"ok"),
    ("discord", 204, b""),
    ("discord", 200, b'{"id":"1"}'),
    ("webhook", 200, b""),
    ("webhook", 202, b"<html>queued</html>"),
    ("webhook", 200, b'{"code":1,"msg":"of its own"}'),
]
BAD: list[tuple[str, int, bytes, str]] = [
    ("telegram", 401, b'{"ok":false,"error_code":401,"description":"Unauthorized"}', "Unauthorized"),
    ("telegram", 400, b'{"ok":false,"error_code":400,"description":"Bad Request: chat not found"}', "chat not found"),
    ("telegram", 200, b'{"ok":false,"description":"no"}', "no"),
    ("feishu", 200, b'{"code":19021,"msg":"sign match fail or timestamp is not within one hour"}', "sign match fail"),
    ("feishu", 200, b'{"code":9499,"msg":"Bad Request","data":{}}', "Bad Request"),
    ("dingtalk", 200, b'{"errcode":310000,"errmsg":"sign not match"}', "sign not match"),
    ("wecom", 200, b'{"errcode":93000,"errmsg":"invalid webhook url"}', "invalid webhook url"),
    ("bark", 400, b'{"code":400,"message":"failed to get device token"}', "failed to get device token"),
    ("bark", 200, b'{"code":400,"message":"device key is empty"}', "device key is empty"),
    ("slack", 404, b"no_service", "HTTP 404"),
    ("discord", 404, b'{"message":"Unknown Webhook","code":10015}', "Unknown Webhook"),
    ("webhook", 500, b"<html>", "HTTP 500"),
    ("webhook", 302, b"", "HTTP 302"),
    ("telegram", 200, b"<html>a portal of the hotel</html>", "does not say that it was taken"),
    ("feishu", 200, b"", "does not say that it was taken"),
    ("dingtalk", 200, b"[]", "does not say that it was taken"),
    ("wecom", 200, b"{}", "does not say that it was taken"),
    ("bark", 200, b"null", "does not say that it was taken"),
    ("telegram", 502, b"\xff\xfe\x00", "HTTP 502"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "status", "answer"), GOOD)
def test_message_that_was_taken_has_no_problem(kind: str, status: int, answer: bytes) -> None:
    assert problem_of(kind, status, answer) == ""


@pytest.mark.parametrize(("kind", "status", "answer", "words"), BAD)
def test_refusal_is_told_in_the_words_of_the_service(
    kind: str, status: int, answer: bytes, words: str
) -> None:
    assert words in problem_of(kind, status, answer)


@pytest.mark.parametrize(
    ("answer", "words"), [(b"no_service", "no_service"), (b"invalid_token", "invalid_token")]
)
def test_why_slack_refuses_is_told_too(answer: bytes, words: str) -> None:
    assert words in problem_of("slack", 403, answer)


@pytest.mark.parametrize("kind", HTTP)
@given(status=st.integers(100, 599), answer=st.one_of(st.binary(max_size=60), st.text(max_size=60)))
def test_no_answer_whatever_is_a_fault(kind: str, status: int, answer: bytes | str) -> None:
    data = answer.encode("utf-8", "replace") if isinstance(answer, str) else answer
    for each in (data, b'{"msg":%s,"description":["x"],"code":{}}' % json.dumps(str(answer)).encode()):
        told = problem_of(kind, status, each)
        assert told == "" or (told.isprintable() and len(told) < 260)
        if not 200 <= status < 300:
            assert str(status) in told


def test_unprintable_words_of_a_service_are_one_line() -> None:
    answer = json.dumps({"description": "a\n\x1b[1mb\u202ec"}).encode()
    assert problem_of("telegram", 400, answer) == "HTTP 400: a[1mbc"


def test_every_field_of_every_channel_is_one_the_tests_know() -> None:
    known: Mapping[str, Any] = FIELDS
    for kind, specs in CHANNELS.items():
        assert known[kind].keys() == {spec.name for spec in specs}
