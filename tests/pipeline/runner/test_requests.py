import pytest

from pipeline.graph import Product
from pipeline.runner.requests import CPU, GPU, ROLE_LABEL, Facts, Node, Request, check, in_chain_order, request_of
from schemas.errors import UsageError
from schemas.pools import Pools

LAPTOP = Facts((Node(8, 0),))
GPU_BOX = Facts((Node(16, 2),))
LABELLED = Facts(
    (
        Node(0, 0, {ROLE_LABEL: "head"}),
        Node(16, 0, {ROLE_LABEL: "cpu"}),
        Node(8, 4, {ROLE_LABEL: "gpu"}),
    )
)
CLIPS, FLOW, C3D, I3D = (
    Product(kind, name, {}, {}, 1)  # type: ignore[arg-type]
    for kind, name in (("clips", "a"), ("flow", "f"), ("features", "c3d"), ("features", "i3d"))
)


def ask(product: Product, facts: Facts, *beside: Product, uses_gpu: bool | None = None, **pools) -> Request:
    uses = product.kind == "features" if uses_gpu is None else uses_gpu
    others = [(other, other.kind == "features") for other in (product, *beside)]
    return request_of(product, uses_gpu=uses, pools=Pools.model_validate(pools), facts=facts, beside=others)


def test_decoding_takes_a_core_each_and_as_many_as_there_are() -> None:
    assert ask(CLIPS, LAPTOP) == ask(FLOW, GPU_BOX) == Request(1, 0, {}, None, holds=False)


def test_a_model_takes_a_gpu_each_or_a_node_where_there_is_none() -> None:
    assert ask(C3D, GPU_BOX) == Request(0, 1, {}, 2, holds=True)
    assert ask(C3D, LAPTOP) == Request(0, 0, {}, 1, holds=True)

    with_head = Facts((Node(0, 0, name="head"), Node(4, 0, name="a"), Node(4, 0, name="b")))
    assert ask(C3D, with_head) == Request(0, 0, {}, 2, holds=True, shuns=("head",))
    assert [ask(C3D, with_head).fits(node) for node in with_head.nodes] == [False, True, True]


def test_products_that_want_a_gpu_share_each() -> None:
    assert ask(C3D, GPU_BOX, I3D) == Request(0, 0.5, {}, 2, holds=True)
    three = [Product("features", name, {}, {}, 1) for name in "abc"]
    share = ask(three[0], GPU_BOX, *three[1:]).num_gpus
    assert 3 * share <= 1 < 3 * share + 0.001


def test_labels_are_asked_for_only_where_some_node_carries_them() -> None:
    assert ask(CLIPS, LABELLED).labels == {ROLE_LABEL: CPU}
    assert (ask(C3D, LABELLED).labels, ask(C3D, LABELLED).workers) == ({ROLE_LABEL: GPU}, 4)
    assert ask(C3D, Facts((Node(4, 1), Node(4, 0, {ROLE_LABEL: "cpu"})))).labels == {}
    assert ask(CLIPS, Facts((Node(4, 0),), possible=(Node(8, 0, {ROLE_LABEL: "cpu"}),))).labels == {ROLE_LABEL: CPU}


@pytest.mark.parametrize(
    ("facts", "order"),
    [(LAPTOP, ["clips/a", "flow/f", "features/c3d"]), (GPU_BOX, ["clips/a", "features/c3d", "flow/f"])],
    ids=["no GPU", "GPUs"],
)
def test_models_come_last_where_they_share_the_cores_and_early_where_they_have_gpus(facts, order) -> None:
    asked = [(product, ask(product, facts)) for product in (CLIPS, C3D, FLOW)]
    assert [product.path for product, _ in in_chain_order(asked)] == order


def test_pools_say_how_many_and_what_each_takes() -> None:
    assert ask(FLOW, LAPTOP, flow={"workers": 3, "cpus": 2}) == Request(2, 0, {}, 3, holds=False)
    assert ask(C3D, GPU_BOX, features={"workers": 4, "gpus": 0.5, "cpus": 1}) == Request(1, 0.5, {}, 4, holds=True)
    assert ask(C3D, LAPTOP, features={"workers": 2, "gpus": 1}) == Request(0, 1, {}, 2, holds=True)  # waits for them
    assert ask(C3D, GPU_BOX, features={"gpus": 0}) == Request(0, 0, {}, 1, holds=True)  # the CPUs, though there is one
    assert ask(C3D, Facts((Node(8, 4), Node(8, 3))), features={"gpus": 2}).workers == 3


def test_a_pool_is_shared_by_the_products_of_its_kind() -> None:
    both = {"workers": 4, "gpus": 1}
    assert ask(C3D, GPU_BOX, I3D, features=both) == Request(0, 1, {}, 2, holds=True)
    assert ask(C3D, GPU_BOX, I3D, features={"workers": 1, "gpus": 1}) == Request(0, 0.5, {}, 1, holds=True)


def test_what_no_node_can_have_is_a_sentence() -> None:
    greedy = ask(C3D, GPU_BOX, features={"gpus": 4})
    with pytest.raises(UsageError, match=r"features/c3d asks for a node with 4 GPUs, and this cluster has none"):
        check([(C3D, greedy)], GPU_BOX)
    with pytest.raises(UsageError, match="largest nodes have 16 CPUs"):
        check([(FLOW, ask(FLOW, GPU_BOX, flow={"cpus": 32}))], GPU_BOX)
    assert check([(C3D, ask(C3D, GPU_BOX)), (CLIPS, ask(CLIPS, GPU_BOX))], GPU_BOX) == []


def test_what_an_autoscaler_can_start_is_waited_for() -> None:
    growing = Facts((Node(4, 0, {ROLE_LABEL: "head"}),), possible=(Node(8, 1, {ROLE_LABEL: "gpu"}),))
    (sentence,) = check([(C3D, ask(C3D, growing))], growing)
    assert sentence.startswith("features/c3d waits for a node with 1 GPU, labelled reelmill-role=gpu, which")
    unknown = Facts((Node(4, 0),), may_grow=True)
    assert len(check([(C3D, ask(C3D, unknown, features={"gpus": 8}))], unknown)) == 1


def test_what_is_held_for_the_whole_run_must_fit_at_once() -> None:
    both = {"workers": 4, "gpus": 1}
    requests = [
        (product, ask(product, GPU_BOX, C3D if product is I3D else I3D, features=both)) for product in (C3D, I3D)
    ]
    with pytest.raises(UsageError, match="would hold 4 GPUs, and this cluster has 2"):
        check(requests, GPU_BOX)
    assert check(requests, Facts(GPU_BOX.nodes, possible=(Node(8, 1, count=4),))) == []
    greedy = ask(C3D, LAPTOP, features={"workers": 8, "cpus": 1})
    with pytest.raises(UsageError, match="would hold 8 CPUs, and 1 beside them for decoding and flow, and"):
        check([(CLIPS, ask(CLIPS, LAPTOP)), (C3D, greedy)], LAPTOP)
