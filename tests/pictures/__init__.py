"""The slow tests of the image step: every class of picture, judged by its pixels."""
