"""The tests, in rooms by what they need to run; `support` holds what they share."""
