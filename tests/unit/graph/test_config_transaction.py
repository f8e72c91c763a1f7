"""Transactions of the configuration as clients collect them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ezgraph.errors import ContextClosedError
from ezgraph.graph.configuration.blocking import BlockingConfigTransaction
from ezgraph.graph.configuration.transaction import ConfigTransaction
from ezgraph.protocol.replies import ConfigChanged

if TYPE_CHECKING:
    from ezgraph.protocol.commands import ChangeConfig


def test_a_transaction_is_sent_once_and_not_again_with_another_block() -> None:
    sent: list[ChangeConfig] = []

    async def send(command: ChangeConfig) -> ConfigChanged:
        sent.append(command)
        return ConfigChanged(1, 1, 0)

    async def use_twice() -> None:
        txn = ConfigTransaction(send, None)
        async with txn:
            txn.put("flow", "a", 1)
        with pytest.raises(ContextClosedError, match="used already"):
            await txn.__aenter__()

    asyncio.run(use_twice())
    assert len(sent) == 1


def test_a_blocking_one_neither_also_if_an_exception_ended_its_block() -> None:
    sent: list[ChangeConfig] = []

    def send(command: ChangeConfig) -> ConfigChanged:
        sent.append(command)
        return ConfigChanged(1, 1, 0)

    txn = BlockingConfigTransaction(send, None)
    txn.put("flow", "a", 1)
    with pytest.raises(KeyError), txn:
        raise KeyError
    with pytest.raises(ContextClosedError, match="used already"):
        txn.__enter__()
    assert not sent
