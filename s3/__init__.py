"""How an operator names a bucket: what pages of providers give to copy, read into one form.

Nothing here asks anybody, knows boto3, or puts a part of a secret into a sentence.
"""

from s3.place import read_place
from s3.values import Names, Place

__all__ = ["Names", "Place", "read_place"]
