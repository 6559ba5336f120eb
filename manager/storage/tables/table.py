"""What all tables are: peewee models of the one database that is opened at the start."""

from peewee import DatabaseProxy, Model

database = DatabaseProxy()


class Table(Model):
    """Binds every table to the database that is opened at the start."""

    class Meta:
        """One database for all."""

        database = database
        legacy_table_names = False
