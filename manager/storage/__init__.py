"""The store: tables, migrations, the engine's writer, the API's queries, and SQL files for each database system."""
