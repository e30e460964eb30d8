"""The receiving side: stores, analytics and the server."""
