"""Words of the annotate pages."""

ZH: dict[str, str] = {}
