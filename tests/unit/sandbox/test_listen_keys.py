"""Listen keys belong to an account and a host, are prolonged and end."""

from resender.sandbox.listen_keys import ListenKeys


def test_key_is_the_same_until_it_ends():
    keys = ListenKeys(1, 1000)
    first = keys.create("fapi", "a", 0)
    assert keys.create("fapi", "a", 999) == first
    assert keys.keep("fapi", "a", 1998) == first
    assert keys.alive("fapi", "a", 2997) == first
    assert keys.alive("fapi", "a", 2998) is None
    assert keys.keep("fapi", "a", 2998) is None
    assert keys.create("fapi", "a", 2998) != first


def test_keys_of_hosts_and_accounts_differ():
    keys = ListenKeys(1, 1000)
    made = {(host, who): keys.create(host, who, 0) for host in ("fapi", "dapi") for who in "ab"}
    assert len(set(made.values())) == 4
    for (host, who), text in made.items():
        assert keys.owner(text, (host,), 500) == who
        assert keys.owner(text, ("papi",), 500) is None
        assert keys.owner(text, (host,), 1000) is None


def test_end_takes_what_is_over_or_all_of_some_hosts():
    keys = ListenKeys(1, 1000)
    first = keys.create("fapi", "a", 0)
    second = keys.create("fapi", "b", 500)
    other = keys.create("dapi", "a", 0)
    assert keys.next_end_ms == 1000
    assert keys.end(("fapi", "papi"), 1000) == [("fapi", first)]
    assert keys.end(("fapi", "papi")) == [("fapi", second)]
    assert (keys.close("dapi", "a"), keys.close("dapi", "a"), keys.next_end_ms) == (other, None, None)


def test_token_is_good_until_its_end():
    keys = ListenKeys(1, 1000)
    token, until = keys.create_token("a", 60_000, 5)
    assert until == 60_005
    assert keys.token(token, 60_004) == ("a", until)
    assert keys.token(token, 60_005) is None
    assert keys.token("other", 5) is None
