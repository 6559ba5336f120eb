"""The PostgreSQL back end of the store: connection, migrations, partitions; imported only with `--database`."""
