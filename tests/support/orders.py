"""Orders to a stand-in: what is to happen, once, to the nth of something from now on."""

import dataclasses
import threading
from collections.abc import Callable


@dataclasses.dataclass(eq=False)
class Order:
    """What is to happen to the nth of what it is about; `then` is called in the midst of it."""

    about: str
    fault: str
    nth: int = 1
    then: Callable[[], object] | None = None
    seconds: float = 0.0
    done: threading.Event = dataclasses.field(default_factory=threading.Event)


def take_due(orders: list[Order], is_about_this: Callable[[str], bool]) -> Order | None:
    """Count one more for each order about this; take out the first that has counted to its end."""
    due = None
    for order in [order for order in orders if is_about_this(order.about)]:
        if order.nth > 1:
            order.nth -= 1
        elif due is None:
            due = order
            orders.remove(order)
    return due
