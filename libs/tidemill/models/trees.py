"""The one place that imports xgboost.

The package looks for scikit-learn and pandas when it is imported, and loads them where they are installed: two seconds and
100 MB for wrappers that Tidemill does not use (its own Booster and DMatrix take numpy). `None` in sys.modules is Python's own
way to say that a module is not to be found, so xgboost takes the path it has for machines without them. Whoever imports them
before or afterwards gets them as ever.
"""

from __future__ import annotations

import sys

_UNUSED = [name for name in ("pandas", "sklearn") if name not in sys.modules]

sys.modules.update(dict.fromkeys(_UNUSED))  # type: ignore[arg-type]
try:
    from xgboost import Booster, DMatrix, train
finally:
    for _name in _UNUSED:
        del sys.modules[_name]

__all__ = ["Booster", "DMatrix", "train"]
