"""Who is let in, by address, token and headers."""

import math

import pytest

from vla_ros.console.access import Access, is_loopback, new_token
from vla_ros.console.errors import ConsoleError

TOKEN = "a-token-that-is-long-enough"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "robot.example", ""])
def test_other_addresses_need_a_token(host):
    with pytest.raises(ConsoleError, match="without a token"):
        Access(host)
    Access(host, TOKEN)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_this_machine_needs_none(host):
    assert is_loopback(host)
    assert Access(host).admits(None)


@pytest.mark.parametrize("token", ["short", "x" * 5000, "with a space in it, long", "ümlaute-sind-nicht-ascii"])
def test_a_token_that_can_be_guessed_or_sent_by_nobody(token):
    with pytest.raises(ConsoleError, match="token has"):
        Access("0.0.0.0", token)


@pytest.mark.parametrize("token", ["", None, 5, math.nan, TOKEN[:-1], TOKEN + "x", [TOKEN], "\ud800"])
def test_a_wrong_token_does_not_come_in(token):
    access = Access("0.0.0.0", TOKEN)
    assert not access.admits(token)
    assert access.admits(TOKEN)


def test_new_tokens_are_long_and_differ():
    Access("0.0.0.0", new_token())
    assert new_token() != new_token()


@pytest.mark.parametrize("host", ["evil.example:8060", "evil.example", "", "127.0.0.1.evil.example:8060"])
def test_a_name_that_was_given_this_address_is_refused(host):
    """DNS rebinding: a site of somebody else's whose name leads here."""
    assert "Host is" in Access("127.0.0.1").refusal(host, f"http://{host}")


@pytest.mark.parametrize("host", ["127.0.0.1:8060", "localhost:8060", "[::1]:8060"])
def test_the_own_page_comes_in(host):
    assert Access("127.0.0.1").refusal(host, f"http://{host}") == ""
    assert Access("127.0.0.1").refusal(host, None) == ""


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "", "http://["])
def test_the_page_of_another_site_is_refused(origin):
    assert "Origin is" in Access("127.0.0.1").refusal("127.0.0.1:8060", origin)
    assert "Origin is" in Access("0.0.0.0", TOKEN).refusal("127.0.0.1:8060", origin)


def test_the_port_of_the_estop_hears_the_page_of_the_other_port():
    access = Access("127.0.0.1")
    assert access.refusal("127.0.0.1:8061", "http://127.0.0.1:8060", same_port=False) == ""
    assert access.refusal("127.0.0.1:8061", "http://evil.example:8060", same_port=False) != ""


def test_with_a_token_any_name_may_lead_here():
    assert Access("0.0.0.0", TOKEN).refusal("robot.example:8060", "http://robot.example:8060") == ""
