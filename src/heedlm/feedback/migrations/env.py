"""Run by Alembic on the connection that `Database` hands it."""

from alembic import context

from heedlm.feedback.tables import metadata

# Alembic sets `config` while it runs this file; who imports it for another reason finds nothing to do.
if hasattr(context, "config"):
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata,
        transaction_per_migration=False,
    )
    context.run_migrations()
