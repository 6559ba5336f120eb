"""The base model of all tables, bound to the database that is opened at the start."""

from peewee import DatabaseProxy, Model

database = DatabaseProxy()


class Table(Model):
    """A peewee model of the store."""

    class Meta:
        """Peewee options: the database of every table."""

        database = database
        legacy_table_names = False
