"""HTTP around the routes: middleware, problems, bounded bodies, forms, admission.

What a route does is not known here, nor the database, nor a store.
"""
