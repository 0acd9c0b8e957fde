"""Tests of the stores: the contract, its async face, the local disk, S3."""
