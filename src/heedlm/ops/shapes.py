"""Names for tensor shapes: `Float[Tensor, "B T"]` is a float tensor of B rows and T columns.

The legend: B batch, T time, V vocabulary, D width, K answers per prompt.

jaxtyping gives these annotations their meaning, and only tests need that: they load jaxtyping first and
then check every call (see `tests/conftest.py`). Without it, and for mypy, the names are `Annotated`, so that
an annotation is the plain tensor type with a note, Heed runs without jaxtyping, and users pay nothing. The
names must exist at run time (not only under TYPE_CHECKING), or the checker could not resolve the annotations.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

if TYPE_CHECKING:
    from typing import Annotated as Bool
    from typing import Annotated as Float
    from typing import Annotated as Int
elif sys.modules.get("jaxtyping"):
    from jaxtyping import Bool, Float, Int
else:
    Bool = Float = Int = Annotated

__all__ = ["Bool", "Float", "Int"]
