"""Words of the manage pages."""

ZH: dict[str, str] = {}
