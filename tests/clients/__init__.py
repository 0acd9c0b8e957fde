"""Typed clients, made of the API's document by the generators that people use, and used."""
