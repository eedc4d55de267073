"""The cards of products, made on the machines that do the work."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import ray

from pipeline import receipts
from pipeline.graph import Product
from pipeline.runner.requests import Request
from pipeline.stages import card_of
from pipeline.store import Store
from schemas.errors import ReelmillError


def _make_card(product: Product, store: Store, upstream: Sequence[ReelmillError | None]) -> ReelmillError | None:
    """`upstream`: what became of the cards that this one reads; where one of them is missing, nothing is made."""
    if any(upstream):
        return None
    try:
        receipts.write_card(store, card_of(product, store))
    except ReelmillError as error:
        return type(error)(f"{product.path}: {error}")
    return None


# A CPU each, so that none lands on a head without any.
@ray.remote(num_cpus=1, max_retries=2)
def _card_task(product: Product, store: Store, *upstream: ReelmillError | None) -> ReelmillError | None:
    return _make_card(product, store, upstream)


# max_calls: the process that loaded a model, or may hold a GPU, goes away after it. Any other makes units next.
@ray.remote(num_cpus=1, max_calls=1, max_retries=2)
def _model_card_task(product: Product, store: Store, *upstream: ReelmillError | None) -> ReelmillError | None:
    return _make_card(product, store, upstream)


class Cards:
    """Those of a run, under way from now on. A card that stands for the same fingerprint is kept.

    A card says which precision or backend the workers use, so it is made where they will be. Those that do not read one
    another are made at the same time. No unit of a product is made before its card stands.
    """

    def __init__(self, asked: Sequence[tuple[Product, Request]], store: Store) -> None:
        self._under_way: dict[str, ray.ObjectRef] = {}
        for product, request in asked:  # upstream first
            if receipts.card_stands(store, product):
                continue
            place = {"num_gpus": request.num_gpus, "label_selector": dict(request.labels) or None}
            task = _model_card_task if product.kind == "features" or request.num_gpus else _card_task
            # Ray starts a task when all that it is given is there
            upstream = [self._under_way[path] for path in product.upstream if path in self._under_way]
            self._under_way[product.path] = task.options(**place).remote(product, store, *upstream)

    def wait(self, paths: Collection[str]) -> None:
        """Until those of some products stand. Raises ReelmillError for the first that can't be made."""
        for path in [path for path in self._under_way if path in paths]:
            try:
                problem = ray.get(self._under_way[path])
            except ray.exceptions.RayError as error:
                raise ReelmillError(
                    f"{path}: its card can't be made ({last_line(error)}); run the same command again, and where "
                    "that does not help, see what memory and libraries its nodes have"
                ) from None
            if problem is not None:
                raise problem

    def are_decided(self) -> bool:
        """Whether each stands, or can't be made."""
        cards = list(self._under_way.values())
        return not cards or len(ray.wait(cards, num_returns=len(cards), timeout=0)[0]) == len(cards)


def last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
