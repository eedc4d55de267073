"""What is said of machines, each once, and what of it reaches the run's own ears."""

from pipeline.runner.troubles import Troubles
from schemas.news import Began, LeftOut, Progress, StorageWait
from schemas.work import UnitWork

AWAY, BACK = "s3://b/x: storage does not answer", "s3://b/x: storage answers again"


def made(node: str, unit: int = 1) -> Progress:
    work = UnitWork("clips/a", unit, node, pid=1, wall_s=1.0, busy_s=1.0, reading_s=0.0, writing_s=0.0)
    return Progress("clips/a", unit, 1, 0, work)


def test_an_outage_that_all_workers_see_is_said_once_and_so_is_its_end() -> None:
    said, heard = [], []
    listen = Troubles(said.append).listening(heard.append)
    for node in ("n1", "n2", "n1"):
        listen(StorageWait(node, AWAY, is_away=True))
    assert said == [f"{AWAY} (said by a worker on node n1)"]
    listen(Began("clips/a", 2, "n1"))
    for node in ("n2", "n1"):
        listen(StorageWait(node, BACK, is_away=False))
    assert said[1:] == [f"{BACK} (said by a worker on node n2)"]
    listen(StorageWait("n2", AWAY, is_away=True))
    assert len(said) == 3
    assert heard == [Began("clips/a", 2, "n1")]


def test_who_waited_and_died_does_not_keep_the_next_outage_from_being_said() -> None:
    said, heard = [], []
    listen = Troubles(said.append).listening(heard.append)
    listen(StorageWait("n1", AWAY, is_away=True))
    listen(made("n2"))  # of another node, which the outage may not reach
    assert len(said) == 1
    listen(made("n1"))
    assert said[1:] == ["storage answers again: clips/a goes on (said by a worker on node n1)"]
    listen(made("n1", 2))
    listen(StorageWait("n1", AWAY, is_away=True))
    assert len(said) == 3
    assert [news.unit for news in heard] == [1, 1, 2]


def test_the_drivers_own_wait_has_no_node() -> None:
    said: list[str] = []
    Troubles(said.append).storage(StorageWait("", AWAY, is_away=True))
    assert said == [AWAY]


def test_a_node_without_weights_is_named_once_a_product() -> None:
    said: list[str] = []
    listen = Troubles(said.append).listening(lambda news: None)
    for product in ("features/c", "features/d", "features/c"):
        listen(LeftOut(product, "10.0.0.7", "/w/c3d.pickle: can't read this file (No such file or directory)"))
    assert len(said) == 2
    assert said[0] == (
        "node 10.0.0.7 makes nothing of features/c until it has its weights: /w/c3d.pickle: can't read this file "
        "(No such file or directory); other nodes go on, and when they are there this one takes part"
    )
