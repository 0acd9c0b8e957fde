"""What a bucket of Darkroom must be: planned once, printed to be pasted, or applied.

Nothing of the service imports this room; the doctor takes its cures from it.
"""

from buckets.plan import BucketPlan, plan_bucket

__all__ = ["BucketPlan", "plan_bucket"]
