"""The steps that bring a PostgreSQL database to the tables of this version."""
