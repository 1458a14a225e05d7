"""How it is served: a FastAPI application with REST routes, limits as middleware, and the page mounted at `/`."""
