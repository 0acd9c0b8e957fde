"""The doctor: steps that try a bucket as the service uses it, with the cause and the cure of each.

Nothing of the service imports this room. What a bucket must be is said in `buckets/`.
"""
