"""HTTP around the routes: middleware, problems, bounded bodies, forms, admission."""
