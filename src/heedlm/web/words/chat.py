"""Words of the chat pages."""

ZH: dict[str, str] = {}
