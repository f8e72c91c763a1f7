"""The schedule: reproducible, every kind in turn, nothing overlaps that must not."""

from __future__ import annotations

from itertools import combinations

import pytest

from ezgraph.chaos.rig import TTL_S
from ezgraph.chaos.schedule import BROKER_KINDS, CABLE_KINDS, LAST_S, Kind, Plan, schedule

SEEDS = range(40)


def plan_of(seed: int, *, for_s: float = 30.0, cabled: tuple[int, ...] = (0, 2, 4)) -> list[Plan]:
    return schedule(
        seed=seed, for_s=for_s, clients=20, cabled=cabled, kinds=list(Kind), ttl_s=TTL_S
    )


def test_the_same_seed_gives_the_same_schedule_and_another_one_another() -> None:
    assert plan_of(7) == plan_of(7)
    assert plan_of(7) != plan_of(8)


@pytest.mark.parametrize("seed", SEEDS)
def test_half_a_minute_has_room_for_every_kind_of_fault(seed: int) -> None:
    plans = plan_of(seed, cabled=tuple(range(0, 20, 2)))

    assert {plan.kind for plan in plans} == set(Kind)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_fault_of_the_broker_or_of_one_client_overlaps_another(seed: int) -> None:
    plans = plan_of(seed)

    for one, other in combinations(plans, 2):
        same = one.client == other.client
        assert not same or one.until_s < other.at_s or other.until_s < one.at_s


@pytest.mark.parametrize("seed", SEEDS)
def test_each_fault_is_over_before_the_end_and_befalls_whom_it_can(seed: int) -> None:
    plans = plan_of(seed)

    assert [plan.at_s for plan in plans] == sorted(plan.at_s for plan in plans)
    for plan in plans:
        assert 2.0 <= plan.at_s <= plan.until_s <= 30.0 - LAST_S
        assert (plan.client is None) == (plan.kind in BROKER_KINDS)
        assert plan.kind not in CABLE_KINDS or plan.client in (0, 2, 4)


def test_without_cables_nothing_happens_to_cables() -> None:
    plans = plan_of(1, cabled=())

    assert plans
    assert not {plan.kind for plan in plans} & CABLE_KINDS


def test_a_longer_run_has_more_of_it() -> None:
    assert len(plan_of(3, for_s=120.0)) > 2 * len(plan_of(3))


def test_clients_stopped_for_longer_are_stopped_for_longer_than_their_ttl() -> None:
    for seed in SEEDS:
        for plan in plan_of(seed):
            if plan.kind in (Kind.STOP_CLIENT_LONGER, Kind.PULL_LONGER):
                assert plan.for_s > TTL_S
            if plan.kind in (Kind.STOP_CLIENT, Kind.PULL):
                assert plan.for_s < TTL_S


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lease_that_is_to_end_is_not_saved_by_a_restart_of_the_broker(seed: int) -> None:
    plans = plan_of(seed)
    ending = [p for p in plans if p.kind in (Kind.STOP_CLIENT_LONGER, Kind.PULL_LONGER)]

    for one in ending:
        for other in plans:
            if other.client is None:
                assert one.until_s <= other.at_s or other.until_s <= one.at_s
