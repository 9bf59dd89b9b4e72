"""Waiting for what comes up later: bounded, visible, and over when somebody says so."""

from __future__ import annotations

import pytest

from dataflow.errors import Rejected, Retryable
from dataflow.patience import LONGEST, Patience
from dataflow.settings import Settings


class Away:
    """Answers at the `n`th time; remembers the pauses before."""

    def __init__(self, n: int) -> None:
        self.left = n
        self.pauses: list[float] = []

    async def ask(self) -> str:
        self.left -= 1
        if self.left > 0:
            raise Retryable("nobody answers")
        return "here"

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


async def test_it_is_asked_again_with_growing_pauses_and_says_so_once() -> None:
    away, told = Away(8), list[str]()
    assert await Patience(300, told.append, away.pause).until("Temporal", away.ask) == "here"
    assert away.pauses == [0.5, 1, 2, 4, LONGEST, LONGEST, LONGEST]
    assert told == ["waiting for Temporal, 300 s at most: nobody answers", "Temporal is there"]


async def test_what_is_there_is_not_worth_a_word() -> None:
    told = list[str]()
    assert await Patience(300, told.append).until("Temporal", Away(1).ask) == "here"
    assert not told


async def test_patience_ends() -> None:
    away = Away(100)
    with pytest.raises(Retryable, match="nobody answers"):
        await Patience(0.2).until("Temporal", away.ask)
    assert away.left == 99
    with pytest.raises(Retryable):
        await Patience(300, pause=away.pause, over=lambda: len(away.pauses) == 3).until("Temporal", away.ask)
    assert len(away.pauses) == 3


async def test_another_error_is_not_waited_for() -> None:
    async def ask() -> None:
        raise Rejected("no such namespace")

    with pytest.raises(Rejected):
        await Patience(300).until("Temporal", ask)


def test_a_shared_journal_with_an_inbox_of_one_machine_is_advised_against() -> None:
    assert not Settings.load().advice
    assert not Settings.load(journal_url="postgresql://db/x").advice, "the inbox is in the same database"
    assert not Settings.load(journal_url="cassandra://c/x", inbox_url="postgresql://db/x").advice
    [advice] = Settings.load(journal_url="cassandra://c/x").advice
    assert "inbox_url" in advice and "PostgreSQL" in advice
    assert Settings.load(journal_url="postgresql://db/x", inbox_url="sqlite:///here.db").advice
