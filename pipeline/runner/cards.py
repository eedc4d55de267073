"""The cards of products, made on the machines that do the work."""

from __future__ import annotations

from collections.abc import Sequence

import ray

from pipeline import receipts
from pipeline.graph import Product
from pipeline.stages import card_of
from pipeline.store import Store
from schemas.errors import ReelmillError


@ray.remote(num_cpus=0, max_calls=1, max_retries=2)  # max_calls: the process that loaded a model goes away after it
def _card_task(product: Product, store: Store) -> ReelmillError | None:
    try:
        receipts.write_card(store, card_of(product, store))
    except ReelmillError as error:
        return type(error)(f"{product.path}: {error}")
    return None


def write_cards(products: Sequence[Product], store: Store) -> None:
    """Write the cards before any unit. A card that stands for the same fingerprint is kept."""
    has_gpu = ray.cluster_resources().get("GPU", 0) >= 1
    for product in products:  # in order: the cards of features and flow read that of their clips
        if receipts.card_stands(store, product):
            continue
        # the card says which precision or backend the actors use, so it is made on such a machine
        num_gpus = 1 if has_gpu and product.kind in ("features", "flow") else 0
        try:
            problem = ray.get(_card_task.options(num_gpus=num_gpus).remote(product, store))
        except ray.exceptions.RayError as error:
            raise ReelmillError(f"{product.path}: its card can't be made: {last_line(error)}") from None
        if problem is not None:
            raise problem


def last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
