import errno

from pipeline.runner.news import pass_on


def test_a_listener_that_can_not_show_some_of_it_hears_the_rest() -> None:
    heard: list[str] = []

    def listen(news: str) -> None:
        if news == "b":
            raise OSError(errno.ENOSPC, "the log's disk is full")
        heard.append(news)

    pass_on(["a", "b", "c"], listen)
    assert heard == ["a", "c"]
