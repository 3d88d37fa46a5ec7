"""The index of open items lies in the order in which they are handed out: high priority first."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the index anew."""
    op.drop_index("ix_items_next", table_name="items")
    op.create_index("ix_items_next", "items", ["project", "purpose", "taken", sa.text("priority DESC"), "place"])


def downgrade() -> None:
    """The index as it was."""
    op.drop_index("ix_items_next", table_name="items")
    op.create_index("ix_items_next", "items", ["project", "purpose", "taken", "priority", "place"])
