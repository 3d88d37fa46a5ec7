"""Run by Alembic on the connection that `Database` hands it."""

from alembic import context

from heedlm.feedback.tables import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, transaction_per_migration=False
)
context.run_migrations()
