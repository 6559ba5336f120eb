"""The store: peewee tables, the writer that the engine commits through, and the queries that the API reads by."""
