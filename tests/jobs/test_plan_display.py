import pytest

from jobs.plan_display import cluster_words, print_comparison
from pipeline.forecast.compare import Compared, Comparison, Pair
from schemas.forecast import Cluster, Device


def test_a_cluster_in_words() -> None:
    assert cluster_words(Cluster(nodes=1, cores=1)) == "1 node of 1 core"
    assert cluster_words(Cluster(nodes=8, cores=32, gpus=1)) == "8 nodes of 32 cores and 1 GPU"
    two_kinds = Cluster(nodes=8, cores=32, gpus=4, gpu_nodes=2)
    assert cluster_words(two_kinds) == "8 nodes of 32 cores and 2 more with 4 GPUs each"


def compared(path: str, device: Device) -> Compared:
    one = Pair(predicted=1.0, actual=2.0)
    return Compared(path, device, videos=9, worker_s=Pair(7.0, 8.0), cpu_s=one, bytes=one)


def shown(capsys: pytest.CaptureFixture[str], *products: Compared, num_gpus: int) -> str:
    print_comparison(Comparison(products, (), Pair(90.0, 75.0), num_cores=4, num_gpus=num_gpus))
    return capsys.readouterr().out


def test_workers_on_cpus_are_not_judged_by_the_time_that_they_wait_for_each_other(capsys) -> None:
    page = shown(capsys, compared("clips/a", "cpu"), num_gpus=0)
    assert "1.0 s : 2.0 s = 0.50" in page
    assert "7.0 s" not in page
    assert "time on 4 cores, from the first unit to the last: 90 s : 75 s = 1.20" in page


def test_what_a_gpu_was_held_for_is_compared(capsys) -> None:
    clips, features = compared("clips/a", "cpu"), compared("features/c", "gpu")
    page = shown(capsys, clips, features, num_gpus=1)
    assert "GPU-s a video" in page
    assert page.count("7.0 s : 8.0 s = 0.88") == 1
    assert "GPU-s" not in shown(capsys, clips, features, num_gpus=0)  # what was planned on GPUs ran on cores
