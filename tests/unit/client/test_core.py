"""The client's core: joining, requests in flight, resuming, deadlines; no socket, no clock."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from ezgraph.client.core import (
    FIRST_RETRY_S,
    JOIN_ID,
    JOIN_RETRY_S,
    LAST_RETRY_S,
    SILENCE_S,
    ClientCore,
    LeaseState,
)
from ezgraph.client.resumption import Resumed, ResumeToken, SessionExpired, WrongCluster
from ezgraph.client.watch import Compacted
from ezgraph.errors import (
    BrokerUnreachableError,
    CompactedError,
    ConfigError,
    ContextClosedError,
    CyclicException,
    DeadlineError,
    EzGraphError,
    JournalFailedError,
    ProtocolVersionError,
    SessionExpiredError,
)
from ezgraph.protocol.commands import (
    Connect,
    Goodbye,
    Hello,
    ReadEvents,
    Resume,
    Shutdown,
    Sync,
    TakeOver,
)
from ezgraph.protocol.events import EndReason
from ezgraph.protocol.replies import Done, Lost, Refusal, Reply, Welcome

HELLO = Hello(1, "session", "nonce", "p", "h", 1, "l")
UNBOUND = Refusal("unbound", "say HELLO or RESUME")


def welcome(head: int = 1, client: str = "s1") -> Welcome:
    return Welcome(1, "0", "c" * 32, 1, head, 1, client, b"token", 6.0, 1234)


class Client:
    """A core, and what it sent and reported since one last looked."""

    def __init__(self, *addresses: str, hello: Hello = HELLO) -> None:
        self.core = ClientCore(hello, addresses or ("a:1",))

    def joined(self) -> Client:
        self.core.start(0.0)
        self.sent()
        self.core.receive(JOIN_ID, welcome(), now=0.0)
        return self

    def state(self) -> LeaseState:
        return self.core.state

    def sent(self) -> list[tuple[int, object]]:
        outbox, self.core.outbox = self.core.outbox, []
        return [(request.request_id, request.command) for request in outbox]

    def lowest(self) -> list[int]:
        outbox, self.core.outbox = self.core.outbox, []
        return [request.lowest_open for request in outbox]

    def results(self) -> dict[int, Reply | EzGraphError]:
        completions, self.core.completions = self.core.completions, []
        return {each.request_id: each.result for each in completions}

    def result(self) -> Reply | EzGraphError:
        (found,) = self.results().values()
        return found


def test_a_client_says_hello_and_is_bound_by_the_welcome() -> None:
    client = Client()
    assert client.state() is LeaseState.NEW

    client.core.start(0.0)
    assert (client.sent(), client.state()) == ([(JOIN_ID, HELLO)], LeaseState.JOINING)
    client.core.receive(JOIN_ID, welcome(), now=0.1)

    assert client.state() is LeaseState.BOUND
    assert client.core.welcome == welcome()


def test_a_hello_is_repeated_with_growing_pauses_until_it_is_answered() -> None:
    client = Client()
    client.core.start(0.0)
    client.sent()
    times = []
    for step in range(2_000):
        client.core.tick(step / 100)
        if client.sent():
            times.append(step / 100)

    assert times[0] == JOIN_RETRY_S
    assert times[:4] == [0.25, 0.75, 1.75, 3.75]
    assert {round(b - a, 2) for a, b in pairwise(times[4:])} == {2.0}  # a third of the TTL


def test_several_addresses_are_tried_in_turn_and_kept_when_one_answers() -> None:
    client = Client("a:1", "b:2")
    client.core.start(0.0)
    dialled = [client.core.address]
    for step in range(600):
        client.core.tick(step / 100)
        if client.core.address != dialled[-1]:
            dialled.append(client.core.address)
    assert dialled[:3] == ["a:1", "b:2", "a:1"]

    client.core.receive(JOIN_ID, welcome(), now=6.0)
    client.core.tick(60.0)
    assert client.core.address == dialled[-1]


def test_requests_wait_for_the_welcome_and_then_go_out_in_order() -> None:
    client = Client()
    client.core.start(0.0)
    client.sent()

    ids = [client.core.submit(Connect("a", each), now=0.0, deadline=9.0) for each in "bcd"]
    assert client.sent() == []
    client.core.receive(JOIN_ID, welcome(), now=1.0)

    assert client.sent() == [(n, Connect("a", each)) for n, each in zip(ids, "bcd", strict=True)]
    assert ids == [1, 2, 3]


def test_a_reply_completes_its_request_once() -> None:
    client = Client().joined()
    first = client.core.submit(Sync(), now=0.0, deadline=9.0)
    second = client.core.submit(Sync(), now=0.0, deadline=9.0)

    client.core.receive(second, Done(7), now=0.1)
    client.core.receive(second, Done(8), now=0.1)
    client.core.receive(99, Done(9), now=0.1)

    assert client.results() == {second: Done(7)}
    client.core.receive(first, Done(7), now=0.1)
    assert client.results() == {first: Done(7)}
    assert client.core.last_seq == 7


def test_a_refusal_completes_with_the_error_it_stands_for() -> None:
    client = Client().joined()
    number = client.core.submit(Connect("a", "a"), now=0.0, deadline=9.0)

    client.core.receive(number, Refusal("cyclic", "a -> a"), now=0.1)

    error = client.result()
    assert type(error) is CyclicException
    assert str(error) == "a -> a"


def test_a_compacted_refusal_carries_the_floor() -> None:
    client = Client().joined()
    number = client.core.submit(ReadEvents([], 0), now=0.0, deadline=9.0)

    client.core.receive(number, Refusal("compacted", "gone", floor=12), now=0.1)

    error = client.result()
    assert isinstance(error, CompactedError)
    assert error.floor == 12


def test_an_overdue_request_is_repeated_under_its_id_with_growing_pauses() -> None:
    client = Client().joined()
    number = client.core.submit(Sync(), now=0.0, deadline=30.0)
    assert client.sent() == [(number, Sync())]
    times = []
    for step in range(1_600):
        client.core.tick(step / 100)
        if sent := client.sent():
            assert sent == [(number, Sync())]
            times.append(step / 100)

    assert times[:4] == [FIRST_RETRY_S, 1.5, 3.5, 7.5]
    assert times[4] - times[3] == LAST_RETRY_S


def test_every_request_names_the_lowest_that_is_still_open() -> None:
    client = Client().joined()
    ids = [client.core.submit(Sync(), now=0.0, deadline=9.0) for _ in range(3)]
    assert client.lowest() == [1, 1, 1]

    client.core.receive(ids[0], Done(1), now=0.0)
    client.core.submit(Sync(), now=0.0, deadline=9.0)
    assert client.lowest() == [2]

    client.core.abandon(ids[1])
    client.core.receive(ids[2], Done(1), now=0.0)
    client.core.submit(Sync(), now=0.0, deadline=9.0)
    assert client.lowest() == [4]


def test_an_unbound_client_resumes_and_repeats_what_is_in_flight_under_the_same_ids() -> None:
    client = Client().joined()
    client.core.receive(client.core.submit(Sync(), now=0.0, deadline=9.0), Done(5), now=0.0)
    ids = [client.core.submit(Connect("a", each), now=0.0, deadline=9.0) for each in "bc"]
    client.sent()

    client.core.receive(ids[0], UNBOUND, now=1.0)
    client.core.receive(ids[1], UNBOUND, now=1.0)

    assert client.state() is LeaseState.RESUMING
    resume = Resume(1, "s1", b"token", "c" * 32, 1, 5, "nonce", is_main=True)
    assert client.sent() == [(JOIN_ID, resume)]
    client.core.receive(JOIN_ID, welcome(9), now=1.1)
    assert client.sent() == [(ids[0], Connect("a", "b")), (ids[1], Connect("a", "c"))]
    assert client.state() is LeaseState.BOUND


def test_while_it_resumes_a_client_does_not_repeat_requests_but_the_resume() -> None:
    client = Client().joined()
    number = client.core.submit(Sync(), now=0.0, deadline=30.0)
    client.core.receive(number, UNBOUND, now=0.0)
    client.sent()

    client.core.tick(3.0)

    assert [type(command) for _, command in client.sent()] == [Resume]


def test_a_guest_says_hello_again_with_the_cluster_it_was_in() -> None:
    client = Client(hello=Hello(1, "guest", "nonce", "p", "h", 1, "l")).joined()
    number = client.core.submit(Sync(), now=0.0, deadline=9.0)
    client.sent()

    client.core.receive(number, UNBOUND, now=1.0)

    ((_, command),) = client.sent()
    assert isinstance(command, Hello)
    assert (command.nonce, command.cluster_id) == ("nonce", "c" * 32)


@pytest.mark.parametrize(
    ("code", "kind"),
    [("session_expired", SessionExpiredError), ("protocol_version", ProtocolVersionError)],
)
def test_a_lost_lease_stays_lost_and_everything_gets_the_reason(
    code: str, kind: type[EzGraphError]
) -> None:
    client = Client().joined()
    number = client.core.submit(Sync(), now=0.0, deadline=9.0)
    client.core.receive(number, UNBOUND, now=0.0)

    client.core.receive(JOIN_ID, Refusal(code, "what, why, what to do"), now=0.1)

    assert client.state() is LeaseState.LOST
    assert isinstance(client.result(), kind)
    for _ in range(2):
        with pytest.raises(kind, match="what, why, what to do"):
            client.core.submit(Sync(), now=0.2, deadline=9.0)
    client.core.receive(JOIN_ID, welcome(), now=0.3)
    assert client.state() is LeaseState.LOST


def test_a_refusal_that_may_pass_is_asked_again_and_named_at_the_deadline() -> None:
    client = Client()
    client.core.start(0.0)
    client.core.submit(Sync(), now=0.0, deadline=2.0)
    client.core.receive(JOIN_ID, Refusal("limit", "5 leases are open (max_leases)"), now=0.0)
    client.sent()

    client.core.tick(1.0)
    assert client.sent() == [(JOIN_ID, HELLO)]
    client.core.tick(2.0)

    error = client.result()
    assert type(error) is DeadlineError
    assert "a:1 did not admit this client" in str(error)
    assert "5 leases are open (max_leases)" in str(error)


def test_without_any_broker_the_deadline_error_names_addresses_tries_and_what_to_do() -> None:
    client = Client("a:1", "b:2")
    client.core.start(0.0)
    client.core.submit(Sync(), now=0.0, deadline=1.0)
    for step in range(101):
        client.core.tick(step / 100)

    error = client.result()

    assert type(error) is BrokerUnreachableError
    assert str(error).startswith("no broker answered at a:1, b:2 within 1.0 s (4 HELLOs sent)")
    assert "`ezgraph serve`" in str(error)
    assert "EZGRAPH_ADDR" in str(error)


def test_a_deadline_names_the_call_the_address_the_attempts_and_the_state() -> None:
    client = Client().joined()
    client.core.submit(Connect("a", "b"), now=0.0, deadline=2.0)
    for step in range(201):
        client.core.tick(step / 100)

    error = client.result()

    assert type(error) is DeadlineError
    assert str(error).startswith("Connect got no answer from a:1 within 2.0 s (3 attempts, bound)")
    assert "`ezgraph status`" in str(error)
    assert "may or may not have taken effect" in str(error)
    client.core.receive(1, Done(2), now=3.0)
    assert client.results() == {}


def test_an_abandoned_request_is_neither_repeated_nor_completed() -> None:
    client = Client().joined()
    number = client.core.submit(Sync(), now=0.0, deadline=9.0)
    client.sent()

    client.core.abandon(number)
    client.core.tick(5.0)
    client.core.receive(number, Done(1), now=5.0)

    assert (client.sent(), client.results()) == ([], {})


def test_closing_fails_what_is_in_flight_and_all_that_comes() -> None:
    client = Client().joined()
    client.core.submit(Sync(), now=0.0, deadline=9.0)

    client.core.close()

    assert isinstance(client.result(), ContextClosedError)
    with pytest.raises(ContextClosedError, match="open a new one"):
        client.core.submit(Sync(), now=0.0, deadline=9.0)


def test_the_next_look_is_due_at_the_next_repetition_or_deadline() -> None:
    client = Client()
    assert client.core.next_due() is None
    client.core.start(0.0)
    assert client.core.next_due() == JOIN_RETRY_S
    client.core.submit(Sync(), now=0.0, deadline=0.1)
    assert client.core.next_due() == 0.1

    client.core.tick(0.1)
    client.core.receive(JOIN_ID, welcome(), now=0.2)
    assert client.core.next_due() is None
    client.core.submit(Sync(), now=1.0, deadline=9.0)
    assert client.core.next_due() == 1.0 + FIRST_RETRY_S


def test_a_core_shows_its_state() -> None:
    client = Client().joined()
    client.core.submit(Sync(), now=0.0, deadline=9.0)

    assert repr(client.core) == "<ClientCore bound in_flight=1>"


# --- several addresses, successors ---


def test_a_silent_broker_is_looked_for_at_the_next_address_while_something_is_asked() -> None:
    client = Client("a:1", "b:2").joined()
    client.core.tick(60.0)
    assert client.core.address == "a:1"  # nothing is asked: nobody can be silent
    number = client.core.submit(Connect("a", "b"), now=100.0, deadline=110.0)
    client.sent()

    due = client.core.next_due()
    client.core.tick(100.0 + SILENCE_S)

    assert due == 100.0 + FIRST_RETRY_S
    assert (client.core.address, client.state()) == ("b:2", LeaseState.RESUMING)
    assert [type(command) for _, command in client.sent()] == [Resume]
    client.core.receive(JOIN_ID, welcome(), now=101.5)
    assert client.sent() == [(number, Connect("a", "b"))]
    assert client.core.resumption == Resumed("s1", 0, 1)


def test_with_one_address_silence_is_waited_out() -> None:
    client = Client().joined()
    client.core.submit(Connect("a", "b"), now=0.0, deadline=60.0)

    for step in range(300):
        client.core.tick(step / 10)

    assert client.state() is LeaseState.BOUND


def test_pauses_between_tries_are_jittered_and_bounded_by_the_lease() -> None:
    client = Client()
    numbers = iter([0.0, 1.0] * 50)
    client.core = ClientCore(HELLO, ("a:1",), jitter=lambda: next(numbers))
    client.core.start(0.0)
    client.sent()
    times = [0.0]
    for step in range(3_000):
        client.core.tick(step / 100)
        if client.sent():
            times.append(step / 100)

    pauses = [round(b - a, 3) for a, b in pairwise(times)]
    assert pauses[:3] == [0.13, 0.75, 0.5]  # 0.25 halved, 0.5 and a half, 1.0 halved
    assert {round(each, 1) for each in pauses[6:]} == {1.0, 3.0}  # TTL / 3, halved and half more


def test_another_cluster_at_one_of_several_addresses_is_not_the_end() -> None:
    client = Client("a:1", "b:2").joined()
    client.core.submit(Connect("a", "b"), now=0.0, deadline=60.0)
    client.core.tick(SILENCE_S)

    client.core.receive(JOIN_ID, Refusal("wrong_cluster", "keeps d"), now=2.0)
    client.core.tick(3.0)

    assert (client.core.address, client.state()) == ("a:1", LeaseState.RESUMING)
    client.core.receive(JOIN_ID, welcome(), now=3.1)
    assert client.state() is LeaseState.BOUND


TOKEN = ResumeToken("session", "s0", b"old", "c" * 32, 1, 40)


def test_a_successor_takes_over_and_numbers_its_requests_above_its_predecessors() -> None:
    client = Client()
    client.core = ClientCore(HELLO, ("a:1",), predecessor=TOKEN)
    first = client.core.submit(Sync(), now=0.0, deadline=9.0)
    client.core.start(0.0)
    assert client.sent() == [(JOIN_ID, TakeOver(HELLO, "s0", b"old", "c" * 32))]

    client.core.receive(JOIN_ID, replace(welcome(50, "s0"), next_request_id=8), now=0.0)

    assert client.core.resumption == Resumed("s0", 40, 50)
    outbox, client.core.outbox = client.core.outbox, []
    assert [(each.request_id, each.lowest_open) for each in outbox] == [(8, 8)]
    client.core.receive(8, Done(50), now=0.1)
    assert client.results() == {first: Done(50)}


def test_a_successor_whose_history_is_compacted_is_told_the_floor() -> None:
    client = Client()
    client.core = ClientCore(HELLO, ("a:1",), predecessor=TOKEN)
    client.core.start(0.0)

    client.core.receive(JOIN_ID, replace(welcome(90, "s0"), floor=60), now=0.0)

    assert client.core.resumption == Compacted(60, None)


@pytest.mark.parametrize(
    ("code", "outcome"), [("session_expired", SessionExpired), ("wrong_cluster", WrongCluster)]
)
def test_a_successor_that_cannot_take_over_opens_a_lease_of_its_own(
    code: str, outcome: type
) -> None:
    client = Client()
    client.core = ClientCore(HELLO, ("a:1",), predecessor=TOKEN)
    client.core.start(0.0)
    client.sent()

    client.core.receive(JOIN_ID, Refusal(code, "it is over"), now=0.0)

    assert isinstance(client.core.resumption, outcome)
    assert client.sent() == [(JOIN_ID, client.core.hello)]
    assert client.core.hello == replace(HELLO, nonce="nonce-own")
    client.core.receive(JOIN_ID, welcome(), now=0.1)
    assert client.state() is LeaseState.BOUND


def test_a_successor_of_the_wrong_kind_is_told_so_at_once() -> None:
    client = Client()
    client.core = ClientCore(HELLO, ("a:1",), predecessor=TOKEN)
    number = client.core.submit(Sync(), now=0.0, deadline=9.0)
    client.core.start(0.0)

    client.core.receive(JOIN_ID, Refusal("invalid_command", "a process's, not yours"), now=0.0)

    assert "not yours" in str(client.results()[number])
    assert client.state() is LeaseState.LOST


def test_a_lost_lease_ends_what_is_in_flight_at_once_and_says_what_was_lost() -> None:
    client = Client().joined()
    number = client.core.submit(Connect("a", "b"), now=0.0, deadline=60.0)
    lost = Lost("s1", 9, EndReason.EXPIRED)

    client.core.lose(Refusal("session_expired", "it ran out", lost=lost))

    error = client.results()[number]
    assert isinstance(error, SessionExpiredError)
    assert error.lost is lost
    with pytest.raises(SessionExpiredError) as again:
        client.core.submit(Sync(), now=1.0, deadline=2.0)
    assert again.value.lost is lost
    assert again.value is not error


@pytest.mark.parametrize("heard_by", ["keep-alive", "resume"])
def test_a_lease_that_is_over_while_its_goodbye_is_on_its_way_was_closed_and_not_lost(
    heard_by: str,
) -> None:
    client = Client().joined()
    waiting = client.core.submit(Sync(), now=1.0, deadline=11.0)
    client.core.submit(Goodbye(), now=1.0, deadline=2.0)
    over = Refusal("session_expired", "s1 has ended (closed): open a new session")

    if heard_by == "keep-alive":
        client.core.lose(over)
    else:  # the answer was lost, and the repetition finds the connection unbound
        client.core.receive(waiting, UNBOUND, now=1.5)
        client.core.receive(JOIN_ID, over, now=1.6)

    assert client.state() is LeaseState.CLOSED
    assert client.core.error is None
    assert isinstance(client.results()[waiting], ContextClosedError)
    with pytest.raises(ContextClosedError):
        client.core.submit(Sync(), now=2.0, deadline=12.0)


def test_a_question_that_a_failed_journal_refuses_is_asked_again_and_a_change_is_not() -> None:
    client = Client().joined()
    question = client.core.submit(Sync(), now=0.0, deadline=3.0)
    change = client.core.submit(Connect("a", "b"), now=0.0, deadline=3.0)

    for number in (question, change):
        client.core.receive(number, Refusal("journal_failed", "the disk is full"), now=0.1)
    client.core.tick(3.0)

    results = client.results()
    assert isinstance(results[change], JournalFailedError)
    assert isinstance(results[question], DeadlineError)
    assert "the disk is full" in str(results[question])


def test_a_token_is_a_line_of_text_and_shows_no_secret_in_listings() -> None:
    assert ResumeToken.parse(f" {TOKEN}\n") == TOKEN
    assert "old" not in repr(TOKEN)
    assert "\n" not in str(TOKEN)
    for text in ("", "ezgraph-token-1.", str(TOKEN)[:-9], "x" * 40, "ezgraph-token-1.e30="):
        with pytest.raises(ConfigError, match="no whole resume token"):
            ResumeToken.parse(text)


def test_a_shutdown_is_not_repeated_to_the_broker_that_comes_after() -> None:
    client = Client().joined()
    number = client.core.submit(Shutdown(), now=0.0, deadline=10.0)
    change = client.core.submit(Connect("a", "b"), now=0.0, deadline=10.0)
    client.sent()

    client.core.receive(change, UNBOUND, now=1.0)
    client.core.receive(JOIN_ID, welcome(), now=1.1)

    error = client.results()[number]
    assert isinstance(error, DeadlineError)
    assert "was cut after the broker was asked to stop" in str(error)
    assert [type(command) for _, command in client.sent()] == [Resume, Connect]
