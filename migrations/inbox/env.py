"""Alembic's entry: runs the migrations on the connection, and in the transaction, that `migrations.chain` gives."""

from alembic import context

given = context.config.attributes
context.configure(connection=given["connection"], version_table=given["version_table"])
with context.begin_transaction():
    context.run_migrations()
