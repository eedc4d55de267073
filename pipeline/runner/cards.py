"""The cards of products, made on the machines that do the work."""

from __future__ import annotations

from collections.abc import Sequence

import ray

from pipeline import receipts
from pipeline.graph import Product
from pipeline.runner.requests import Request
from pipeline.stages import card_of
from pipeline.store import Store
from schemas.errors import ReelmillError


# max_calls: the process that loaded a model goes away after it. A CPU each, so that none lands on a head without any.
@ray.remote(num_cpus=1, max_calls=1, max_retries=2)
def _card_task(product: Product, store: Store) -> ReelmillError | None:
    try:
        receipts.write_card(store, card_of(product, store))
    except ReelmillError as error:
        return type(error)(f"{product.path}: {error}")
    return None


def write_cards(asked: Sequence[tuple[Product, Request]], store: Store) -> None:
    """Write the cards before any unit. A card that stands for the same fingerprint is kept.

    A card says which precision or backend the workers use, so it is made where they will be.
    """
    for product, request in asked:  # in order: the cards of features and flow read that of their clips
        if receipts.card_stands(store, product):
            continue
        place = {"num_gpus": request.num_gpus, "label_selector": dict(request.labels) or None}
        try:
            problem = ray.get(_card_task.options(**place).remote(product, store))
        except ray.exceptions.RayError as error:
            raise ReelmillError(
                f"{product.path}: its card can't be made ({last_line(error)}); run the same command again, and where "
                "that does not help, see what memory and libraries its nodes have"
            ) from None
        if problem is not None:
            raise problem


def last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
