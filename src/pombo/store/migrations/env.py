"""Alembic's entry: runs the plain-SQL revisions on the connection that `pombo.store.schema` hands over."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table="schema_version", version_table_schema="pombo")
with context.begin_transaction():
    context.run_migrations()
