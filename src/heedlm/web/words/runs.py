"""Words of the runs pages."""

ZH: dict[str, str] = {}
