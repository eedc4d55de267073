from pipeline.say import say


def test_on_stderr_whole_and_without_secrets(capsys) -> None:
    say("a sentence " * 40 + "[of] https://user:hunter2@host/path")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("a sentence " * 40 + "[of] ")
    assert err.count("\n") == 1
    assert "hunter2" not in err
