"""HTTP around the routes: connections, middleware, problems, bounded bodies, forms, admission.

What a route does is not known here, nor the database, nor a store.
"""
