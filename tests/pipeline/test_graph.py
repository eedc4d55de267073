import pytest

from pipeline.graph import Plan, Product, Unit, make_plan
from schemas.config import Config

UNITS = [Unit(0, 0, 4, "a"), Unit(1, 4, 2, "b")]


def config(**changes) -> Config:
    document = {
        "dataset": "out",
        "source": {"kind": "directory", "videos": "/v"},
        "clips": {"rgb16": {"frames": 16, "fps": 5}, "other": {"frames": 8, "fps": 8}},
        "flow": {"tvl1": {"clips": "rgb16"}},
        "features": {"c3d": {"from": "clips/rgb16", "model": "c3d", "weights": "w.pickle"}},
        "heads": {"actions": {"kind": "lstm", "features": ["c3d"]}},
    }
    for path, value in changes.items():
        section = document
        *folders, key = path.split("__")
        for folder in folders:
            section = section[folder]
        section[key] = value
    return Config.model_validate(document)


def plan(changed: Config | None = None, *, version=1, sha="sha") -> Plan:
    return make_plan(changed or config(), UNITS, code_version=lambda kind: version, sha256=lambda name, features: sha)


def changed_products(other: Plan) -> set[str]:
    return {a.path for a, b in zip(plan().products, other.products, strict=True) if a.fingerprint != b.fingerprint}


def test_order_and_upstream() -> None:
    made = plan()
    assert [product.path for product in made.products] == [
        "clips/rgb16",
        "clips/other",
        "features/c3d",
        "flow/tvl1",
        "heads/actions",
    ]
    assert made.product("flow/tvl1").upstream == {"clips/rgb16": made.product("clips/rgb16").fingerprint}
    assert made.product("features/c3d").upstream == {"clips/rgb16": made.product("clips/rgb16").fingerprint}
    assert made.product("heads/actions").upstream == {"features/c3d": made.product("features/c3d").fingerprint}


def test_features_of_flow_come_after_it() -> None:
    of_flow = {"from": "flow/tvl1", "model": "i3d_flow", "weights": "w.pt"}
    of_clips = {"from": "clips/rgb16", "model": "c3d", "weights": "w.pickle"}
    features = {"i3d_flow": of_flow, "c3d": of_clips}
    made = plan(config(features=features, heads__actions__features=["c3d", "i3d_flow"]))
    assert [product.path for product in made.products] == [
        "clips/rgb16",
        "clips/other",
        "features/c3d",
        "flow/tvl1",
        "features/i3d_flow",
        "heads/actions",
    ]
    assert made.product("features/i3d_flow").upstream == {"flow/tvl1": made.product("flow/tvl1").fingerprint}
    bound = plan(config(features=features, heads__actions__features=["c3d", "i3d_flow"], flow__tvl1__bound=15))
    assert bound.product("features/i3d_flow").fingerprint != made.product("features/i3d_flow").fingerprint
    assert bound.product("features/c3d").fingerprint == made.product("features/c3d").fingerprint


@pytest.mark.parametrize(
    ("other", "stale"),
    [
        (lambda: plan(), set()),
        (lambda: plan(config(dataset="elsewhere")), set()),
        (lambda: plan(config(limits={"stall_s": 5})), set()),
        (lambda: plan(config(clips__rgb16__fps=6)), {"clips/rgb16", "flow/tvl1", "features/c3d", "heads/actions"}),
        (lambda: plan(config(clips__other__fps=6)), {"clips/other"}),
        (lambda: plan(config(flow__tvl1__bound=15)), {"flow/tvl1"}),
        (lambda: plan(config(flow__tvl1__params={"lambda": 0.1})), {"flow/tvl1"}),
        (lambda: plan(config(flow__tvl1__backend="opencv")), set()),  # the same bits
        (lambda: plan(config(flow__tvl1__backend="cpu")), set()),
        (lambda: plan(config(flow__tvl1__backend="cuda")), {"flow/tvl1"}),
        (lambda: plan(config(features__c3d__layer="fc7")), {"features/c3d", "heads/actions"}),
        (lambda: plan(config(features__c3d__preprocess="mmaction2")), {"features/c3d", "heads/actions"}),
        (lambda: plan(config(features__c3d__window={"frames": 8, "stride": 4})), {"features/c3d", "heads/actions"}),
        (lambda: plan(config(features__c3d__precision="fp32")), {"features/c3d", "heads/actions"}),
        (lambda: plan(config(features__c3d__weights="moved/w.pickle")), set()),
        (lambda: plan(sha="other weights"), {"features/c3d", "heads/actions"}),
        (lambda: plan(config(heads__actions__hidden=9)), {"heads/actions"}),
        (lambda: plan(version=2), {"clips/rgb16", "clips/other", "flow/tvl1", "features/c3d", "heads/actions"}),
    ],
)
def test_fingerprints_decide_what_is_stale(other, stale) -> None:
    assert changed_products(other()) == stale


def test_a_head_has_one_unit_over_everything() -> None:
    made = plan()
    (whole,) = made.units_of(made.product("heads/actions"))
    assert (whole.index, whole.start_row, whole.num_rows) == (0, 0, 6)
    assert made.units_of(made.product("clips/rgb16")) == tuple(UNITS)
    fewer = make_plan(config(), UNITS[:1], code_version=lambda kind: 1, sha256=lambda name, features: "sha")
    assert fewer.whole.rows_sha256 != whole.rows_sha256


def test_unit_fingerprint_depends_on_product_and_rows() -> None:
    product = Product("clips", "a", {}, {}, 1)
    assert product.unit_fingerprint(UNITS[0]) != product.unit_fingerprint(UNITS[1])
