"""The store: tables, migrations, the engine's writer, the API's queries, and the SQL of each database system."""
