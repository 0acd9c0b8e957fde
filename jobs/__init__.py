"""What runs later, or elsewhere: a job is a row that is committed with the change it belongs to.

PgQueuer is the engine, and only this room knows it. What jobs there are is not known here, and
deletions are none: their rows are in `files`.
"""

from jobs.performer import Handlers
from jobs.repository import count_late, enqueue
from jobs.worker import Worker

__all__ = ["Handlers", "Worker", "count_late", "enqueue"]
