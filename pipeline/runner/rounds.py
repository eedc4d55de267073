"""Which units are tried again: a run ends when each unit was made, or has taken its workers down too often.

Ray tries a unit three times by itself and then drops it (or ends the dataset, when it has dropped too many). What was
dropped goes into a further round, after everything else, as long as rounds get somewhere: a flaky node costs a night's
run some minutes, and one video that kills every worker is named at the end, when all others are done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from pipeline.graph import Unit
from schemas.news import Began, News, Progress

RETRIES = 2  # of Ray's own: for workers that are lost to their node
ATTEMPTS = 1 + RETRIES
ROUNDS_PER_UNIT = 2  # of so many attempts each, in which a unit was lost while the others went on
NAMED = 10


class Rounds:
    """What is left to do, and what is known of those that were lost. A round that broke off and made fewer units than
    `lost_at_once`, which is about what it lost, is the last: something is wrong with more than a few videos."""

    def __init__(self, units: Sequence[Unit], *, lost_at_once: int = 0) -> None:
        self._lost_at_once = lost_at_once
        self._left = {unit.index: unit for unit in units}
        self._losses: Counter[int] = Counter()  # unit -> rounds in which its workers died
        self._last_began: dict[int, str] = {}  # unit -> the product in which it was last taken up
        self._attempts: Counter[tuple[int, str]] = Counter()  # at a unit of a product, in this round, that did not end
        self._given_up: list[int] = []
        self._reason = ""  # of the last round that broke off
        self._is_first = True
        self.bundles = True  # whether units may go together in this round: in the first, where none is suspected
        self._num_before = 0

    def next(self) -> list[Unit]:
        """The units of the next round, in the order of the first; those that were lost before come last. None where
        nothing is left, or the last round got nowhere."""
        if not self._is_first:
            self._close()
        self.bundles = self._is_first
        self._is_first, self._attempts, self._num_before = False, Counter(), len(self._left)
        return sorted(self._left.values(), key=lambda unit: self._losses[unit.index])  # stable

    def _close(self) -> None:
        """Count the losses of the round that ended."""
        num_made = self._num_before - len(self._left)
        # fewer units than it takes to break a round off: something else did, and any progress is some
        lost_at_once = self._lost_at_once if self._num_before > self._lost_at_once else 1
        got_nowhere = num_made < (max(1, lost_at_once) if self._reason else 1)
        # of a round that broke off most were never tried, or were under way when it did
        attempts_now = dict(self._attempts)  # at once: news of workers that are dying comes in another thread
        beyond_help = {unit for (unit, _), attempts in attempts_now.items() if attempts >= ATTEMPTS}
        under_way = {unit for unit, _ in attempts_now}
        for unit in self._left:
            # one that was only in a bundle with the culprit goes alone next time
            was_tried = not self._reason and (unit in under_way or not self.bundles)
            if was_tried or unit in beyond_help:
                self._losses[unit] += 1
        lost = [unit for unit in self._left if got_nowhere or self._losses[unit] >= ROUNDS_PER_UNIT]
        self._given_up += lost
        for unit in lost:
            del self._left[unit]
        if not got_nowhere:
            self._reason = ""

    def ended(self, unit: int) -> None:
        """A unit came out at the end of the chain, made or with an error of its own."""
        self._left.pop(unit, None)

    def broke_off(self, reason: str) -> None:
        """The round ended before all units were tried."""
        self._reason = reason

    def listening(self, listener: Callable[[News], None]) -> Callable[[News], None]:
        """The same listener; what begins is noted on the way."""

        def listen(news: News) -> None:
            if isinstance(news, Began):
                self._attempts[news.unit, news.product] += 1
                self._last_began[news.unit] = news.product
            elif isinstance(news, Progress):
                self._attempts.pop((news.unit, news.product), None)
            listener(news)

        return listen

    def given_up(self) -> list[tuple[int, str]]:
        """(unit, sentence) for each that no round could make; one sentence for all where none of them was at fault."""
        culprits = [unit for unit in self._given_up if self._losses[unit]]
        found = []
        for unit in culprits[:NAMED]:
            where = f"{self._last_began[unit]} unit" if unit in self._last_began else "unit"
            found.append((unit, f"{where} {unit:06d}: its worker died every time it was tried{self._because()}"))
        others = len(self._given_up) - len(found)
        if others:
            found.append((-1, f"{others} more units were not made: workers died again and again{self._because()}"))
        return found

    def _because(self) -> str:
        return f" ({self._reason})" if self._reason else ""
